"""Liquid time-constant neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from liquid_control.kernels.program import Program
from liquid_control.neurons.continuous import ContinuousCircuit
from liquid_control.neurons.programs import lookup
from liquid_control.neurons.solvers import Field
from liquid_control.neurons.synapses import SynapseList
from liquid_control.wiring import Wiring

STEP_LENGTH = 3.0  # of conductances, steepnesses and readouts, over that of other parameters


class _Conductances(SynapseList):
    """Graded chemical synapses: conductance times a sigmoid of the source, towards a reversal.

    Parameters, one per synapse: `conductance` (through a softplus, so that it stays positive),
    `steepness` and `midpoint` of the sigmoid, and the `reversal` potential, which has the wiring's
    polarity. Conductance and steepness start in the ranges of Lechner et al. 2020, midpoints around
    zero, where normalised observations are.
    """

    def __init__(self, polarity: NDArray[np.int8]) -> None:
        super().__init__(polarity)
        sources, targets = np.nonzero(polarity)
        self.shape = polarity.shape
        count = len(sources)
        self.conductance = nn.Parameter(inverse_softplus(_uniform(count, 0.001, 1.0)))
        self.steepness = nn.Parameter(_uniform(count, 3.0, 8.0))
        self.midpoint = nn.Parameter(_uniform(count, -0.25, 0.25))
        self.reversal = nn.Parameter(torch.as_tensor(polarity[sources, targets]).float())

    def into_neurons(self, capacitance: Tensor) -> Tensor:
        """Return each open synapse's drive and decay, (synapses, 2 * neurons)."""
        weight = one_hot(self.targets, self.shape[1]) * softplus(self.conductance)[:, None]
        weight = weight / capacitance
        return torch.cat([weight * self.reversal[:, None], weight], dim=1)

    def threshold(self) -> Tensor:
        """Return the constant part of the sigmoid's argument, (synapses,)."""
        return -self.steepness * self.midpoint

    def opening(self, activity: Tensor, threshold: Tensor) -> Tensor:
        """Return how far each synapse is open, 0 to 1: (..., sources) -> (..., synapses)."""
        source = activity.index_select(-1, self.sources)
        return torch.addcmul(threshold, self.steepness, source).sigmoid()

    def strength(self) -> Tensor:
        """Return conductance times reversal, dense (sources, neurons), zero without a synapse."""
        dense = self.conductance.new_zeros(self.shape)
        dense[self.sources, self.targets] = softplus(self.conductance) * self.reversal
        return dense


class _Weights(NamedTuple):
    """Constants of a sequence, divided by the capacitance of the target."""

    sensory: Tensor  # (sensory synapses, 2 * neurons)
    recurrent: Tensor  # (recurrent synapses, 2 * neurons)
    threshold: Tensor  # (recurrent synapses,)
    rest: Tensor  # (2 * neurons,): the leak's drive and decay


class LTC(ContinuousCircuit):
    """Liquid time-constant neurons (Hasani et al. 2021, AAAI; synapses as in Lechner et al. 2020).

    C dx/dt = g (E_leak - x) + sum_j w_j f_j (E_j - x), with f_j = sigmoid(s_j (x_j - m_j)) over the
    synapses j that enter the neuron: capacitance C, leak g, conductance w, reversal potential E.
    In the form dx/dt = -(1/tau + f) x + f A, every input changes the time constant. Under the fused
    semi-implicit solver a state stays between the lowest and highest reversal potential for any
    elapsed time; explicit solvers need steps that are short compared with the time constants.

    Args:
        wiring: the neurons and their synapses; reversal potentials start with its polarities.
        ode_steps: solver steps in each control step.
        solver: "semi_implicit" (order 1), "euler" (1) or "rk4" (4).
        **options: as for `Circuit`; inputs and outputs are mapped affinely by default.
    """

    recurrent: _Conductances
    readout_step_length = STEP_LENGTH  # motor neurons hardly leave their means at first

    def __init__(
        self,
        wiring: Wiring,
        *,
        ode_steps: int = 6,
        solver: str = "semi_implicit",
        input_mapping: str | None = "affine",
        output_mapping: str | None = "affine",
        **options: Any,
    ) -> None:
        super().__init__(
            wiring,
            ode_steps=ode_steps,
            solver=solver,
            input_mapping=input_mapping,
            output_mapping=output_mapping,
            **options,
        )
        self.bound = 0.0 if self.memory is None else 1.0  # of the state before a step
        neurons = wiring.neuron_count
        self.sensory = _Conductances(wiring.sensory)
        self.recurrent = _Conductances(wiring.recurrent)
        self.capacitance = nn.Parameter(inverse_softplus(_uniform(neurons, 0.4, 0.6)))
        self.leak = nn.Parameter(inverse_softplus(_uniform(neurons, 0.001, 1.0)))
        self.leak_reversal = nn.Parameter(_uniform(neurons, -0.2, 0.2))
        self._apply_plasticity()

    @property
    def time_constants(self) -> Tensor:
        """Capacitance over leak, (neurons,), in seconds; open synapses shorten it."""
        return softplus(self.capacitance) / softplus(self.leak) * self.time_scale

    @torch.no_grad()
    def synapse_strengths(self) -> tuple[Tensor, Tensor]:
        """Return conductance times reversal: the pull of an open synapse on a neuron at zero."""
        return self.sensory.strength(), self.recurrent.strength()

    @torch.no_grad()
    def activity_range(self) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest of each neuron's reversals and its initial activity."""
        low, high = super().activity_range()
        low, high = low.minimum(self.leak_reversal), high.maximum(self.leak_reversal)
        for synapses in (self.sensory, self.recurrent):
            low = low.scatter_reduce(0, synapses.targets, synapses.reversal, "amin")
            high = high.scatter_reduce(0, synapses.targets, synapses.reversal, "amax")
        return low, high

    def step_lengths(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Yield conductances and steepnesses, as optimizer steps are short for their values.

        Initial steepnesses are 3 to 8, and the softplus flattens steps of small conductances.
        """
        for synapses in (self.sensory, self.recurrent):
            yield synapses.conductance, STEP_LENGTH
            yield synapses.steepness, STEP_LENGTH

    def program(self) -> Program | None:
        """The program of the semi-implicit solver, for circuits without mixed memory.

        conductances.h lists its tensors: the sensory synapses include the input mapping.
        """
        if type(self) is not LTC:  # a subclass may have other equations
            return None
        parameters = lookup(
            *(
                (synapses, name)
                for synapses in ("sensory", "recurrent")
                for name in ("steepness", "midpoint", "conductance", "reversal")
            ),
            *((name,) for name in ("capacitance", "leak", "leak_reversal")),
            *(
                () if getattr(self.input_mapping, name, None) is None else ("input_mapping", name)
                for name in ("gain", "offset")
            ),
        )
        return self._continuous_program("ltc", 4, parameters=parameters, maps_inputs=True)

    def _weights(self) -> _Weights:
        capacitance = softplus(self.capacitance)
        leak = softplus(self.leak) / capacitance
        return _Weights(
            self.sensory.into_neurons(capacitance),
            self.recurrent.into_neurons(capacitance),
            self.recurrent.threshold(),
            torch.cat([leak * self.leak_reversal, leak]),
        )

    def _sensory_sums(self, weights: _Weights, inputs: Tensor) -> tuple[Tensor, ...]:
        opening = self.sensory.opening(inputs, self.sensory.threshold())
        return (opening @ weights.sensory + weights.rest,)

    def _field(self, weights: _Weights) -> Callable[..., Field]:
        def under(sensory: Tensor) -> Field:
            def field(state: Tensor) -> tuple[Tensor, Tensor]:
                opening = self.recurrent.opening(state, weights.threshold)
                drive, decay = torch.addmm(sensory, opening, weights.recurrent).chunk(2, dim=-1)
                return drive, decay

            return field

        return under


def inverse_softplus(value: Tensor) -> Tensor:
    """Return the x with softplus(x) = value, for positive values."""
    return value + torch.log(-torch.expm1(-value))


def _uniform(count: int, low: float, high: float) -> Tensor:
    return torch.empty(count).uniform_(low, high)
