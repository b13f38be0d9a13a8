"""Parts of the programs that describe neuron models to the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.kernels.program import Bank, Layer, Parameters
from liquid_control.neurons.blocks import Block, feedforward
from liquid_control.wiring import Wiring

Place = tuple[str, ...]
"""Names of nested modules, from the circuit inwards, and of a parameter there; or empty."""


@dataclass(frozen=True)
class Slots:
    """Slots of the sources of a wiring's synapses; see `Program`.

    Attributes:
        wiring: inputs, neurons and synapses.
        hidden: neurons of the mixed memory.
    """

    wiring: Wiring
    hidden: int = 0

    @property
    def clock(self) -> int:
        """The slot of the elapsed time."""
        return self.wiring.sensory_count

    @property
    def now(self) -> int:
        """The slot of the first neuron's activity in this step."""
        return self.clock + 1

    @property
    def before(self) -> int:
        """The slot of the first neuron's activity in the step before."""
        return self.now + self.hidden + self.wiring.neuron_count

    def sensory(self, numbers: int, *, into: int = 0) -> Bank:
        """Return the sensory synapses, to the neurons from `into` on."""
        sources, targets = np.nonzero(self.wiring.sensory)
        return sources.tolist(), (into + targets).tolist(), numbers

    def recurrent(self, slots: NDArray[Any], numbers: int, *, into: int = 0) -> Bank:
        """Return the synapses among the neurons, to those from `into` on.

        `slots` has the slot of each synapse's source, (synapses,).
        """
        _, targets = np.nonzero(self.wiring.recurrent)
        return slots.tolist(), (into + targets).tolist(), numbers

    def timed(self, numbers: int) -> Bank:
        """Return one synapse from the elapsed time to each neuron."""
        neurons = self.wiring.neuron_count
        return [self.clock] * neurons, list(range(neurons)), numbers

    def by_layer(self, now: int, before: int) -> NDArray[Any]:
        """Return the slots of recurrent synapses' sources where layers update in order.

        A synapse to a later layer carries its source's activity in this step, from slot `now` on,
        and any other its activity in the step before, from slot `before` on.
        """
        sources, targets = np.nonzero(self.wiring.recurrent)
        within_step = feedforward(self.wiring)[sources, targets]
        slots: NDArray[Any] = sources + np.where(within_step, now, before)
        return slots


def layers(kind: str, blocks: Sequence[Block], first: int = 0) -> list[Layer]:
    """Return the layers of some blocks, with their neurons numbered from `first`."""
    return [
        (kind, first + block.start + layer.start, first + block.start + layer.stop, number)
        for number, block in enumerate(blocks)
        for layer in block.layers
    ]


def lookup(*places: Place) -> Callable[[Any], Parameters]:
    """Return a function from a circuit to its parameters at some places, None for an empty place.

    PyTorch searches a module's parameters last for an attribute, which takes longer than an acting
    step of the kernels. This function searches them first.
    """
    split = [(place[:-1], place[-1]) if place else None for place in places]

    def look_up(circuit: Any) -> Parameters:
        found: Parameters = []
        for place in split:
            if place is None:
                found.append(None)
                continue
            path, name = place
            module = circuit
            for part in path:
                module = module._modules[part]
            parameter = module._parameters.get(name)
            found.append(getattr(module, name) if parameter is None else parameter)
        return found

    return look_up
