"""The long short-term memory: before other neurons (mixed memory), or alone (the baseline)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from liquid_control.neurons.synapses import Synapses, weight_deviations
from liquid_control.neurons.unroll import Keep, Step, unroll
from liquid_control.wiring import Wiring

LSTM_GATES = 4
LSTM_GAIN = 4.6  # see `weight_deviations`


def lstm_update(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return hidden and cell after one LSTM step (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    Args:
        gates: (..., 4 neurons): input, forget, candidate and output gate, as nn.LSTM orders them.
        cell: (..., neurons).
    """
    write, keep, candidate, read = gates.chunk(LSTM_GATES, dim=-1)
    cell = keep.sigmoid() * cell + write.sigmoid() * candidate.tanh()
    return read.sigmoid() * cell.tanh(), cell


def lstm_bias(neurons: int) -> nn.Parameter:
    """Return biases (4, neurons) of zero, and one at the forget gate (Jozefowicz et al. 2015)."""
    bias = torch.zeros(LSTM_GATES, neurons)
    bias[1] = 1.0
    return nn.Parameter(bias)


class Memory(nn.Module):
    """Mixed memory: an LSTM along the wiring's synapses, updated before the neurons' own dynamics.

    The gradient of an ODE vanishes or explodes over long sequences; that of the cell does not
    (Lechner & Hasani 2020, "Learning long-term dependencies in irregularly-sampled time series",
    alg. 1).
    The state is (hidden, cell), both (batch, neurons).
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        sensory, recurrent = weight_deviations(wiring, LSTM_GAIN)
        self.sensory = Synapses(wiring.sensory, LSTM_GATES, sensory)
        self.recurrent = Synapses(wiring.recurrent, LSTM_GATES, recurrent)
        self.bias = lstm_bias(wiring.neuron_count)

    def before(
        self, step: Step, drives: tuple[Tensor, ...], inputs: Tensor
    ) -> tuple[Step, tuple[Tensor, ...]]:
        """Return a step that updates the memory before `step`, and its drives."""
        weight = self.recurrent.matrix().flatten(1)
        drive = self._drive(inputs)

        def with_memory(state: Tensor, elapsed: Tensor, drive: Tensor, *drives: Tensor) -> Tensor:
            hidden, cell = state.chunk(2, dim=-1)
            hidden, cell = lstm_update(torch.addmm(drive, hidden, weight), cell)
            return torch.cat([step(hidden, elapsed, *drives), cell], dim=-1)

        return with_memory, (drive, *drives)

    def recall(self, inputs: Tensor, past: Tensor, keep: Keep) -> Tensor:
        """Return the memory's activity, which replaces the neurons' own past.

        It is (time, batch, neurons).

        Args:
            inputs: (time, batch, sensory), mapped.
            past: the neurons' activity one step before each, (time, batch, neurons).
            keep: as in `unroll`.
        """
        gates = self._drive(inputs) + past @ self.recurrent.matrix().flatten(1)

        def step(state: Tensor, elapsed: Tensor, gates: Tensor) -> Tensor:
            return torch.cat(lstm_update(gates, state.chunk(2, dim=-1)[1]), dim=-1)

        start = torch.cat([past[0], torch.zeros_like(past[0])], dim=-1)
        trajectory, _ = unroll(step, start, torch.ones_like(past[..., :1]), keep, (gates,))
        return trajectory.chunk(2, dim=-1)[0]

    def _drive(self, inputs: Tensor) -> Tensor:
        return inputs @ self.sensory.matrix().flatten(1) + self.bias.flatten()
