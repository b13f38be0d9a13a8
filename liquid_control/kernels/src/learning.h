// Functions for learning besides circuits: networks, the loss of PPO, and Adam.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <tuple>

#include "adam.h"
#include "addresses.h"
#include "network.h"
#include "surrogate.h"

namespace liquid {

namespace py = pybind11;

using SurrogateTuple = std::tuple<double, double, double, double, bool>;  // SurrogateOptions
using AdamTuple = std::tuple<double, double, double, double, double>;      // rates, largest norm
using PartTuple = std::tuple<Address, std::size_t, std::size_t>;  // as in Part

template <class T>
std::vector<Part<T>> parts_of(const std::vector<PartTuple>& tuples) {
    std::vector<Part<T>> parts;
    for (const auto& [address, width, step] : tuples) {
        parts.push_back({at<T>(address), width, step, nullptr});
    }
    return parts;
}

inline std::size_t network_kept_size(const Network& network, bool is_double, std::size_t samples) {
    return is_double ? network.kept_size<double>(samples) : network.kept_size<float>(samples);
}

inline void network_forward(const Network& network, bool is_double, std::size_t samples,
                            const std::vector<PartTuple>& parts,
                            const std::vector<Address>& parameters, Address kept, Address outputs,
                            std::size_t threads) {
    const auto run = [&](auto zero) {
        using T = decltype(zero);
        network.forward(samples, parts_of<T>(parts), all_at<const T>(parameters), at<T>(kept),
                        at<T>(outputs), threads);
    };
    is_double ? run(0.0) : run(0.0f);
}

/// `gradients` are those of the parts, then of the parameters; zero for an unwanted one.
inline void network_backward(const Network& network, bool is_double, std::size_t samples,
                             const std::vector<PartTuple>& parts,
                             const std::vector<Address>& parameters, Address kept,
                             Address d_outputs, const std::vector<Address>& gradients,
                             std::size_t threads) {
    const auto run = [&](auto zero) {
        using T = decltype(zero);
        std::vector<T*> wanted = all_at<T>(gradients);
        std::vector<Part<T>> inputs = parts_of<T>(parts);
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            inputs[i].gradient = wanted.at(i);
        }
        wanted.erase(wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(parts.size()));
        network.backward(samples, inputs, all_at<const T>(parameters), at<T>(kept),
                         at<const T>(d_outputs), wanted, threads);
    };
    is_double ? run(0.0) : run(0.0f);
}

inline SurrogateOptions options_of(const SurrogateTuple& tuple) {
    const auto [clip_range, value_clip_range, entropy_share, value_share, normalize] = tuple;
    return {clip_range, value_clip_range, entropy_share, value_share, normalize};
}

/// `tensors` are mean, log_std, values, actions, log_prob, old values, advantages and returns;
/// `results` the gradients of the first three, and the losses.
inline void surrogate(bool is_double, std::size_t samples, std::size_t actions,
                      const std::vector<Address>& tensors, const std::vector<Address>& results,
                      const SurrogateTuple& options) {
    const auto run = [&](auto zero) {
        using T = decltype(zero);
        const std::vector<const T*> from = all_at<const T>(tensors);
        const std::vector<T*> to = all_at<T>(results);
        Surrogate<T>{samples,    actions,    from.at(0), from.at(1), from.at(2),
                     from.at(3), from.at(4), from.at(5), from.at(6), from.at(7),
                     to.at(0),   to.at(1),   to.at(2),   to.at(3)}
            .compute(options_of(options));
    };
    is_double ? run(0.0) : run(0.0f);
}

/// `tensors` are parameter, gradient, mean, mean square, step and share of each of the `sizes`.
template <class T>
std::vector<Trained<T>> trained_at(const std::vector<std::size_t>& sizes,
                                   const std::vector<Address>& tensors) {
    std::vector<Trained<T>> parameters;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        const Address* each = &tensors.at(6 * i + 5) - 5;
        parameters.push_back({sizes[i], at<T>(each[0]), at<T>(each[1]), at<T>(each[2]),
                              at<T>(each[3]), at<float>(each[4]), at<T>(each[5])});
    }
    return parameters;
}

/// Tensors as in `trained_at`.
inline Norms clipped_adam(bool is_double, const std::vector<std::size_t>& sizes,
                          const std::vector<Address>& tensors, const AdamTuple& options) {
    const auto [rate, mean_decay, square_decay, epsilon, largest] = options;
    const AdamRates rates{rate, mean_decay, square_decay, epsilon};
    const auto run = [&, most = largest](auto zero) {
        using T = decltype(zero);
        return clipped_adam_step(trained_at<T>(sizes, tensors), rates, most);
    };
    return is_double ? run(0.0) : run(0.0f);
}

/// Add it to a Python module.
inline void add_learning(py::module_& module) {
    const py::call_guard<py::gil_scoped_release> without_gil;
    py::class_<Network>(module, "Network", py::module_local())
        .def(py::init<std::vector<std::size_t>, std::vector<std::string>>())
        .def("kept_size", &network_kept_size)
        .def("forward", &network_forward, without_gil)
        .def("backward", &network_backward, without_gil);
    module.def("surrogate", &surrogate, without_gil);
    module.def("clipped_adam", &clipped_adam, without_gil);
}

}  // namespace liquid
