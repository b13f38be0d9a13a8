"""Fused unrolls in C++ for the circuits of the neurons package."""

from liquid_control.kernels.fused import plug_in, unroll

__all__ = ["plug_in", "unroll"]
