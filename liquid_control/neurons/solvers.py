"""One step of an ordinary differential equation that is affine in the state's own decay.

The continuous neuron models have the form dx/dt = drive(x) - decay(x) x, so a solver needs only
a function from the state to that pair. Inputs are constant during the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

Field = Callable[[Tensor], tuple[Tensor, Tensor]]
"""State (batch, neurons) -> (drive, decay), each of the same shape; decay >= 0."""

Solver = Callable[[Field, Tensor, Tensor], Tensor]
"""(field, state, step) -> the state one step later; step (batch, 1) in the field's unit of time."""


def semi_implicit(field: Field, state: Tensor, step: Tensor) -> Tensor:
    """Fused semi-implicit Euler step: order 1, stable for any step (Hasani et al. 2021, eq. 3).

    The decay acts on the *new* state, so the result is a convex combination of the old state and
    the equilibrium drive / decay. Multiplied through by the step, it is exact for a step of zero.
    """
    drive, decay = field(state)
    return (state + step * drive) / (1 + step * decay)


def explicit_euler(field: Field, state: Tensor, step: Tensor) -> Tensor:
    """Explicit Euler step: order 1, stable only while step * decay < 2."""
    drive, decay = field(state)
    return state + step * (drive - decay * state)


def runge_kutta(field: Field, state: Tensor, step: Tensor) -> Tensor:
    """Classic Runge-Kutta step: order 4, four evaluations of the field."""

    def slope(x: Tensor) -> Tensor:
        drive, decay = field(x)
        return drive - decay * x

    k1 = slope(state)
    k2 = slope(state + step / 2 * k1)
    k3 = slope(state + step / 2 * k2)
    k4 = slope(state + step * k3)
    return state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {"semi_implicit": semi_implicit, "euler": explicit_euler, "rk4": runge_kutta}
)
