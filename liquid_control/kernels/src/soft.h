// Updates of a soft actor-critic: both circuits and the target's forward, the losses, the circuits
// backward, the steps of Adam, and the step of the target.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "adam.h"
#include "critics.h"
#include "learning.h"
#include "parts.h"
#include "squash.h"

namespace liquid {

/// A minibatch: `burn_in` steps for the states alone, `length` that are learned from, one after.
struct SoftBatch {
    std::size_t burn_in, length, batch, state_size;
    std::size_t of_actor, of_critics;     // numbers that each of the circuits sees
    const float *seen, *seen_by_critics;  // (burn_in + length + 1, batch, numbers)
    const float *clock, *elapsed;         // (burn_in + length + 1, batch)
    const std::uint8_t* starts;           // likewise
    const float* state;                   // (batch, state_size), the actor's part first
    const float* actions;                 // (length, batch, actions)
    const float *rewards, *terminated;    // (length, batch)
    const float *mask, *duration;         // (length, batch), (length + 1, batch)
    const float* noise;                   // (length + 1, batch, actions)

    /// `steps` after the first `from`, for the actor or for the critics.
    Sequences steps(bool for_actor, std::size_t from, std::size_t steps, const float* state) const {
        const std::size_t row = from * batch, width = for_actor ? of_actor : of_critics;
        return {steps,
                batch,
                width,
                state_size,
                (for_actor ? seen : seen_by_critics) + row * width,
                clock + row,
                elapsed + row,
                starts + row,
                state};
    }
    std::size_t samples() const { return length * batch; }
};

/// Settings of an update. A frozen target has a share of zero.
struct SoftSettings {
    double gamma, ent_coef, target_entropy, target_share;
    std::size_t threads;
};

/// Parameters that share the settings of Adam.
using AdamGroup = std::pair<std::vector<Trained<float>>, AdamRates>;

/// A tensor of the online critics, and the target's copy.
struct Copied {
    std::size_t size;
    const float* from;
    float* to;
};

/// Soft actor and critics in single precision, and how they learn.
class SoftLearner {
  public:
    SoftLearner(const BodyTuple& actor, const BodyTuple& critic, const BodyTuple& target,
                const NetworkTuple& action, HeadSizes sizes, const std::vector<Address>& heads,
                const std::vector<Address>& gradients, const std::vector<Address>& target_heads,
                std::vector<Copied> copied)
        : actor_(actor),
          critic_(critic),
          target_(target),
          action_(action),
          critics_(std::move(sizes), heads, gradients, target_heads),
          copied_(std::move(copied)) {}

    /// Make an update unless a number is not finite. `figures` are the losses of actor and critics,
    /// the target entropy minus the entropy, and the norms of gradient and weights.
    void learn(const SoftBatch& batch, const SoftSettings& settings,
               const std::vector<AdamGroup>& groups, double* figures) {
        run(batch, settings.threads);
        act(batch, settings);
        find_losses(batch, settings, figures);
        if (!std::isfinite(figures[0] + figures[1])) {
            return;
        }
        backward(batch, settings);
        double gradients = 0, weights = 0;
        for (const auto& [parameters, rates] : groups) {
            gradients += squares(parameters, [](const auto& each) { return each.gradient; });
        }
        figures[3] = std::sqrt(gradients);
        if (!std::isfinite(figures[3])) {
            return;
        }
        for (const auto& [parameters, rates] : groups) {
            for (const Trained<float>& each : parameters) {
                adam_step(each, rates, 1);
            }
            weights += squares(parameters, [](const auto& each) { return each.weight; });
        }
        figures[4] = std::sqrt(weights);
        if (settings.target_share != 0) {
            follow(static_cast<float>(settings.target_share));
        }
    }

  private:
    /// The sum of squares of what `tensor` returns of each parameter.
    template <class Tensor>
    static double squares(const std::vector<Trained<float>>& parameters, Tensor tensor) {
        double sum = 0;
        for (const Trained<float>& each : parameters) {
            sum += sum_of_squares<float>(tensor(each), each.size);
        }
        return sum;
    }

    /// Run the circuits over the sequences, those that learn from a state after the burn-in.
    void run(const SoftBatch& batch, std::size_t threads) {
        const std::size_t burn_in = batch.burn_in, own = actor_.state_size();
        target_.forward(batch.steps(false, 0, burn_in + batch.length + 1, batch.state), own,
                        threads, false);
        const float* state = batch.state;
        if (burn_in > 0) {
            run_both(batch, 0, burn_in, burn_in, state, threads, false);
            state_.resize(batch.batch * batch.state_size);
            for (std::size_t i = 0; i < batch.batch; ++i) {
                float* const to = &state_[i * batch.state_size];
                const std::size_t theirs = critic_.state_size();
                std::copy_n(actor_.final_state() + i * own, own, to);
                std::copy_n(critic_.final_state() + i * theirs, theirs, to + own);
            }
            state = state_.data();
        }
        run_both(batch, burn_in, batch.length + 1, batch.length, state, threads, true);
    }

    /// Run the actor's circuit and the critics' after the first `from` steps.
    void run_both(const SoftBatch& batch, std::size_t from, std::size_t of_actor,
                  std::size_t of_critics, const float* state, std::size_t threads, bool keeps) {
        in_turn_or_at_once(
            batch.batch, threads,
            [&](std::size_t some) {
                actor_.forward(batch.steps(true, from, of_actor, state), 0, some, keeps);
            },
            [&](std::size_t some) {
                const Sequences steps = batch.steps(false, from, of_critics, state);
                critic_.forward(steps, actor_.state_size(), some, keeps);
            });
    }

    /// Sample an action for every step and the one after.
    void act(const SoftBatch& batch, const SoftSettings& settings) {
        const std::size_t samples = batch.samples() + batch.batch, size = critics_.sizes().actions;
        const std::size_t neurons = actor_.neurons(), motor = action_.inputs();
        const float* const activity = actor_.activity() + neurons - motor;
        outputs_ =
            action_.forward(samples, {{activity, motor, neurons, nullptr}}, settings.threads);
        actions_.resize(samples * size), log_prob_.resize(samples);
        in_tiles(samples, settings.threads, [&](std::size_t, std::size_t first, std::size_t count) {
            for (std::size_t i = first; i < first + count; ++i) {
                log_prob_[i] = squashed(batch, i).sample(&actions_[i * size]);
            }
        });
    }

    Squashed squashed(const SoftBatch& batch, std::size_t i) const {
        const std::size_t size = critics_.sizes().actions;
        return {size, outputs_ + i * 2 * size, batch.noise + i * size};
    }

    /// The losses, with the gradients of the critics' heads, of the actions and of the neurons.
    void find_losses(const SoftBatch& batch, const SoftSettings& settings, double* figures) {
        const HeadSizes& sizes = critics_.sizes();
        const std::size_t samples = batch.samples(), next = batch.batch;
        const std::size_t begin = batch.burn_in * batch.batch;
        discounts_.resize(samples), next_entropy_.resize(samples), weights_.resize(samples);
        d_neurons_.resize(samples * sizes.neurons), d_actions_.resize(samples * sizes.actions);
        double steps = 0;
        for (std::size_t i = 0; i < samples; ++i) {
            steps += batch.mask[i];
        }
        const auto gamma = static_cast<float>(settings.gamma);
        const auto ent_coef = static_cast<float>(settings.ent_coef);
        double entropy = 0, deficit = 0;
        for (std::size_t i = 0; i < samples; ++i) {
            const float duration = batch.duration[i];
            weights_[i] = static_cast<float>(batch.mask[i] / steps);
            discounts_[i] = batch.terminated[i] == 0 ? std::pow(gamma, duration) : 0;
            next_entropy_[i] = ent_coef * batch.duration[i + next] * log_prob_[i + next];
            entropy += double(ent_coef) * weights_[i] * duration * log_prob_[i];
            deficit += weights_[i] * duration * (log_prob_[i] + settings.target_entropy);
        }
        const CriticSums sums = critics_.learn(
            samples,
            {critic_.activity(), batch.seen_by_critics + begin * sizes.inputs,
             target_.activity() + (begin + next) * sizes.neurons,
             batch.seen_by_critics + (begin + next) * sizes.inputs, batch.actions, actions_.data(),
             &actions_[next * sizes.actions], batch.rewards, discounts_.data(),
             next_entropy_.data(), weights_.data(), d_neurons_.data(), d_actions_.data()},
            settings.threads);
        figures[0] = entropy - sums.value, figures[1] = sums.loss, figures[2] = deficit;
    }

    /// Write the gradients of the circuits and of the actor's head. The last step has none.
    void backward(const SoftBatch& batch, const SoftSettings& settings) {
        const std::size_t samples = batch.samples(), all = samples + batch.batch;
        const std::size_t size = critics_.sizes().actions;
        d_outputs_.resize(all * 2 * size);
        in_tiles(samples, settings.threads, [&](std::size_t, std::size_t first, std::size_t count) {
            for (std::size_t i = first; i < first + count; ++i) {
                const auto ent_coef = static_cast<float>(settings.ent_coef);
                squashed(batch, i).backward(&actions_[i * size], &d_actions_[i * size],
                                            ent_coef * weights_[i] * batch.duration[i],
                                            &d_outputs_[i * 2 * size]);
            }
        });
        std::fill(d_outputs_.begin() + static_cast<std::ptrdiff_t>(samples * 2 * size),
                  d_outputs_.end(), 0.0f);
        const float* const d_motor = action_.backward(all, d_outputs_.data(), settings.threads, 0);
        const std::size_t first_motor = actor_.neurons() - action_.inputs();
        in_turn_or_at_once(
            batch.batch, settings.threads,
            [&](std::size_t some) { actor_.backward(d_motor, first_motor, some); },
            [&](std::size_t some) { critic_.backward(d_neurons_.data(), 0, some); });
    }

    /// Move the target towards the critics by a share of the way.
    void follow(float share) {
        for (const Copied& each : copied_) {
            for (std::size_t i = 0; i < each.size; ++i) {
                each.to[i] = each.to[i] * (1 - share) + each.from[i] * share;
            }
        }
    }

    TrainedBody actor_, critic_, target_;
    TrainedNetwork action_;
    Critics critics_;
    const std::vector<Copied> copied_;
    const float* outputs_ = nullptr;
    Numbers state_, actions_, log_prob_, discounts_, next_entropy_, weights_;
    Numbers d_neurons_, d_actions_, d_outputs_;
};

/// As Python passes them: number of heads, neurons, inputs, actions and layers; addresses of the
/// parameters, of their gradients, and of the target's.
using HeadsTuple =
    std::tuple<std::size_t, std::size_t, std::size_t, std::size_t, std::vector<std::size_t>,
               std::vector<Address>, std::vector<Address>, std::vector<Address>>;
/// Numbers in a tensor, and addresses of the critics' and of the target's.
using CopiedTuple = std::tuple<std::size_t, Address, Address>;
/// Sizes and tensors as in `trained_at`, and the rates.
using AdamGroupTuple = std::tuple<std::vector<std::size_t>, std::vector<Address>, AdamTuple>;

inline std::unique_ptr<SoftLearner> make_soft_learner(
    const BodyTuple& actor, const BodyTuple& critic, const BodyTuple& target,
    const NetworkTuple& action, const HeadsTuple& heads, const std::vector<CopiedTuple>& copies) {
    const auto& [count, neurons, inputs, actions, layers, own, gradients, theirs] = heads;
    std::vector<Copied> copied;
    for (const auto& [size, from, to] : copies) {
        copied.push_back({size, at<const float>(from), at<float>(to)});
    }
    return std::make_unique<SoftLearner>(actor, critic, target, action,
                                         HeadSizes{count, neurons, inputs, actions, layers}, own,
                                         gradients, theirs, std::move(copied));
}

/// `shape` and `columns` are the fields of `SoftBatch`, in their order; `figures` as in `learn`.
inline void learn_softly(SoftLearner& learner, const std::vector<std::size_t>& shape,
                         const std::vector<Address>& columns,
                         const std::tuple<double, double, double, double>& settings,
                         const std::vector<AdamGroupTuple>& groups, Address figures,
                         std::size_t threads) {
    const auto column = [&](std::size_t i) { return at<const float>(columns.at(i)); };
    const SoftBatch batch{shape.at(0),
                          shape.at(1),
                          shape.at(2),
                          shape.at(3),
                          shape.at(4),
                          shape.at(5),
                          column(0),
                          column(1),
                          column(2),
                          column(3),
                          at<const std::uint8_t>(columns.at(4)),
                          column(5),
                          column(6),
                          column(7),
                          column(8),
                          column(9),
                          column(10),
                          column(11)};
    std::vector<AdamGroup> trained;
    for (const auto& [sizes, tensors, rates] : groups) {
        const auto [rate, mean_decay, square_decay, epsilon, largest] = rates;
        trained.emplace_back(trained_at<float>(sizes, tensors),
                             AdamRates{rate, mean_decay, square_decay, epsilon});
    }
    const auto [gamma, ent_coef, target_entropy, target_share] = settings;
    learner.learn(batch, {gamma, ent_coef, target_entropy, target_share, threads}, trained,
                  at<double>(figures));
}

/// Add it to a Python module.
inline void add_soft(py::module_& module) {
    const py::call_guard<py::gil_scoped_release> without_gil;
    py::class_<SoftLearner>(module, "SoftLearner", py::module_local())
        .def(py::init(&make_soft_learner))
        .def("learn", &learn_softly, without_gil);
}

}  // namespace liquid
