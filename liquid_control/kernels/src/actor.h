// One acting step of a policy for one robot: normaliser, encoder, circuit and action head.
#pragma once

#include <pybind11/numpy.h>

#include <cmath>
#include <limits>

#include "parts.h"

namespace liquid {

namespace py = pybind11;

/// Settings of an actor besides its circuit and its networks. Times are in seconds.
struct ActorSettings {
    std::size_t features;          // numbers of an observation
    float clip;                    // of normalised features
    float time_scale;              // of the circuit
    float nominal;                 // elapsed time at which the encoder's clock is zero
    double shortest, longest;      // elapsed times must lie between them
    std::vector<float> low, high;  // bounds of the actions, or empty
    bool squashed;                 // whether actions are those of SoftActor, see `squash`
};

/// A policy's actor in single precision. Parameters are read where they are, so that their values
/// may change between calls. A call keeps Python's lock: it is short, and no other thread should
/// change its arrays meanwhile.
class Actor {
    /// An array that needs no conversion.
    template <class T>
    using Plain = py::array_t<T, py::array::c_style>;
    using Floats = Plain<float>;

  public:
    /// Parameter tensors, and where they begin: null for missing and for empty ones.
    struct Tensors {
        std::vector<std::size_t> sizes;
        std::vector<const float*> begin;
    };

    /// `sizes` are the numbers in each of the parameter tensors: shift and scale of the
    /// normaliser, the encoder's, the circuit's, gain and offset of the output mapping, the head's,
    /// and the logarithm of the actions' deviation. Zero is for a missing one: normaliser, mappings
    /// and deviation are optional.
    Actor(const Circuit& circuit, const Network* encoder, const Network& head,
          ActorSettings settings, std::vector<std::size_t> sizes)
        : circuit_(circuit),
          encoder_(encoder),
          head_(head),
          settings_(std::move(settings)),
          sizes_(std::move(sizes)),
          actions_(settings_.squashed ? head.outputs() / 2 : head.outputs()),
          previous_(settings_.squashed ? actions_ : 0),
          packed_(circuit.plan(), circuit.tensor_sizes()) {
        const std::size_t seen = settings_.features + previous_, motor = head.inputs();
        const std::size_t inputs = circuit.plan().inputs, bounds = settings_.low.size();
        if ((encoder ? encoder->outputs() : seen) != inputs ||
            (encoder && encoder->inputs() != seen + 1) ||
            motor > static_cast<std::size_t>(circuit.plan().visible) ||
            bounds != settings_.high.size() || (bounds > 0 && bounds != actions_)) {
            throw std::invalid_argument("the parts of the actor do not fit each other");
        }
        std::vector<std::size_t> fitting;
        const auto expect = [&](const std::vector<std::size_t>& tensors, std::size_t optional) {
            const std::size_t required = fitting.size() + tensors.size() - optional;
            for (const std::size_t size : tensors) {
                const std::size_t i = fitting.size();
                const bool is_missing = i >= required && i < sizes_.size() && sizes_[i] == 0;
                fitting.push_back(is_missing ? 0 : size);
            }
        };
        expect({settings_.features, settings_.features}, 2);
        encoder_begin_ = fitting.size();
        expect(encoder ? encoder->tensor_sizes() : std::vector<std::size_t>(), 0);
        circuit_begin_ = fitting.size();
        expect(circuit.tensor_sizes(), circuit.optional_tensors());
        circuit_end_ = fitting.size();
        expect({motor, motor}, 2);
        expect(head.tensor_sizes(), 0);
        expect({head.outputs()}, 1);
        if (sizes_ != fitting) {
            throw std::invalid_argument("the actor takes other parameter tensors");
        }
    }

    /// Tensors of the actor's sizes at addresses, to be passed to its other methods.
    Tensors tensors(const std::vector<Address>& addresses) const {
        Tensors found{sizes_, std::vector<const float*>(sizes_.size(), nullptr)};
        bool fits = addresses.size() == sizes_.size();
        for (std::size_t i = 0; fits && i < sizes_.size(); ++i) {
            if (sizes_[i] > 0) {
                found.begin[i] = at<const float>(addresses[i]);
                fits = found.begin[i] != nullptr;
            }
        }
        if (!fits) {
            throw std::invalid_argument("the actor takes other parameter tensors");
        }
        return found;
    }

    /// Returns the outputs of the head, clipped to the bounds of actions if `within_bounds`, and
    /// the state after the step. `state` is None where an episode starts. It is the circuit's; with
    /// squashed actions the previous one follows, which `squash` writes after the step.
    ///
    /// Returns None where a number is not finite, the elapsed time is out of bounds, or an array is
    /// of another type or strided, so that something else has to convert or refuse it.
    py::object act(const Tensors& tensors, const py::array& observation, double elapsed,
                   const py::object& state, bool within_bounds) {
        const std::vector<const float*>& parameters = tensors.begin;
        check(tensors);
        const std::size_t features = settings_.features, motor = head_.inputs();
        thread_local Aligned<float> memory;
        const std::size_t inputs = features + previous_;
        memory.resize(inputs + 1 + circuit_.plan().inputs + motor);
        float* const seen = memory.data();
        float* const encoded = encoder_ ? seen + inputs + 1 : seen;
        float* const active = seen + inputs + 1 + circuit_.plan().inputs;

        const float seconds = static_cast<float>(elapsed);
        if (!(settings_.shortest < seconds && seconds < settings_.longest)) {
            return py::none();
        }
        if (!(read<double>(observation, seen) || read<float>(observation, seen))) {
            return py::none();
        }
        const std::size_t size = circuit_.plan().state_size();
        const float* before = nullptr;
        if (!state.is_none()) {
            if (!py::isinstance<Floats>(state)) {
                return py::none();
            }
            before = numbers_of(py::reinterpret_borrow<Floats>(state), size + previous_);
        }
        normalize(parameters[0], parameters[1], seen);
        if (before) {
            std::copy_n(before + size, previous_, seen + features);
        } else {
            std::fill_n(seen + features, previous_, 0.0f);
        }
        if (encoder_) {
            seen[inputs] = seconds / settings_.nominal - 1.0f;
            encoder_->forward_one<float>(seen, &parameters[encoder_begin_], encoded);
        }
        py::array_t<float> after({std::size_t(1), size + previous_}), outputs(head_.outputs());
        Call<float> call{};
        call.time = call.batch = 1;
        call.time_scale = settings_.time_scale;
        call.first_output = circuit_.plan().visible - static_cast<int>(motor);
        call.inputs = encoded, call.elapsed = &seconds;
        call.outputs = active, call.final_state = after.mutable_data(), call.state = before;
        const std::vector<const float*> within(parameters.begin() + circuit_begin_,
                                               parameters.begin() + circuit_end_);
        const Weights<float> packed = packed_.of(within);
        circuit_.run_forward(call, within, 1, &packed);
        map(parameters[circuit_end_], parameters[circuit_end_ + 1], active);
        float* const actions = outputs.mutable_data();
        head_.forward_one<float>(active, &parameters[circuit_end_ + 2], actions);
        if (within_bounds) {
            clip(actions);
        }
        const bool finite = std::all_of(actions, actions + head_.outputs(),
                                        [](float number) { return std::isfinite(number); });
        return finite ? py::object(py::make_tuple(outputs, after)) : py::none();
    }

    /// Add noise to outputs of `act`, in place, and clip them to the bounds of the actions.
    void perturb(const Tensors& tensors, Floats outputs, const Floats& noise) const {
        check(tensors);
        const float* const log_deviation = tensors.begin.back();
        const float* const scattered = numbers_of(noise, head_.outputs());
        numbers_of(outputs, head_.outputs());
        float* const actions = outputs.mutable_data();
        for (std::size_t i = 0; log_deviation && i < head_.outputs(); ++i) {
            actions[i] += std::exp(log_deviation[i]) * scattered[i];
        }
        clip(actions);
    }

    /// Return actions tanh(mean + deviation noise) in their bounds, given outputs of `act`: means,
    /// and logarithms of deviations. Without bounds they stay in [-1, 1]. Such actions are written
    /// to the state after the step. `noise` is None for the most likely action.
    Floats squash(const Floats& outputs, Floats after, const py::object& noise) const {
        const std::size_t size = circuit_.plan().state_size();
        const float* const mean = numbers_of(outputs, 2 * previous_);
        numbers_of(after, size + previous_);
        float* const previous = after.mutable_data() + size;
        const float* scattered = nullptr;
        if (!noise.is_none()) {
            scattered = numbers_of(py::cast<Floats>(noise), previous_);
        }
        py::array_t<float> actions(previous_);
        float* const scaled = actions.mutable_data();
        for (std::size_t i = 0; i < previous_; ++i) {
            const float deviation = std::exp(limited(mean[previous_ + i], -20.0f, 2.0f));
            previous[i] = std::tanh(scattered ? mean[i] + deviation * scattered[i] : mean[i]);
            scaled[i] = previous[i];
            if (!settings_.low.empty()) {
                const float low = settings_.low[i], high = settings_.high[i];
                scaled[i] = low + 0.5f * (previous[i] + 1.0f) * (high - low);
            }
        }
        clip(scaled);
        return actions;
    }

  private:
    /// Tensors must be those of an actor of the same sizes.
    void check(const Tensors& tensors) const {
        if (tensors.sizes != sizes_) {
            throw std::invalid_argument("the actor takes other parameter tensors");
        }
    }

    /// The numbers of an array, which must be `size`.
    template <class T>
    static const T* numbers_of(const Plain<T>& array, std::size_t size) {
        if (static_cast<std::size_t>(array.size()) != size) {
            throw std::invalid_argument("an array of " + std::to_string(size) +
                                        " numbers needed, got " + std::to_string(array.size()));
        }
        return array.data();
    }

    /// Read an observation; false if it holds other numbers than T, or one that is not finite.
    template <class T>
    bool read(const py::array& observation, float* to) const {
        if (!py::isinstance<Plain<T>>(observation)) {
            return false;
        }
        const T* from =
            numbers_of(py::reinterpret_borrow<Plain<T>>(observation), settings_.features);
        for (std::size_t i = 0; i < settings_.features; ++i) {
            if (!(std::abs(from[i]) <= std::numeric_limits<float>::max())) {
                return false;
            }
            to[i] = static_cast<float>(from[i]);
        }
        return true;
    }

    void normalize(const float* shift, const float* scale, float* features) const {
        for (std::size_t i = 0; shift && scale && i < settings_.features; ++i) {
            const float scaled = (features[i] - shift[i]) * scale[i];
            features[i] = limited(scaled, -settings_.clip, settings_.clip);
        }
    }

    void map(const float* gain, const float* offset, float* motor) const {
        for (std::size_t i = 0; i < head_.inputs(); ++i) {
            motor[i] = motor[i] * (gain ? gain[i] : 1.0f) + (offset ? offset[i] : 0.0f);
        }
    }

    void clip(float* actions) const {
        for (std::size_t i = 0; i < settings_.low.size(); ++i) {
            actions[i] = limited(actions[i], settings_.low[i], settings_.high[i]);
        }
    }

    const Circuit& circuit_;
    const Network* const encoder_;
    const Network& head_;
    const ActorSettings settings_;
    const std::vector<std::size_t> sizes_;
    const std::size_t actions_, previous_;  // numbers of an action, and of the one in the state
    Packed<float> packed_;
    std::size_t encoder_begin_, circuit_begin_, circuit_end_;
};

/// Add it to a Python module.
inline void add_actor(py::module_& module) {
    py::class_<Actor::Tensors>(module, "ActorTensors", py::module_local());
    py::class_<Actor>(module, "Actor", py::module_local())
        .def(py::init([](const Circuit& circuit, const Network* encoder, const Network& head,
                         std::vector<std::size_t> sizes, std::size_t features, double clip,
                         double time_scale, double nominal, double shortest, double longest,
                         std::vector<float> low, std::vector<float> high, bool squashed) {
                 ActorSettings settings{features,          float(clip),      float(time_scale),
                                        float(nominal),    shortest,         longest,
                                        std::move(low),    std::move(high),  squashed};
                 return std::make_unique<Actor>(circuit, encoder, head, std::move(settings),
                                                std::move(sizes));
             }),
             py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>(),
             py::arg("circuit"), py::arg("encoder"), py::arg("head"), py::arg("sizes"),
             py::kw_only(), py::arg("features"), py::arg("clip"), py::arg("time_scale"),
             py::arg("nominal"), py::arg("shortest"), py::arg("longest"), py::arg("low"),
             py::arg("high"), py::arg("squashed") = false)
        .def("tensors", &Actor::tensors)
        .def("act", &Actor::act)
        .def("perturb", &Actor::perturb, py::arg("tensors"), py::arg("outputs").noconvert(),
             py::arg("noise").noconvert())
        .def("squash", &Actor::squash, py::arg("outputs").noconvert(),
             py::arg("after").noconvert(), py::arg("noise"));
}

}  // namespace liquid
