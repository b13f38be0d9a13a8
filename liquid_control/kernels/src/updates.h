// Updates of PPO for Gaussian actions, one after the other: the policy forward and backward, the
// loss, and the step of Adam.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "adam.h"
#include "learning.h"
#include "parts.h"
#include "surrogate.h"

namespace liquid {

/// The critic's inputs: features and actor's neurons, the actor's neurons, or those of a twin.
enum class Critic { mlp, shared, twin };

/// A rollout: sequences of `length` steps, `parts` after each other in each of `robots`.
struct Rollout {
    std::size_t parts, length, robots, features, state_size;
    const float *seen, *clock;   // (steps, robots, features), normalised, and (steps, robots)
    const float* elapsed;        // (steps, robots) seconds
    const std::uint8_t* starts;  // (steps, robots)
    float* states;               // (parts + 1, robots, state_size): before sequences, and the last

    std::size_t sequences() const { return parts * robots; }

    /// All sequences that begin after `part` others of the same robot.
    Sequences side_by_side(std::size_t part) const {
        const std::size_t row = part * length * robots;
        return {length,
                robots,
                features,
                state_size,
                seen + row * features,
                clock + row,
                elapsed + row,
                starts + row,
                states + part * robots * state_size};
    }
};

/// What to learn from a rollout, (steps, robots, ...).
struct Targets {
    const float *actions, *log_prob, *values, *advantages, *returns;
};

/// The rows of some sequences of a rollout, as a minibatch.
class Minibatch {
  public:
    /// Copy `batch` sequences. A sequence has the number `part * robots + robot`.
    void gather(const Rollout& from, const Targets& targets, std::size_t actions,
                const std::int64_t* numbers, std::size_t batch) {
        const std::size_t rows = from.length * batch, robots = from.robots;
        reserve(rows, batch, from, actions);
        for (std::size_t i = 0; i < batch; ++i) {
            const auto number = static_cast<std::size_t>(numbers[i]);
            std::copy_n(from.states + number * from.state_size, from.state_size,
                        &state_[i * from.state_size]);
            const std::size_t first = number / robots * from.length * robots + number % robots;
            for (std::size_t t = 0; t < from.length; ++t) {
                const std::size_t row = first + t * robots, to = t * batch + i;
                std::copy_n(from.seen + row * from.features, from.features,
                            &seen_[to * from.features]);
                std::copy_n(targets.actions + row * actions, actions, &actions_[to * actions]);
                clock_[to] = from.clock[row], elapsed_[to] = from.elapsed[row];
                starts_[to] = from.starts[row], log_prob_[to] = targets.log_prob[row];
                values_[to] = targets.values[row], advantages_[to] = targets.advantages[row];
                returns_[to] = targets.returns[row];
            }
        }
        sequences = {from.length,   batch,           from.features,  from.state_size, seen_.data(),
                     clock_.data(), elapsed_.data(), starts_.data(), state_.data()};
        this->targets = {actions_.data(), log_prob_.data(), values_.data(), advantages_.data(),
                         returns_.data()};
    }

    Sequences sequences;
    Targets targets;

  private:
    void reserve(std::size_t rows, std::size_t batch, const Rollout& from, std::size_t actions) {
        seen_.resize(rows * from.features), state_.resize(batch * from.state_size);
        actions_.resize(rows * actions), starts_.resize(rows);
        for (Numbers* column :
             {&clock_, &elapsed_, &log_prob_, &values_, &advantages_, &returns_}) {
            column->resize(rows);
        }
    }

    Numbers seen_, clock_, elapsed_, state_, actions_, log_prob_, values_, advantages_, returns_;
    std::vector<std::uint8_t> starts_;
};

/// Settings of updates. There is no update after a divergence above the largest one.
struct UpdateSettings {
    SurrogateOptions loss;
    AdamRates rates;
    double largest_gradient;
    float largest_divergence;
    std::size_t threads;
};

/// A policy in single precision whose actions are Gaussian, and how it learns.
class Learner {
  public:
    Learner(const BodyTuple& actor, const std::optional<BodyTuple>& twin, bool is_shared,
            const NetworkTuple& value, const NetworkTuple& action, Address log_std,
            Address d_log_std)
        : critic_(twin        ? Critic::twin
                  : is_shared ? Critic::shared
                              : Critic::mlp),
          actor_(actor),
          value_(value),
          action_(action),
          log_std_(at<const float>(log_std)),
          d_log_std_(at<float>(d_log_std)) {
        if (twin) {
            twin_.emplace(*twin);
        }
    }

    /// Write the circuits' states of a rollout, given those before it.
    void unroll(const Rollout& rollout, std::size_t threads) {
        for (std::size_t part = 0; part < rollout.parts; ++part) {
            const Sequences sequences = rollout.side_by_side(part);
            float* const after = rollout.states + (part + 1) * rollout.robots * rollout.state_size;
            run_circuits(sequences, threads, false);
            std::size_t first = 0;
            for (TrainedBody* body : {&actor_, twin_ ? &*twin_ : nullptr}) {
                if (!body) {
                    continue;
                }
                const std::size_t size = body->state_size();
                for (std::size_t i = 0; i < rollout.robots; ++i) {
                    std::copy_n(body->final_state() + i * size, size,
                                after + i * rollout.state_size + first);
                }
                first += size;
            }
        }
    }

    /// Make an update with each minibatch until a number is not finite or the divergence too large.
    ///
    /// `order` has the number of each sequence, and minibatches `most` of them. `losses` gets the
    /// losses of each update, as in `Surrogate`, and `norms` those of gradient and weights. Returns
    /// the number of updates, of which the last may be incomplete.
    std::size_t learn(const Rollout& rollout, const Targets& targets, const std::int64_t* order,
                      std::size_t most, const std::vector<Trained<float>>& trained,
                      const UpdateSettings& settings, float* losses, double* norms) {
        std::size_t updates = 0;
        for (std::size_t from = 0; from < rollout.sequences(); from += most) {
            const std::size_t batch = std::min(most, rollout.sequences() - from);
            float* const results = losses + 6 * updates;
            double* const lengths = norms + 2 * updates++;
            minibatch_.gather(rollout, targets, action_.outputs(), order + from, batch);
            compute_loss(settings, results);
            if (results[4] > settings.largest_divergence || !std::isfinite(results[0])) {
                break;
            }
            backward(minibatch_.sequences.samples(), settings.threads);
            std::tie(lengths[0], lengths[1]) =
                clipped_adam_step(trained, settings.rates, settings.largest_gradient);
            if (!std::isfinite(lengths[0]) || !std::isfinite(lengths[1])) {
                break;
            }
        }
        return updates;
    }

  private:
    /// Run all circuits over sequences; `keeps`: whether `backward` follows.
    void run_circuits(const Sequences& sequences, std::size_t threads, bool keeps) {
        if (!twin_) {
            actor_.forward(sequences, 0, threads, keeps);
            return;
        }
        in_turn_or_at_once(
            sequences.batch, threads,
            [&](std::size_t some) { actor_.forward(sequences, 0, some, keeps); },
            [&](std::size_t some) { twin_->forward(sequences, actor_.state_size(), some, keeps); });
    }

    /// The loss of the minibatch, and its gradients at the heads.
    void compute_loss(const UpdateSettings& settings, float* losses) {
        const Sequences& sequences = minibatch_.sequences;
        const Targets& targets = minibatch_.targets;
        const std::size_t samples = sequences.samples(), actions = action_.outputs();
        run_circuits(sequences, settings.threads, true);
        const float* const activity = actor_.activity();
        const float* const values = values_of(sequences, activity, settings.threads);
        const std::size_t neurons = actor_.neurons(), motor = action_.inputs();
        const Part<float> last{activity + neurons - motor, motor, neurons, nullptr};
        const float* const mean = action_.forward(samples, {last}, settings.threads);
        d_mean_.resize(samples * actions), d_values_.resize(samples);
        d_deviations_.resize(actions);
        Surrogate<float>{samples,          actions,        mean,
                         log_std_,         values,         targets.actions,
                         targets.log_prob, targets.values, targets.advantages,
                         targets.returns,  d_mean_.data(), d_deviations_.data(),
                         d_values_.data(), losses}
            .compute(settings.loss);
    }

    const float* values_of(const Sequences& sequences, const float* activity, std::size_t threads) {
        const std::size_t neurons = actor_.neurons(), samples = sequences.samples();
        const Part<float> all{activity, neurons, neurons, nullptr};
        if (critic_ == Critic::mlp) {
            const Part<float> seen = sequences.seen_part(sequences.features);
            return value_.forward(samples, {seen, sequences.clock_part(), all}, threads);
        }
        if (critic_ == Critic::shared) {
            return value_.forward(samples, {all}, threads);
        }
        const std::size_t own = twin_->neurons();
        return value_.forward(samples, {{twin_->activity(), own, own, nullptr}}, threads);
    }

    /// Write the gradients of all parameters.
    void backward(std::size_t samples, std::size_t threads) {
        if (d_log_std_) {
            std::copy(d_deviations_.begin(), d_deviations_.end(), d_log_std_);
        }
        std::optional<std::size_t> part;
        if (critic_ != Critic::mlp) {
            part = 0;
        }
        float* const d_critic = value_.backward(samples, d_values_.data(), threads, part);
        const float* const d_motor = action_.backward(samples, d_mean_.data(), threads, 0);
        const std::size_t neurons = actor_.neurons(), motor = action_.inputs();
        if (critic_ == Critic::mlp) {
            actor_.backward(d_motor, neurons - motor, threads);
            return;
        }
        if (critic_ == Critic::twin) {
            in_turn_or_at_once(
                minibatch_.sequences.batch, threads,
                [&](std::size_t some) { actor_.backward(d_motor, neurons - motor, some); },
                [&](std::size_t some) { twin_->backward(d_critic, 0, some); });
            return;
        }
        for (std::size_t i = 0; i < samples * motor; ++i) {
            d_critic[i / motor * neurons + neurons - motor + i % motor] += d_motor[i];
        }
        actor_.backward(d_critic, 0, threads);
    }

    const Critic critic_;
    TrainedBody actor_;
    std::optional<TrainedBody> twin_;
    TrainedNetwork value_, action_;
    const float* const log_std_;
    float* const d_log_std_;
    Minibatch minibatch_;
    Numbers d_mean_, d_values_, d_deviations_;
};

/// A rollout as Python passes it. `shape` is parts, length, robots, features and size of a state;
/// `columns` are those of `Rollout`, then those of `Targets`, in their order.
inline Rollout rollout_of(const std::vector<std::size_t>& shape,
                          const std::vector<Address>& columns) {
    const auto column = [&](std::size_t i) { return at<float>(columns.at(i)); };
    return {shape.at(0), shape.at(1), shape.at(2),
            shape.at(3), shape.at(4), column(0),
            column(1),   column(2),   at<std::uint8_t>(columns.at(3)),
            column(4)};
}

inline void unroll(Learner& learner, const std::vector<std::size_t>& shape,
                   const std::vector<Address>& columns, std::size_t threads) {
    learner.unroll(rollout_of(shape, columns), threads);
}

/// `sizes` and `tensors` are as in `trained_at`; the other arguments as in `Learner::learn`.
inline std::size_t learn(Learner& learner, const std::vector<std::size_t>& shape,
                         const std::vector<Address>& columns, Address order, std::size_t most,
                         const std::vector<std::size_t>& sizes, const std::vector<Address>& tensors,
                         Address losses, Address norms, const SurrogateTuple& loss,
                         const AdamTuple& adam, double largest_divergence, std::size_t threads) {
    const auto target = [&](std::size_t i) { return at<const float>(columns.at(5 + i)); };
    const Targets targets{target(0), target(1), target(2), target(3), target(4)};
    const auto [rate, mean_decay, square_decay, epsilon, largest] = adam;
    const UpdateSettings settings{options_of(loss),
                                  {rate, mean_decay, square_decay, epsilon},
                                  largest,
                                  static_cast<float>(largest_divergence),
                                  threads};
    return learner.learn(rollout_of(shape, columns), targets, at<const std::int64_t>(order), most,
                         trained_at<float>(sizes, tensors), settings, at<float>(losses),
                         at<double>(norms));
}

/// Add it to a Python module.
inline void add_updates(py::module_& module) {
    const py::call_guard<py::gil_scoped_release> without_gil;
    py::class_<Learner>(module, "Learner", py::module_local())
        .def(py::init<const BodyTuple&, const std::optional<BodyTuple>&, bool, const NetworkTuple&,
                      const NetworkTuple&, Address, Address>())
        .def("unroll", &unroll, without_gil)
        .def("learn", &learn, without_gil);
}

}  // namespace liquid
