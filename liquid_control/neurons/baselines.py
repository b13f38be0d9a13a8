"""The field's discrete-time neurons, behind the same contract, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from liquid_control.neurons.layered import LayeredCircuit
from liquid_control.neurons.memory import LSTM_GATES, lstm_bias, lstm_update
from liquid_control.wiring import Wiring

GRU_GATES = 3  # reset, keep, candidate, as nn.GRU orders them


class _GatedCircuit(LayeredCircuit):
    """Discrete-time gates that hear the elapsed time as one more input.

    They know no time, so that a comparison at variable rates is fair they are told: each gate adds
    a trainable weight times elapsed_time / time_scale - 1, which is zero at the nominal rate.
    """

    remembers = True
    slopes = (0.0, 0.0, 1.0)  # the candidate's, third of either model's gates

    def __init__(self, wiring: Wiring, *, gates: int, **options: Any) -> None:
        if "memory" in options:
            raise TypeError(f"{type(self).__name__} has a memory of its own; leave out memory=")
        super().__init__(wiring, gates=gates, signed=0, **options)
        self.elapsed_weight = nn.Parameter(torch.zeros(gates, wiring.neuron_count))

    def _add_time(self, gates: Tensor, elapsed: Tensor, neurons: slice) -> Tensor:
        return torch.addcmul(gates, elapsed - 1, self.elapsed_weight[:, neurons].flatten())


class LSTM(_GatedCircuit):
    """Long short-term memory along the wiring's synapses (nn.LSTM's equations).

    The state is (hidden, cell). Elapsed time is one more input of each gate, measured from the
    nominal interval.

    Args:
        wiring: who talks to whom; `dense` for the usual LSTM.
        **options: as for `Circuit`, without `memory`.
    """

    state_parts = 2

    def __init__(self, wiring: Wiring, **options: Any) -> None:
        super().__init__(wiring, gates=LSTM_GATES, **options)
        self.bias = lstm_bias(wiring.neuron_count)
        self._apply_plasticity()

    def update(
        self, gates: Tensor, own: Sequence[Tensor], elapsed: Tensor, neurons: slice
    ) -> tuple[Tensor, ...]:
        """Hidden and cell after one step."""
        return lstm_update(self._add_time(gates, elapsed, neurons), own[1])


class GRU(_GatedCircuit):
    """Gated recurrent units along the wiring's synapses (Cho et al. 2014; nn.GRU's equations).

    As in nn.GRU the reset gate acts on what the candidate hears from the previous step, after its
    synapses, and that sum has a bias of its own. Elapsed time is one more input of each gate.

    Args:
        wiring: who talks to whom; `dense` for the usual GRU.
        **options: as for `Circuit`, without `memory`.
    """

    def __init__(self, wiring: Wiring, **options: Any) -> None:
        super().__init__(wiring, gates=GRU_GATES, **options)
        self.recurrent_bias = nn.Parameter(torch.zeros(wiring.neuron_count))
        self._apply_plasticity()

    def _gates(self, drive: Tensor, activity: Tensor, weight: Tensor) -> Tensor:
        """Both sums side by side, since the reset gate scales one of them: 2 * gates * n numbers."""
        return torch.cat([drive, activity @ weight], dim=-1)

    def update(
        self, gates: Tensor, own: Sequence[Tensor], elapsed: Tensor, neurons: slice
    ) -> tuple[Tensor, ...]:
        """The state after one step."""
        drive, echo = gates.chunk(2, dim=-1)
        reset, keep, candidate = self._add_time(drive, elapsed, neurons).chunk(3, dim=-1)
        echo_reset, echo_keep, echo_candidate = echo.chunk(3, dim=-1)
        reset = (reset + echo_reset).sigmoid()
        keep = (keep + echo_keep).sigmoid()
        candidate = (candidate + reset * (echo_candidate + self.recurrent_bias[neurons])).tanh()
        return (torch.lerp(candidate, own[0], keep),)
