// What Python sees of the kernels, compiled once for each instruction set.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "engine.h"
#include "solo.h"

namespace liquid {

namespace py = pybind11;
using Address = std::uintptr_t;  // of a tensor's first number; zero for no tensor

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

template <class T>
std::vector<T*> all_at(const std::vector<Address>& addresses) {
    std::vector<T*> pointers;
    for (Address address : addresses) pointers.push_back(at<T>(address));
    return pointers;
}

/// A circuit's plan, and the two directions through it for either type of number.
class Circuit {
  public:
    using LayerTuple = std::tuple<std::string, int, int, int>;
    using BankTuple = std::tuple<std::vector<int>, std::vector<int>, int>;

    Circuit(int inputs, int memory, int visible, int substeps, const std::vector<LayerTuple>& layers,
            const std::vector<BankTuple>& banks)
        : plan_(describe(inputs, memory, visible, substeps, layers, banks)) {}

    int visible() const { return plan_.visible; }

    std::size_t kept_size(bool is_double, std::size_t time, std::size_t batch) const {
        return is_double ? Engine<double>::kept_size(plan_, time, batch)
                         : Engine<float>::kept_size(plan_, time, batch);
    }

    void forward(bool is_double, std::size_t time, std::size_t batch, double time_scale,
                 int first_output, bool wants_time, const std::vector<Address>& parameters,
                 Address inputs, Address state, Address elapsed, Address starts, Address kept,
                 Address outputs, Address final_state, std::size_t threads) const {
        const auto run = [&](auto zero) {
            using T = decltype(zero);
            Call<T> call{};
            call.time = time, call.batch = batch;
            call.time_scale = static_cast<T>(time_scale);
            call.first_output = first_output, call.wants_time = wants_time;
            call.inputs = at<T>(inputs), call.state = at<T>(state);
            call.elapsed = at<T>(elapsed), call.starts = at<std::uint8_t>(starts);
            call.kept = at<T>(kept);
            call.outputs = at<T>(outputs), call.final_state = at<T>(final_state);
            const std::vector<const T*> pointers = all_at<const T>(parameters);
            check(pointers.size());
            if (Solo<T>::fits(plan_, call)) {
                Solo<T>(plan_, pointers, call).forward();
            } else {
                Engine<T>(plan_, pointers, call, threads).forward();
            }
        };
        is_double ? run(0.0) : run(0.0f);
    }

    void backward(bool is_double, std::size_t time, std::size_t batch, double time_scale,
                  int first_output, bool wants_time, const std::vector<Address>& parameters,
                  Address inputs, Address elapsed, Address starts, Address kept, Address d_outputs,
                  Address d_final_state, const std::vector<Address>& d_parameters, Address d_inputs,
                  Address d_state, Address d_elapsed, std::size_t threads) const {
        const auto run = [&](auto zero) {
            using T = decltype(zero);
            Call<T> call{};
            call.time = time, call.batch = batch;
            call.time_scale = static_cast<T>(time_scale);
            call.first_output = first_output, call.wants_time = wants_time;
            call.inputs = at<T>(inputs);
            call.elapsed = at<T>(elapsed), call.starts = at<std::uint8_t>(starts);
            call.kept = at<T>(kept);
            call.d_outputs = at<T>(d_outputs), call.d_final_state = at<T>(d_final_state);
            call.d_inputs = at<T>(d_inputs), call.d_state = at<T>(d_state);
            call.d_elapsed = at<T>(d_elapsed);
            const std::vector<const T*> pointers = all_at<const T>(parameters);
            check(pointers.size());
            Engine<T>(plan_, pointers, call, threads).backward(all_at<T>(d_parameters));
        };
        is_double ? run(0.0) : run(0.0f);
    }

  private:
    void check(std::size_t parameters) const {
        if (parameters != (plan_.conductances ? kLiquidTensors : plan_.parameter_sizes.size())) {
            throw std::invalid_argument("the plan takes another number of parameter tensors");
        }
    }

    static Plan::Description describe(int inputs, int memory, int visible, int substeps,
                                      const std::vector<LayerTuple>& layers,
                                      const std::vector<BankTuple>& banks) {
        Plan::Description description{inputs, memory, visible, substeps, {}, {}};
        for (const auto& [kind, first, last, block] : layers) {
            Layer layer{};
            layer.kind = kind_of(kind);
            layer.first = first, layer.last = last, layer.block = block;
            description.layers.push_back(layer);
        }
        for (const auto& [slots, targets, parameters] : banks) {
            description.banks.push_back({slots, targets, parameters});
        }
        return description;
    }

    static Kind kind_of(const std::string& name) {
        static const std::map<std::string, Kind> kinds{
            {"cfc_default", Kind::cfc_default}, {"cfc_no_gate", Kind::cfc_no_gate},
            {"cfc_pure", Kind::cfc_pure},       {"lstm", Kind::lstm},
            {"ctrnn", Kind::ctrnn},             {"ltc", Kind::ltc}};
        return kinds.at(name);
    }

    const Plan plan_;
};

}  // namespace liquid

PYBIND11_MODULE(LIQUID_MODULE, module) {
    namespace py = pybind11;
    using liquid::Circuit;
    module.attr("instruction_set") = LIQUID_INSTRUCTION_SET;
    const py::call_guard<py::gil_scoped_release> without_gil;
    py::class_<Circuit>(module, "Circuit", py::module_local())
        .def(py::init<int, int, int, int, const std::vector<Circuit::LayerTuple>&,
                      const std::vector<Circuit::BankTuple>&>())
        .def_property_readonly("visible", &Circuit::visible)
        .def("kept_size", &Circuit::kept_size)
        .def("forward", &Circuit::forward, without_gil)
        .def("backward", &Circuit::backward, without_gil);
}
