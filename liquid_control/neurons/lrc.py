"""Neurons with liquid resistance and liquid capacitance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from liquid_control.kernels.program import Parameters, Program
from liquid_control.neurons.continuous import ContinuousCircuit
from liquid_control.neurons.ctrnn import FASTEST
from liquid_control.neurons.ltc import STEP_LENGTH, inverse_softplus
from liquid_control.neurons.programs import lookup
from liquid_control.neurons.solvers import Field
from liquid_control.neurons.synapses import TANH_GAIN, SynapseList, weight_deviations
from liquid_control.wiring import Wiring

STEEPNESS = (2.0, 4.0)  # range of the initial values
OPENING_OF_INPUTS = 0.36  # deviation of a synapse's opening from inputs of unit deviation
OPENING_OF_NEURONS = 0.26  # the same for neurons, whose activity has a deviation of some 0.6


class _Synapses(SynapseList):
    """Graded synapses that drive a neuron, make it forget, and change its elastance.

    Parameters, one per synapse: `steepness` and `threshold` of the sigmoid of its source, the
    weight `drive` and the `conductance` (through a softplus, so that it stays positive) of the
    open synapse, and the weight `elastance` of the source itself.
    """

    def __init__(self, polarity: NDArray[np.int8], deviation: NDArray[Any], opening: float) -> None:
        super().__init__(polarity)
        sources, targets = np.nonzero(polarity)
        self.shape = polarity.shape
        count = len(sources)
        bound = torch.as_tensor(math.sqrt(3.0) * deviation[sources, targets]).float()
        sign = torch.as_tensor(polarity[sources, targets]).float()
        fan_in = torch.as_tensor(np.count_nonzero(polarity, axis=0)[targets]).float()
        self.steepness = nn.Parameter(torch.empty(count).uniform_(*STEEPNESS))
        self.threshold = nn.Parameter(torch.empty(count).uniform_(-0.5, 0.5))
        self.drive = nn.Parameter(torch.rand(count) * bound * sign / opening)
        # The sum of a neuron's conductances does not grow with the number of its synapses.
        self.conductance = nn.Parameter(
            inverse_softplus(torch.empty(count).uniform_(0.01, 1.0) / fan_in)
        )
        self.elastance = nn.Parameter((2 * torch.rand(count) - 1) * bound)

    def resting(self) -> tuple[Tensor, Tensor]:
        """Return the drive and the conductance that inactive sources give each neuron."""
        opening = self.threshold.sigmoid()
        drive, conductance = (
            weight.new_zeros(self.shape[1]).index_add(0, self.targets, opening * weight)
            for weight in (self.drive, softplus(self.conductance))
        )
        return drive, conductance

    def numbers(self) -> Tensor:
        """Return the parameters of each synapse for the kernels, (5, synapses)."""
        return torch.stack(
            [
                self.steepness,
                self.threshold,
                self.drive,
                softplus(self.conductance),
                self.elastance,
            ]
        )

    def into_neurons(self) -> Tensor:
        """Return each open synapse's drive and forgetting, (synapses, 2 * neurons)."""
        ends = one_hot(self.targets, self.shape[1])
        weights = (self.drive, softplus(self.conductance))
        return torch.cat([ends * weight[:, None] for weight in weights], dim=1)

    def opening(self, activity: Tensor) -> Tensor:
        """Return how far each synapse is open, 0 to 1: (..., sources) -> (..., synapses)."""
        source = activity.index_select(-1, self.sources)
        return torch.addcmul(self.threshold, self.steepness, source).sigmoid()

    def dense(self, values: Tensor) -> Tensor:
        """Return one value per synapse as a matrix (sources, neurons), zero without a synapse."""
        made = values.new_zeros(self.shape)
        return made.index_put((self.sources, self.targets), values)


class _Weights(NamedTuple):
    """Constants of a sequence."""

    sensory: Tensor  # (sensory synapses, 2 * neurons)
    recurrent: Tensor  # (recurrent synapses, 2 * neurons)
    from_inputs: Tensor  # (sensory, neurons), to the elastance
    from_neurons: Tensor  # (neurons, neurons), to the elastance
    rate: Tensor  # (neurons,), per unit of time


class LRC(ContinuousCircuit):
    """Neurons of liquid resistance and liquid capacitance (Farsang et al. 2024, arXiv 2403.08791).

    tau dx/dt = sigmoid(w) (E tanh(u) - sigmoid(f) x), where over the synapses j that enter the
    neuron, with y_j = sigmoid(s_j x_j + b_j):

    - u = q + sum_j h_j y_j drives it towards its reversal potential E,
    - f = g + sum_j c_j y_j makes it forget; leak g and conductances c_j are positive,
    - w = p + sum_j o_j x_j is its elastance, one over the capacitance; this is the paper's
      asymmetric elastance.

    Since these functions saturate, a neuron's rates are bounded for inputs of any size, and under
    the semi-implicit solver a state stays within E / sigmoid(g) for any elapsed time. The paper has
    one leak for q and g, and measures time in steps; the trainable tau measures it in seconds.
    LrcSSM (Farsang & Grosu 2025, arXiv 2505.21717) is the same equation with synapses from inputs
    and from each neuron to itself alone.

    Time constants of neurons at rest start log-uniform from a tenth of `time_scale` to
    `time_scale`, weights keep the deviation of signals as in the other models, and drives start
    with the wiring's polarity.

    Args:
        wiring: the neurons and their synapses.
        ode_steps: solver steps in each control step.
        solver: "semi_implicit" (order 1), "euler" (1; the paper's) or "rk4" (4).
        **options: as for `Circuit`.
    """

    recurrent: _Synapses

    def __init__(self, wiring: Wiring, **options: Any) -> None:
        super().__init__(wiring, **options)
        neurons = wiring.neuron_count
        sensory, recurrent = weight_deviations(wiring, 1.0)
        self.sensory = _Synapses(wiring.sensory, sensory, OPENING_OF_INPUTS)
        self.recurrent = _Synapses(wiring.recurrent, recurrent, OPENING_OF_NEURONS)
        with torch.no_grad():
            self.recurrent.elastance.mul_(TANH_GAIN)
            input_drive, input_conductance = self.sensory.resting()
            drive, conductance = self.recurrent.resting()
        leak = torch.empty(neurons).uniform_(0.001, 1.0)
        self.leak = nn.Parameter(inverse_softplus(leak))
        forget = torch.sigmoid(leak + input_conductance + conductance)
        self.bias = nn.Parameter(torch.stack([-(input_drive + drive), torch.zeros(neurons)]))
        self.reversal = nn.Parameter(forget)
        at_rest = torch.empty(neurons).uniform_(math.log(FASTEST), 0.0)
        self.log_tau = nn.Parameter(at_rest + torch.log(0.5 * forget))
        self._apply_plasticity()

    @property
    def time_constants(self) -> Tensor:
        """Tau over elastance and leak of a neuron with closed synapses, (neurons,), in seconds."""
        rate = self.bias[1].sigmoid() * softplus(self.leak).sigmoid()
        return self.log_tau.exp() / rate * self.time_scale

    @torch.no_grad()
    def synapse_strengths(self) -> tuple[Tensor, Tensor]:
        """Return the slope of E tanh(u) by the source of a half open synapse, at u = 0."""
        sensory, recurrent = (
            each.dense(each.drive * each.steepness / 4) * self.reversal
            for each in (self.sensory, self.recurrent)
        )
        return sensory, recurrent

    @torch.no_grad()
    def activity_range(self) -> tuple[Tensor, Tensor]:
        """Return plus and minus E over the least forgetting, or one after a mixed memory."""
        high = self.reversal.abs() / softplus(self.leak).sigmoid()
        if self.memory is not None:
            high = high.clamp(min=1.0)
        return -high, high

    def step_lengths(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Yield conductances and steepnesses, as optimizer steps are short for their values.

        The softplus flattens steps of small conductances, as in LTC.
        """
        for synapses in (self.sensory, self.recurrent):
            yield synapses.conductance, STEP_LENGTH
            yield synapses.steepness, STEP_LENGTH

    def program(self) -> Program | None:
        """The program of the semi-implicit solver, for circuits without mixed memory."""
        if type(self) is not LRC:  # a subclass may have other equations
            return None
        places = lookup(("leak",), ("bias",), ("reversal",), ("log_tau",))

        def parameters(circuit: LRC) -> Parameters:
            leak, bias, reversal, log_tau = places(circuit)
            assert leak is not None
            assert bias is not None
            assert reversal is not None
            assert log_tau is not None
            return [
                circuit.sensory.numbers(),
                circuit.recurrent.numbers(),
                torch.stack([bias[0], softplus(leak), bias[1]]),
                torch.stack([reversal, torch.exp(-log_tau)]),
            ]

        return self._continuous_program("lrc", 5, parameters=parameters)

    def _weights(self) -> _Weights:
        return _Weights(
            self.sensory.into_neurons(),
            self.recurrent.into_neurons(),
            self.sensory.dense(self.sensory.elastance),
            self.recurrent.dense(self.recurrent.elastance),
            torch.exp(-self.log_tau),
        )

    def _sensory_sums(self, weights: _Weights, inputs: Tensor) -> tuple[Tensor, ...]:
        rest = torch.cat([self.bias[0], softplus(self.leak)])
        sensory = self.sensory.opening(inputs) @ weights.sensory + rest
        return sensory, inputs @ weights.from_inputs + self.bias[1]

    def _field(self, weights: _Weights) -> Callable[..., Field]:
        def under(sensory: Tensor, sensory_elastance: Tensor) -> Field:
            def field(state: Tensor) -> tuple[Tensor, Tensor]:
                opening = self.recurrent.opening(state)
                drive, forget = torch.addmm(sensory, opening, weights.recurrent).chunk(2, dim=-1)
                elastance = torch.addmm(sensory_elastance, state, weights.from_neurons).sigmoid()
                rate = weights.rate * elastance
                return rate * self.reversal * drive.tanh(), rate * forget.sigmoid()

            return field

        return under
