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
#include "circuit.h"
#include "learning.h"
#include "network.h"
#include "surrogate.h"

namespace liquid {

using Numbers = std::vector<float>;
using NetworkTuple = std::tuple<const Network*, std::vector<Address>, std::vector<Address>>;
using BodyTuple = std::tuple<const Circuit*, double, std::vector<Address>, std::vector<Address>,
                             std::optional<NetworkTuple>>;

/// A network with its parameters, and their gradients, null for unwanted ones.
class TrainedNetwork {
  public:
    explicit TrainedNetwork(const NetworkTuple& tuple)
        : network_(*std::get<0>(tuple)),
          parameters_(all_at<const float>(std::get<1>(tuple))),
          gradients_(all_at<float>(std::get<2>(tuple))) {}

    std::size_t inputs() const { return network_.inputs(); }
    std::size_t outputs() const { return network_.outputs(); }

    const float* forward(std::size_t samples, std::vector<Part<float>> parts,
                         std::size_t threads) {
        parts_ = std::move(parts);
        kept_.resize(network_.kept_size<float>(samples));
        outputs_.resize(samples * outputs());
        network_.forward(samples, parts_, parameters_, kept_.data(), outputs_.data(), threads);
        return outputs_.data();
    }

    /// Write the gradients of the parameters; return that of a part, or null.
    float* backward(std::size_t samples, const float* d_outputs, std::size_t threads,
                    std::optional<std::size_t> part = {}) {
        if (part) {
            d_part_.resize(samples * parts_[*part].width);
            parts_[*part].gradient = d_part_.data();
        }
        network_.backward(samples, parts_, parameters_, kept_.data(), d_outputs, gradients_,
                          threads);
        return part ? d_part_.data() : nullptr;
    }

  private:
    const Network& network_;
    const std::vector<const float*> parameters_;
    const std::vector<float*> gradients_;
    std::vector<Part<float>> parts_;
    Numbers kept_, outputs_, d_part_;
};

/// What a policy sees in some sequences: time steps of a batch, row-major.
struct Sequences {
    std::size_t time, batch, features, state_size;
    const float *seen, *clock;   // (time, batch, features), normalised, and (time, batch)
    const float* elapsed;        // (time, batch) seconds
    const std::uint8_t* starts;  // (time, batch)
    const float* state;          // (batch, state_size) before the first step

    std::size_t samples() const { return time * batch; }
    Part<float> clock_part() const { return {clock, 1, 1, nullptr}; }
    Part<float> seen_part(std::size_t width) const { return {seen, width, features, nullptr}; }
};

/// A circuit with its parameters and their gradients, behind an optional encoder.
class TrainedBody {
  public:
    explicit TrainedBody(const BodyTuple& tuple)
        : circuit_(*std::get<0>(tuple)),
          time_scale_(static_cast<float>(std::get<1>(tuple))),
          parameters_(circuit_.parameters_at<float>(std::get<2>(tuple))),
          gradients_(all_at<float>(std::get<3>(tuple))) {
        if (std::get<4>(tuple)) {
            encoder_.emplace(*std::get<4>(tuple));
        }
    }

    std::size_t neurons() const { return circuit_.plan().visible; }
    std::size_t state_size() const { return circuit_.plan().state_size(); }

    /// Return the activity (time, batch, neurons). Its state begins in column `first` of states.
    const float* forward(const Sequences& sequences, std::size_t first, std::size_t threads) {
        const std::size_t samples = sequences.samples(), size = state_size();
        state_.resize(sequences.batch * size);
        for (std::size_t i = 0; i < sequences.batch; ++i) {
            std::copy_n(sequences.state + i * sequences.state_size + first, size,
                        state_.data() + i * size);
        }
        call_ = {};
        call_.time = sequences.time, call_.batch = sequences.batch;
        call_.time_scale = time_scale_;
        call_.inputs = inputs_of(sequences, threads), call_.state = state_.data();
        call_.elapsed = sequences.elapsed, call_.starts = sequences.starts;
        kept_.resize(circuit_.kept_size(false, call_.time, call_.batch));
        activity_.resize(samples * neurons());
        final_state_.resize(state_.size());
        call_.kept = kept_.data();
        call_.outputs = activity_.data(), call_.final_state = final_state_.data();
        circuit_.run_forward(call_, parameters_, threads);
        return activity_.data();
    }

    /// Write the gradients of parameters, given that of the activity of neurons from `first` on.
    void backward(const float* d_activity, std::size_t first, std::size_t threads) {
        const std::size_t samples = call_.time * call_.batch;
        d_inputs_.resize(samples * circuit_.plan().inputs);
        call_.first_output = static_cast<int>(first);
        call_.d_outputs = d_activity, call_.d_inputs = d_inputs_.data();
        circuit_.run_backward(call_, parameters_, gradients_, threads);
        if (encoder_) {
            encoder_->backward(samples, d_inputs_.data(), threads);
        }
    }

  private:
    const float* inputs_of(const Sequences& sequences, std::size_t threads) {
        const std::size_t samples = sequences.samples();
        if (encoder_) {
            const std::size_t width = encoder_->inputs() - 1;
            return encoder_->forward(
                samples, {sequences.seen_part(width), sequences.clock_part()}, threads);
        }
        const std::size_t width = circuit_.plan().inputs;
        inputs_.resize(samples * width);
        for (std::size_t i = 0; i < samples; ++i) {
            std::copy_n(sequences.seen + i * sequences.features, width, inputs_.data() + i * width);
        }
        return inputs_.data();
    }

    const Circuit& circuit_;
    const float time_scale_;
    const std::vector<const float*> parameters_;
    const std::vector<float*> gradients_;
    std::optional<TrainedNetwork> encoder_;
    Call<float> call_{};
    Numbers inputs_, state_, kept_, activity_, final_state_, d_inputs_;
};

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
