// What Python sees of the kernels, compiled once for each instruction set.
#pragma once

#include <pybind11/pybind11.h>

PYBIND11_MODULE(LIQUID_MODULE, module) {
    module.attr("instruction_set") = LIQUID_INSTRUCTION_SET;
}
