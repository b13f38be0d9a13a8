"""Weights that exist only where the wiring has a synapse."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from liquid_control.neurons.blocks import feedforward
from liquid_control.wiring import Wiring

TANH_GAIN = 1.6  # see `weight_deviations`
MEMORY = 0.2  # initial strength of the synapses that carry the past


class SynapseList(nn.Module):
    """The synapses in one polarity matrix, in row-major order.

    `sources` and `targets`, (synapses,), are the neurons that a synapse connects.

    Args:
        polarity: (sources, targets) with entries -1, 0 or +1.
    """

    sources: Tensor
    targets: Tensor

    def __init__(self, polarity: NDArray[np.int8]) -> None:
        super().__init__()
        sources, targets = np.nonzero(polarity)
        self.register_buffer("sources", torch.as_tensor(sources), persistent=False)
        self.register_buffer("targets", torch.as_tensor(targets), persistent=False)

    def __len__(self) -> int:
        return len(self.sources)


class Synapses(SynapseList):
    """Trainable weights (gates, synapses) of the synapses in one polarity matrix.

    Args:
        polarity: (sources, targets) with entries -1, 0 or +1.
        gates: weights per synapse; a gated neuron sums its input once for each gate.
        deviation: of the initial weights, (sources, targets); they are uniform around zero.
        signed: how many leading gates start with the wiring's polarity; the others start with
            either sign.
    """

    _entries: Tensor

    def __init__(
        self,
        polarity: NDArray[np.int8],
        gates: int,
        deviation: NDArray[np.float64],
        signed: int = 0,
    ) -> None:
        super().__init__(polarity)
        sources, targets = np.nonzero(polarity)
        source_count, self.target_count = polarity.shape
        self.gates = gates
        entries = (sources * gates + np.arange(gates)[:, None]) * self.target_count + targets
        self.register_buffer("_entries", torch.as_tensor(entries.ravel()), persistent=False)
        self._shape = (source_count, gates, self.target_count)

        bound = torch.as_tensor(math.sqrt(3.0) * deviation[sources, targets]).float()
        weight = (2 * torch.rand(gates, len(sources)) - 1) * bound
        sign = torch.as_tensor(polarity[sources, targets], dtype=torch.float32)
        weight[:signed] = weight[:signed].abs() * sign
        self.weight = nn.Parameter(weight)

    def matrix(self) -> Tensor:
        """Return the weights as a dense (sources, gates, targets) tensor, zero without a synapse.

        It is differentiable, and computed once per unroll. Only synapses receive a gradient.
        """
        dense = self.weight.new_zeros(math.prod(self._shape))
        return dense.index_copy(0, self._entries, self.weight.flatten()).view(self._shape)


def weight_deviations(
    wiring: Wiring, gain: float, memory_gain: float = MEMORY
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return deviations of initial weights that preserve signals from sensors to motor neurons.

    As in Glorot & Bengio 2010, weights have a variance of one over the fan-in, here that of the
    synapses that act within the step. Sensory inputs of unit deviation then give each neuron a sum
    of unit deviation, and so does every later layer, since the weights of its synapses are larger
    by `gain`, which compensates for the neurons' attenuation.

    Synapses that carry the previous step start at `memory_gain` of that deviation, over their own
    fan-in: a strong random memory would amplify every change of the weights over time.

    Args:
        wiring: the neurons and their synapses.
        gain: one over the root mean square of a neuron's activity for independent standard normal
            sums; `TANH_GAIN` for tanh.
        memory_gain: of synapses that carry the previous step.

    Returns:
        (sensory, neurons) and (neurons, neurons); entries without a synapse have no meaning.

    Raises:
        ValueError: `memory_gain` is negative or not finite.
    """
    if not isinstance(memory_gain, Real) or not 0 <= memory_gain < float("inf"):
        raise ValueError(f"memory_gain must be 0 or more, and finite, got {memory_gain!r}")
    within_step = feedforward(wiring)
    present = wiring.recurrent != 0
    direct = np.count_nonzero(wiring.sensory, axis=0)
    direct = direct + np.count_nonzero(present & within_step, axis=0)
    past = np.count_nonzero(present & ~within_step, axis=0)
    of_direct, of_past = (1 / np.sqrt(np.maximum(fan_in, 1)) for fan_in in (direct, past))
    sensory = np.broadcast_to(of_direct, wiring.sensory.shape)
    return sensory, gain * np.where(within_step, of_direct, memory_gain * of_past)
