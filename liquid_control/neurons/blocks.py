"""The order of computation: which layers need the loop over time, and which do not.

Within a control step layers update in order, so a synapse to a later layer carries the activity of
its source in the *same* step, and only a synapse within a layer, or back to an earlier one, carries
the previous step. A layer that no such synapse enters is a function of the layers before it
and is computed for all steps at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liquid_control.wiring import Wiring


@dataclass(frozen=True)
class Block:
    """Consecutive layers that are unrolled together, because synapses lead back among them.

    Attributes:
        start: index of its first neuron.
        layers: each layer's slice, relative to `start`.
        recurrent: whether a step needs the step before it.
        sensory: whether a sensory synapse enters the block.
        upstream: whether a synapse from an earlier block enters it.
    """

    start: int
    layers: tuple[slice, ...]
    recurrent: bool
    sensory: bool
    upstream: bool

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(self.layers[-1].stop)

    @property
    def neurons(self) -> slice:
        """Slice of its neurons in the wiring."""
        return slice(self.start, self.start + self.size)


def feedforward(wiring: Wiring) -> NDArray[np.bool_]:
    """Return which pairs of neurons a synapse would connect within a step, (neurons, neurons).

    Those are the pairs from a layer to a later one. The other synapses are the circuit's memory:
    they carry the previous step.
    """
    sizes = [size for _, size in wiring.layers]
    layer = np.repeat(np.arange(len(sizes)), sizes)
    return layer[:, None] < layer


def whole(wiring: Wiring) -> tuple[Block, ...]:
    """Return one block of one layer: all neurons are updated at once, as in an ODE."""
    return (
        Block(
            0,
            (slice(0, wiring.neuron_count),),
            recurrent=True,
            sensory=True,
            upstream=False,
        ),
    )


def layered(
    wiring: Wiring, *, together: bool = False, uses_own_state: bool = False
) -> tuple[Block, ...]:
    """Group the layers of a wiring into the smallest blocks that no synapse leads back to.

    Args:
        wiring: its layers in order, and its synapses.
        together: put all layers into one block.
        uses_own_state: whether a neuron uses its own previous state, even without a synapse to
            itself.
    """
    layers = list(wiring.layer_slices.values())
    return tuple(
        _block(wiring, layers[first:end], uses_own_state or together)
        for first, end in _groups(wiring, layers, together)
    )


def _groups(wiring: Wiring, layers: Sequence[slice], together: bool) -> list[tuple[int, int]]:
    """Return the first and end index of each run of layers that are coupled by feedback."""
    groups: list[tuple[int, int]] = []
    for index, layer in enumerate(layers):
        first = index
        for earlier in range(index):
            if together or np.any(wiring.recurrent[layer, layers[earlier]]):
                first = earlier
                break
        while groups and groups[-1][1] > first:
            first = min(first, groups.pop()[0])
        groups.append((first, index + 1))
    return groups


def _block(wiring: Wiring, layers: Sequence[slice], uses_own_state: bool) -> Block:
    start, stop = layers[0].start, layers[-1].stop
    # Since layers update in order, only a synapse to a later layer is immediate.
    delayed = any(np.any(wiring.recurrent[layer.start : stop, layer]) for layer in layers)
    return Block(
        start,
        tuple(slice(layer.start - start, layer.stop - start) for layer in layers),
        recurrent=uses_own_state or delayed,
        sensory=bool(np.any(wiring.sensory[:, start:stop])),
        upstream=bool(np.any(wiring.recurrent[:start, start:stop])),
    )
