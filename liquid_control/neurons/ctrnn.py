"""Continuous-time recurrent neurons: leaky integrators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from liquid_control.kernels.program import Parameters, Program
from liquid_control.neurons.continuous import ContinuousCircuit
from liquid_control.neurons.programs import lookup
from liquid_control.neurons.solvers import Field
from liquid_control.neurons.synapses import MEMORY, TANH_GAIN, Synapses, weight_deviations
from liquid_control.wiring import Wiring

FASTEST = 0.1  # of the initial time constants, in time scales


class CTRNN(ContinuousCircuit):
    """Leaky neurons, dx/dt = (-x + tanh(W x + U i + b)) / tau (Funahashi & Nakamura 1993, eq. 1).

    The time constants are trainable. They start log-uniform from a tenth of `time_scale` to
    `time_scale`, so that an input reaches the motor neurons within a step of that length. The
    weights start with the wiring's polarity.

    Args:
        wiring: the neurons and their synapses.
        ode_steps: solver steps in each control step.
        solver: "semi_implicit" (order 1), "euler" (1) or "rk4" (4).
        memory_gain: initial strength of the synapses that carry the past, over that of others; a
            neuron also keeps a part of its own state.
        **options: as for `Circuit`.
    """

    recurrent: Synapses

    def __init__(self, wiring: Wiring, *, memory_gain: float = MEMORY, **options: Any) -> None:
        super().__init__(wiring, **options)
        sensory, recurrent = weight_deviations(wiring, TANH_GAIN, memory_gain)
        self.sensory = Synapses(wiring.sensory, 1, sensory, signed=1)
        self.recurrent = Synapses(wiring.recurrent, 1, recurrent, signed=1)
        self.bias = nn.Parameter(torch.zeros(wiring.neuron_count))
        fastest = math.log(FASTEST)
        self.log_tau = nn.Parameter(torch.empty(wiring.neuron_count).uniform_(fastest, 0.0))
        self._apply_plasticity()

    @property
    def time_constants(self) -> Tensor:
        """Tau, (neurons,), in seconds."""
        return self.log_tau.exp() * self.time_scale

    @torch.no_grad()
    def synapse_strengths(self) -> tuple[Tensor, Tensor]:
        """Return the weights."""
        return self._weights()

    def program(self) -> Program | None:
        """The program of the semi-implicit solver, for circuits without mixed memory."""
        if type(self) is not CTRNN:  # a subclass may have other equations
            return None
        weights = lookup(("sensory", "weight"), ("recurrent", "weight"), ("bias",))

        def parameters(circuit: CTRNN) -> Parameters:
            return [*weights(circuit), torch.exp(-circuit.log_tau)]

        return self._continuous_program("ctrnn", 1, parameters=parameters)

    def _weights(self) -> tuple[Tensor, Tensor]:
        return self.sensory.matrix().squeeze(1), self.recurrent.matrix().squeeze(1)

    def _sensory_sums(self, weights: tuple[Tensor, Tensor], inputs: Tensor) -> tuple[Tensor, ...]:
        return (inputs @ weights[0] + self.bias,)

    def _field(self, weights: tuple[Tensor, Tensor]) -> Callable[..., Field]:
        recurrent = weights[1]
        decay = torch.exp(-self.log_tau)

        def under(sensory: Tensor) -> Field:
            def field(state: Tensor) -> tuple[Tensor, Tensor]:
                return decay * torch.addmm(sensory, state, recurrent).tanh(), decay

            return field

        return under
