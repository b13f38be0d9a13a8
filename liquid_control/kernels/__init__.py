"""The compiled kernels and their interface.

Fused unrolls of circuits, and for a loop of updates passes without autograd, a loss and Adam.
"""

from liquid_control.kernels.fused import unroll
from liquid_control.kernels.program import Program

__all__ = ["Program", "unroll"]
