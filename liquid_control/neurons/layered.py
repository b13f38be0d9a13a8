"""Neurons that are updated layer by layer, from gates that are affine in what they hear."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from liquid_control.neurons.blocks import Block, layered
from liquid_control.neurons.circuit import Circuit
from liquid_control.neurons.synapses import Synapses, fan_in
from liquid_control.neurons.unroll import Step
from liquid_control.wiring import Wiring

Weights = tuple[Tensor, Tensor]
"""Dense sensory and recurrent weights, (sources, gates, neurons)."""


class LayeredCircuit(Circuit):
    """A circuit whose neurons are functions of `gates` sums over their synapses.

    A subclass says how: `update` turns the sums into the neurons' new state. Layers follow each
    other within a control step, so a sensation reaches the motor neurons in the step it is felt.
    """

    remembers = False  # whether `update` uses the neuron's own previous state

    def __init__(self, wiring: Wiring, *, gates: int, signed: int, **options: Any) -> None:
        super().__init__(wiring, **options)
        incoming = fan_in(wiring)
        self.gates = gates
        self.sensory = Synapses(wiring.sensory, gates, incoming, signed)
        self.recurrent = Synapses(wiring.recurrent, gates, incoming, signed)
        self.bias = nn.Parameter(torch.zeros(gates, wiring.neuron_count))
        self._layered = layered(wiring, together=self.memory is not None, remembers=self.remembers)

    def hear(self, drive: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
        """What reaches some neurons in one step, gate by gate: (batch, gates * n).

        Args:
            drive: (batch, gates * n), the part from outside the block.
            hidden: (batch, block), the block's neurons.
            weight: (block, gates * n), their synapses.
        """
        return torch.addmm(drive, hidden, weight)

    @abstractmethod
    def update(
        self, gates: Tensor, own: Sequence[Tensor], elapsed: Tensor, neurons: slice
    ) -> tuple[Tensor, ...]:
        """The new state parts of some neurons.

        Args:
            gates: (..., gates * n), gate by gate.
            own: the neurons' previous state parts, each (..., n); empty for a layer without past.
            elapsed: (..., 1) in time scales.
            neurons: which ones they are.
        """

    def _blocks(self) -> Sequence[Block]:
        return self._layered

    def _weights(self) -> Weights:
        return self.sensory.matrix(), self.recurrent.matrix()

    def _prepare(
        self,
        block: Block,
        weights: Weights,
        inputs: Tensor,
        upstream: Sequence[Tensor],
        elapsed: Tensor,
    ) -> tuple[Step, tuple[Tensor, ...]]:
        within = [slice(block.start + s.start, block.start + s.stop) for s in block.layers]
        drives = tuple(self._drive(block, layer, weights, inputs, upstream) for layer in within)
        if not block.recurrent:
            (layer,) = within

            def at_once(state: None, elapsed: Tensor, drive: Tensor) -> Tensor:
                return self.update(drive, (), elapsed, layer)[0]

            return at_once, drives
        sources = weights[1][block.neurons]
        columns = [sources[:, :, layer].flatten(1) for layer in within]

        def sweep(state: Tensor, elapsed: Tensor, *drives: Tensor) -> Tensor:
            parts: Sequence[Tensor] = state.chunk(self.state_parts, dim=-1)
            for drive, weight, local, layer in zip(
                drives, columns, block.layers, within, strict=True
            ):
                gates = self.hear(drive, parts[0], weight)
                own = parts if len(within) == 1 else [part[:, local] for part in parts]
                new = self.update(gates, own, elapsed, layer)
                parts = [_replace(*pair, local) for pair in zip(parts, new, strict=True)]
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)  # type: ignore[arg-type]

        return sweep, drives

    def _drive(
        self,
        block: Block,
        layer: slice,
        weights: Weights,
        inputs: Tensor,
        upstream: Sequence[Tensor],
    ) -> Tensor:
        """What a layer hears from outside its block: (time, batch, gates * n), for all steps."""
        sensory, recurrent = weights
        drive = self.bias[:, layer].flatten().expand(*inputs.shape[:2], -1)
        if block.sensory:
            drive = drive + inputs @ sensory[:, :, layer].flatten(1)
        if block.upstream:
            heard = torch.cat(list(upstream), dim=-1)
            drive = drive + heard @ recurrent[: block.start, :, layer].flatten(1)
        return drive


def _replace(whole: Tensor, piece: Tensor, where: slice) -> Tensor:
    """`whole` (batch, n) with the columns `where` exchanged for `piece`."""
    if piece.shape == whole.shape:
        return piece
    return torch.cat([whole[:, : where.start], piece, whole[:, where.stop :]], dim=-1)
