// The parts of a policy in single precision, and what they see.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "addresses.h"
#include "aligned.h"
#include "circuit.h"
#include "network.h"

namespace liquid {

using Numbers = Aligned<float>;

/// A number within bounds; NaN stays NaN.
inline float limited(float number, float low, float high) {
    return number < low ? low : number > high ? high : number;
}

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

    const float* forward(std::size_t samples, std::vector<Part<float>> parts, std::size_t threads) {
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
    /// `keeps`: whether `backward` follows.
    const float* forward(const Sequences& sequences, std::size_t first, std::size_t threads,
                         bool keeps = true) {
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
        activity_.resize(samples * neurons());
        final_state_.resize(state_.size());
        if (keeps) {
            kept_.resize(circuit_.kept_size(false, call_.time, call_.batch));
            call_.kept = kept_.data();
        }
        call_.outputs = activity_.data(), call_.final_state = final_state_.data();
        circuit_.run_forward(call_, parameters_, threads);
        return activity_.data();
    }

    /// The activity (time, batch, neurons) of the last `forward`.
    const float* activity() const { return activity_.data(); }
    /// The state (batch, state_size) after it.
    const float* final_state() const { return final_state_.data(); }

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
            return encoder_->forward(samples, {sequences.seen_part(width), sequences.clock_part()},
                                     threads);
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

/// Call two functions, each with the number of threads that it may use: with all of them, one after
/// the other, or side by side with one each, if the tiles of a batch do not take longer so.
template <class First, class Second>
void in_turn_or_at_once(std::size_t batch, std::size_t threads, First first, Second second) {
    const std::size_t tiles = cut<float>(batch).size();
    const std::size_t in_turn = 2 * ((tiles + threads - 1) / threads), at_once = tiles;
    if (threads > 1 && at_once <= in_turn) {
        in_parallel(2, 2, [&](std::size_t task, std::size_t) {
            task == 0 ? first(std::size_t(1)) : second(std::size_t(1));
        });
        return;
    }
    first(threads), second(threads);
}

}  // namespace liquid
