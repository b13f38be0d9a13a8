"""Fused unrolls in C++: programs for circuits, and the compiled kernels that run them."""

from liquid_control.kernels.fused import unroll
from liquid_control.kernels.program import Program

__all__ = ["Program", "unroll"]
