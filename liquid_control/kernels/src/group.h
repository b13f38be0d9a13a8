// One control step of a policy for a group of robots: normaliser, encoder, circuit, action head and
// noise, in single precision.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <vector>

#include "parts.h"

namespace liquid {

/// Settings of a group's actor besides its networks.
struct GroupSettings {
    std::size_t features;          // the actor's, which come first
    float clip;                    // of normalised features
    float nominal;                 // elapsed time in seconds at which the encoder's clock is zero
    float shortest, longest;       // elapsed times in seconds must lie between them
    std::vector<float> low, high;  // bounds of the actions
};

/// Acts for a group of robots. Parameters are read where they are.
class GroupActor {
  public:
    /// Addresses are those of the normaliser's shift and scale, or null, and of the logarithm of
    /// the actions' deviation.
    GroupActor(const BodyTuple& body, const NetworkTuple& head, GroupSettings settings,
               const std::vector<Address>& normalizer, Address log_std)
        : body_(body),
          head_(head),
          settings_(std::move(settings)),
          shift_(at<const float>(normalizer.at(0))),
          scale_(at<const float>(normalizer.at(1))),
          log_std_(at<const float>(log_std)) {
        if (settings_.low.size() != head_.outputs() || settings_.high.size() != head_.outputs()) {
            throw std::invalid_argument("an action has other bounds");
        }
    }

    /// What `act` writes.
    struct Results {
        float *actions, *bounded;  // (batch, actions), sampled, and clipped to their bounds
        float* state;              // (batch, size) of the circuit after the step
    };

    /// `step` has one step; its features are raw, and it has no clock. `noise` (batch, actions) is
    /// standard normal. Returns false where a feature or an action is not finite, or an elapsed
    /// time is out of bounds.
    bool act(Sequences step, const float* noise, const Results& results, std::size_t threads) {
        bool is_sound = are_finite(step.seen, step.batch * step.features);
        clock_.resize(step.batch);
        for (std::size_t i = 0; i < step.batch; ++i) {
            const float seconds = step.elapsed[i];
            is_sound = is_sound && settings_.shortest < seconds && seconds < settings_.longest;
            clock_[i] = seconds / settings_.nominal - 1.0f;
        }
        if (!is_sound) {
            return false;
        }
        step.clock = clock_.data();
        normalize(step);
        const float* const activity = body_.forward(step, 0, threads, false);
        const std::size_t neurons = body_.neurons(), motor = head_.inputs();
        const Part<float> last{activity + neurons - motor, motor, neurons, nullptr};
        sample(step.batch, head_.forward(step.batch, {last}, threads), noise, results);
        std::copy_n(body_.final_state(), step.batch * body_.state_size(), results.state);
        return are_finite(results.actions, step.batch * head_.outputs());
    }

  private:
    static bool are_finite(const float* numbers, std::size_t count) {
        return std::all_of(numbers, numbers + count,
                           [](float each) { return std::isfinite(each); });
    }

    /// Replace raw features by normalised ones.
    void normalize(Sequences& step) {
        const std::size_t width = settings_.features;
        seen_.resize(step.batch * width);
        for (std::size_t i = 0; i < step.batch; ++i) {
            const float* const raw = step.seen + i * step.features;
            float* const seen = seen_.data() + i * width;
            std::copy_n(raw, width, seen);
            for (std::size_t k = 0; shift_ && k < width; ++k) {
                const float scaled = (raw[k] - shift_[k]) * scale_[k];
                seen[k] = limited(scaled, -settings_.clip, settings_.clip);
            }
        }
        step.seen = seen_.data(), step.features = width;
    }

    void sample(std::size_t batch, const float* mean, const float* noise, const Results& results) {
        const std::size_t size = head_.outputs();
        for (std::size_t k = 0; k < size; ++k) {
            const float deviation = std::exp(log_std_[k]);
            for (std::size_t i = k; i < batch * size; i += size) {
                results.actions[i] = mean[i] + deviation * noise[i];
                results.bounded[i] =
                    limited(results.actions[i], settings_.low[k], settings_.high[k]);
            }
        }
    }

    TrainedBody body_;
    TrainedNetwork head_;
    const GroupSettings settings_;
    const float *const shift_, *const scale_, *const log_std_;
    Numbers seen_, clock_;
};

/// Arguments as Python passes them. `shape` is robots, features and size of a state; `tensors` are
/// features, elapsed time, starts, state and noise, then the results.
inline bool act(GroupActor& actor, const std::vector<std::size_t>& shape,
                const std::vector<Address>& tensors, std::size_t threads) {
    const auto tensor = [&](std::size_t i) { return at<float>(tensors.at(i)); };
    const std::uint8_t* const starts = at<std::uint8_t>(tensors.at(2));
    const Sequences step{1,       shape.at(0), shape.at(1), shape.at(2), tensor(0),
                         nullptr, tensor(1),   starts,      tensor(3)};
    return actor.act(step, tensor(4), {tensor(5), tensor(6), tensor(7)}, threads);
}

/// Add it to a Python module.
inline void add_group(py::module_& module) {
    py::class_<GroupActor>(module, "GroupActor", py::module_local())
        .def(py::init([](const BodyTuple& body, const NetworkTuple& head,
                         const std::vector<Address>& normalizer, Address log_std,
                         std::size_t features, double clip, double nominal, double shortest,
                         double longest, std::vector<float> low, std::vector<float> high) {
                 GroupSettings settings{features,        float(clip),    float(nominal),
                                        float(shortest), float(longest), std::move(low),
                                        std::move(high)};
                 return std::make_unique<GroupActor>(body, head, std::move(settings), normalizer,
                                                     log_std);
             }),
             py::arg("body"), py::arg("head"), py::arg("normalizer"), py::arg("log_std"),
             py::kw_only(), py::arg("features"), py::arg("clip"), py::arg("nominal"),
             py::arg("shortest"), py::arg("longest"), py::arg("low"), py::arg("high"))
        .def("act", &act, py::call_guard<py::gil_scoped_release>());
}

}  // namespace liquid
