"""Weights that exist only where the wiring has a synapse."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from liquid_control.wiring import Wiring


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
        fan_in: (targets,) incoming synapses over *all* matrices that feed the neuron. Weights start
            uniform with variance 1 / fan_in, which keeps the summed input near unit variance.
        signed: how many leading gates start with the wiring's polarity; the others start with
            either sign.
    """

    _entries: Tensor

    def __init__(
        self,
        polarity: NDArray[np.int8],
        gates: int,
        fan_in: NDArray[np.int64],
        signed: int = 0,
    ) -> None:
        super().__init__(polarity)
        sources, targets = np.nonzero(polarity)
        source_count, self.target_count = polarity.shape
        self.gates = gates
        entries = (sources * gates + np.arange(gates)[:, None]) * self.target_count + targets
        self.register_buffer("_entries", torch.as_tensor(entries.ravel()), persistent=False)
        self._shape = (source_count, gates, self.target_count)

        bound = torch.as_tensor(np.sqrt(3.0 / np.maximum(fan_in, 1))[targets], dtype=torch.float32)
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


def fan_in(wiring: Wiring) -> NDArray[np.int64]:
    """Return the number of incoming synapses of each neuron, (neurons,), sensory and recurrent."""
    incoming: NDArray[np.int64] = np.count_nonzero(
        np.concatenate([wiring.sensory, wiring.recurrent]), axis=0
    )
    return incoming
