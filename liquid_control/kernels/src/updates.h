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

/// A rollout in the order of its minibatches, whose rows follow each other; see `Sequences`.
struct Epoch {
    Sequences first;      // the first minibatch
    std::size_t batches;  // sequences of all minibatches
    const float *actions, *log_prob, *values, *advantages, *returns;  // (rows, ...)
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
        : critic_(twin ? Critic::twin : is_shared ? Critic::shared : Critic::mlp),
          actor_(actor),
          value_(value),
          action_(action),
          log_std_(at<const float>(log_std)),
          d_log_std_(at<float>(d_log_std)) {
        if (twin) {
            twin_.emplace(*twin);
        }
    }

    /// Make an update with each minibatch until a number is not finite or the divergence too large.
    ///
    /// `losses` gets the losses of each update, as in `Surrogate`, and `norms` those of gradient and
    /// weights. Returns the number of updates, of which the last may be incomplete.
    std::size_t learn(const Epoch& epoch, const std::vector<Trained<float>>& trained,
                      const UpdateSettings& settings, float* losses, double* norms) {
        const std::size_t most = epoch.first.batch;
        std::size_t updates = 0;
        for (std::size_t from = 0; from < epoch.batches; from += most) {
            const std::size_t batch = std::min(most, epoch.batches - from);
            float* const results = losses + 6 * updates;
            double* const lengths = norms + 2 * updates++;
            const Sequences sequences = part_of(epoch.first, from, batch);
            compute_loss(epoch, sequences, from * sequences.time, settings, results);
            if (results[4] > settings.largest_divergence || !std::isfinite(results[0])) {
                break;
            }
            backward(sequences.samples(), settings.threads);
            std::tie(lengths[0], lengths[1]) =
                clipped_adam_step(trained, settings.rates, settings.largest_gradient);
            if (!std::isfinite(lengths[0]) || !std::isfinite(lengths[1])) {
                break;
            }
        }
        return updates;
    }

  private:
    static Sequences part_of(Sequences sequences, std::size_t from, std::size_t batch) {
        const std::size_t rows = from * sequences.time;
        sequences.batch = batch;
        sequences.seen += rows * sequences.features, sequences.clock += rows;
        sequences.elapsed += rows, sequences.starts += rows;
        sequences.state += from * sequences.state_size;
        return sequences;
    }

    /// The loss of a minibatch that begins in a row, and its gradients at the heads.
    void compute_loss(const Epoch& epoch, const Sequences& sequences, std::size_t row,
                      const UpdateSettings& settings, float* losses) {
        const std::size_t samples = sequences.samples(), actions = action_.outputs();
        const float* const activity = actor_.forward(sequences, 0, settings.threads);
        const float* const values = values_of(sequences, activity, settings.threads);
        const std::size_t neurons = actor_.neurons(), motor = action_.inputs();
        const Part<float> last{activity + neurons - motor, motor, neurons, nullptr};
        const float* const mean = action_.forward(samples, {last}, settings.threads);
        d_mean_.resize(samples * actions), d_values_.resize(samples);
        d_deviations_.resize(actions);
        Surrogate<float>{samples,
                         actions,
                         mean,
                         log_std_,
                         values,
                         epoch.actions + row * actions,
                         epoch.log_prob + row,
                         epoch.values + row,
                         epoch.advantages + row,
                         epoch.returns + row,
                         d_mean_.data(),
                         d_deviations_.data(),
                         d_values_.data(),
                         losses}
            .compute(settings.loss);
    }

    const float* values_of(const Sequences& sequences, const float* activity,
                           std::size_t threads) {
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
        const float* const seen = twin_->forward(sequences, actor_.state_size(), threads);
        return value_.forward(samples, {{seen, own, own, nullptr}}, threads);
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
        if (critic_ == Critic::twin) {
            twin_->backward(d_critic, 0, threads);
        }
        const float* const d_motor = action_.backward(samples, d_mean_.data(), threads, 0);
        const std::size_t neurons = actor_.neurons(), motor = action_.inputs();
        if (critic_ != Critic::shared) {
            actor_.backward(d_motor, neurons - motor, threads);
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
    Numbers d_mean_, d_values_, d_deviations_;
};

/// Arguments as Python passes them. `shape` is length, sequences of a minibatch, all sequences,
/// features and size of a state; `columns` are those of `Sequences` and of `Epoch`, in their order.
inline std::size_t learn(Learner& learner, const std::vector<std::size_t>& shape,
                         const std::vector<Address>& columns,
                         const std::vector<std::size_t>& sizes,
                         const std::vector<Address>& tensors, Address losses, Address norms,
                         const SurrogateTuple& loss, const AdamTuple& adam,
                         double largest_divergence, std::size_t threads) {
    const auto column = [&](std::size_t i) { return at<const float>(columns.at(i)); };
    const Sequences first{shape.at(0), shape.at(1), shape.at(3), shape.at(4),
                          column(0),   column(1),   column(2),   at<std::uint8_t>(columns.at(3)),
                          column(4)};
    const Epoch epoch{first,     shape.at(2), column(5), column(6),
                      column(7), column(8),   column(9)};
    const auto [rate, mean_decay, square_decay, epsilon, largest] = adam;
    const UpdateSettings settings{options_of(loss),
                                  {rate, mean_decay, square_decay, epsilon},
                                  largest,
                                  static_cast<float>(largest_divergence),
                                  threads};
    return learner.learn(epoch, trained_at<float>(sizes, tensors), settings, at<float>(losses),
                         at<double>(norms));
}

/// Add it to a Python module.
inline void add_updates(py::module_& module) {
    const py::call_guard<py::gil_scoped_release> without_gil;
    py::class_<Learner>(module, "Learner", py::module_local())
        .def(py::init<const BodyTuple&, const std::optional<BodyTuple>&, bool,
                      const NetworkTuple&, const NetworkTuple&, Address, Address>())
        .def("learn", &learn, without_gil);
}

}  // namespace liquid
