"""Neurons that are updated layer by layer, from affine sums over their synapses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from liquid_control.neurons.blocks import Block, feedforward, layered
from liquid_control.neurons.circuit import Circuit
from liquid_control.neurons.synapses import MEMORY, Synapses, weight_deviations
from liquid_control.neurons.unroll import Step
from liquid_control.wiring import Wiring

Weights = tuple[Tensor, Tensor]
"""Dense sensory and recurrent weights, (sources, gates, neurons)."""


class LayeredCircuit(Circuit):
    """A circuit whose neurons are functions of `gates` sums over their synapses.

    A subclass defines `update`, from the sums to the neurons' new state. Layers follow each other
    within a control step, so an input reaches the motor neurons in the step in which it changes.
    """

    recurrent: Synapses
    uses_own_state = False  # whether `update` uses the neuron's own previous state
    slopes: Sequence[float]  # of a neuron at rest by its first gates; zero by the others

    def __init__(
        self,
        wiring: Wiring,
        *,
        gates: int,
        signed: int,
        gain: float,
        memory_gain: float = MEMORY,
        **options: Any,
    ) -> None:
        super().__init__(wiring, **options)
        sensory, recurrent = weight_deviations(wiring, gain, memory_gain)
        self.gates = gates
        self.sensory = Synapses(wiring.sensory, gates, sensory, signed)
        self.recurrent = Synapses(wiring.recurrent, gates, recurrent, signed)
        self.bias = nn.Parameter(torch.zeros(gates, wiring.neuron_count))
        self.blocks = layered(
            wiring, together=self.memory is not None, uses_own_state=self.uses_own_state
        )

    @abstractmethod
    def update(
        self, gates: Tensor, own: Sequence[Tensor], elapsed: Tensor, neurons: slice
    ) -> tuple[Tensor, ...]:
        """Return the new state parts of some neurons.

        Args:
            gates: (..., gates * n), gate by gate.
            own: the neurons' previous state parts, each (..., n); empty for a layer without past.
            elapsed: (..., 1) in time scales.
            neurons: their place in the wiring.
        """

    def _weights(self) -> Weights:
        return self.sensory.matrix(), self.recurrent.matrix()

    def _prepare(
        self,
        block: Block,
        weights: Weights,
        inputs: Tensor,
        upstream: Sequence[Tensor],
    ) -> tuple[Step, tuple[Tensor, ...]]:
        layers = [slice(block.start + s.start, block.start + s.stop) for s in block.layers]
        drives = [self._drive(block, layer, weights, inputs, upstream) for layer in layers]
        updates = [partial(self.update, neurons=layer) for layer in layers]
        if not block.recurrent:

            def at_once(state: None, elapsed: Tensor, drive: Tensor) -> Tensor:
                return updates[0](drive, (), elapsed)[0]

            return at_once, tuple(drives)
        sources = weights[1][block.neurons]
        columns = [sources[:, :, layer].flatten(1) for layer in layers]
        sizes = [layer.stop - layer.start for layer in layers] * self.state_parts

        def sweep(state: Tensor, elapsed: Tensor, *drives: Tensor) -> Tensor:
            """Update layer by layer; a layer receives the new activity of those before it."""
            pieces = list(state.split(sizes, dim=-1)) if len(sizes) > 1 else [state]
            for index, (drive, weight, update) in enumerate(
                zip(drives, columns, updates, strict=True)
            ):
                gates = self._gates(drive, _joined(pieces[: len(layers)]), weight)
                pieces[index :: len(layers)] = update(gates, pieces[index :: len(layers)], elapsed)
            return _joined(pieces)

        return sweep, tuple(drives)

    def _gates(self, drive: Tensor, activity: Tensor, weight: Tensor) -> Tensor:
        """Return the gates of a layer in one step, as `update` takes them.

        Args:
            drive: the sums over synapses from outside its block, (batch, gates * n).
            activity: the neurons of its block, (batch, block).
            weight: the synapses from them, (block, gates * n).
        """
        return torch.addmm(drive, activity, weight)

    @torch.no_grad()
    def synapse_strengths(self) -> tuple[Tensor, Tensor]:
        """Return the slope of a target at rest by its source, with its time gate half open."""
        sensory, recurrent = self._weights()
        slopes = sensory.new_tensor(self.slopes)
        strengths = (slopes @ weights[:, : len(slopes)] for weights in (sensory, recurrent))
        return next(strengths), next(strengths)

    def _gate_sum(self, gate: int, inputs: Tensor, activity: Tensor, past: Tensor) -> Tensor:
        """Return the sums of one gate, (time, batch, neurons).

        Earlier layers act in the same step, other neurons one step later.
        """
        sensory, recurrent = (weights[:, gate] for weights in self._weights())
        now = recurrent * torch.as_tensor(feedforward(self.wiring), device=inputs.device)
        return self.bias[gate] + inputs @ sensory + activity @ now + past @ (recurrent - now)

    def _drive(
        self,
        block: Block,
        layer: slice,
        weights: Weights,
        inputs: Tensor,
        upstream: Sequence[Tensor],
    ) -> Tensor:
        """Return a layer's sums from outside its block, (time, batch, gates * n), for all steps."""
        sensory, recurrent = weights
        drive = self.bias[:, layer].flatten().expand(*inputs.shape[:2], -1)
        if block.sensory:
            drive = drive + inputs @ sensory[:, :, layer].flatten(1)
        if block.upstream:
            activity = torch.cat(list(upstream), dim=-1)
            drive = drive + activity @ recurrent[: block.start, :, layer].flatten(1)
        return drive


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=-1)
