// The Python module of the kernels, compiled once for each instruction set.
#pragma once

#include "actor.h"
#include "circuit.h"
#include "group.h"
#include "learning.h"
#include "soft.h"
#include "updates.h"

PYBIND11_MODULE(LIQUID_MODULE, module) {
    namespace py = pybind11;
    using liquid::Circuit;
    module.attr("instruction_set") = LIQUID_INSTRUCTION_SET;
    const py::call_guard<py::gil_scoped_release> without_gil;
    py::class_<Circuit>(module, "Circuit", py::module_local())
        .def(py::init<int, int, int, int, const std::vector<Circuit::LayerTuple>&,
                      const std::vector<Circuit::BankTuple>&>())
        .def("kept_size", &Circuit::kept_size)
        .def("forward", &Circuit::forward, without_gil)
        .def("backward", &Circuit::backward, without_gil);
    liquid::add_learning(module);
    liquid::add_updates(module);
    liquid::add_soft(module);
    liquid::add_actor(module);
    liquid::add_group(module);
}
