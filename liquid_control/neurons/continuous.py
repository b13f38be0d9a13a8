"""Neurons that follow an ordinary differential equation, integrated over the elapsed time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from liquid_control.kernels.program import Program
from liquid_control.neurons.blocks import Block, layered, whole
from liquid_control.neurons.circuit import Circuit, check_option
from liquid_control.neurons.programs import Slots, layers
from liquid_control.neurons.solvers import SOLVERS, Field
from liquid_control.neurons.unroll import Step
from liquid_control.wiring import Wiring


class ContinuousCircuit(Circuit):
    """A circuit whose neurons obey dx/dt = drive(x) - decay(x) x while the input is held.

    All neurons are updated at once. An input crosses one synapse per solver step; with at least as
    many `ode_steps` as layers it reaches the motor neurons in the control step in which it changes.
    """

    def __init__(
        self,
        wiring: Wiring,
        *,
        ode_steps: int = 6,
        solver: str = "semi_implicit",
        **options: Any,
    ) -> None:
        super().__init__(wiring, **options)
        if isinstance(ode_steps, bool) or not isinstance(ode_steps, int):
            raise TypeError(f"ode_steps must be a whole number, got {ode_steps!r}")
        if ode_steps < 1:
            raise ValueError(f"ode_steps must be at least 1, got {ode_steps}")
        check_option("solver", solver, tuple(SOLVERS))
        self._ode_steps, self._solver = ode_steps, solver
        self._advance = SOLVERS[solver]
        self.blocks = whole(wiring)

    @property
    def ode_steps(self) -> int:
        """Solver steps in each control step; the compiled kernels are built for their number."""
        return self._ode_steps

    @property
    def solver(self) -> str:
        """Name of the solver."""
        return self._solver

    @property
    @abstractmethod
    def time_constants(self) -> Tensor:
        """Each neuron's time constant without input, (neurons,), in seconds."""

    @abstractmethod
    def _sensory_sums(self, weights: Any, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the sums over sensory synapses, biases included, (time, batch, ...)."""

    @abstractmethod
    def _field(self, weights: Any) -> Callable[..., Field]:
        """Return a function from the sensory sums of one step to the field during it."""

    def _continuous_program(self, kind: str, numbers: int, **options: Any) -> Program | None:
        """Return a program of `ode_steps` updates per step; each uses the state before the update.

        Args:
            kind: of the neurons.
            numbers: parameters of a synapse.
            **options: of `Program`.
        """
        if self.solver != "semi_implicit" or self.memory is not None:
            return None
        slots = Slots(self.wiring)
        sources, _ = np.nonzero(self.wiring.recurrent)
        return Program(
            self.wiring.sensory_count,
            hidden=0,
            neurons=self.wiring.neuron_count,
            substeps=self.ode_steps,
            layers=layers(kind, layered(self.wiring, uses_own_state=True)),
            banks=[
                slots.sensory(numbers),
                slots.recurrent(slots.before + sources, numbers),
            ],
            **options,
        )

    def _prepare(
        self,
        block: Block,
        weights: Any,
        inputs: Tensor,
        upstream: Sequence[Tensor],
    ) -> tuple[Step, tuple[Tensor, ...]]:
        field_under = self._field(weights)

        def integrate(state: Tensor, elapsed: Tensor, *sensory: Tensor) -> Tensor:
            field = field_under(*sensory)
            step = elapsed / self.ode_steps
            for _ in range(self.ode_steps):
                state = self._advance(field, state, step)
            return state

        return integrate, self._sensory_sums(weights, inputs)

    def _decay(self, inputs: Tensor, activity: Tensor, past: Tensor) -> Tensor:
        weights = self._weights()
        sensory = (each.flatten(0, 1) for each in self._sensory_sums(weights, inputs))
        _, decay = self._field(weights)(*sensory)(past.flatten(0, 1))
        return decay.expand(len(inputs) * inputs.shape[1], -1).view_as(past)
