"""LSTM and GRU: discrete-time baselines with the interface of `Circuit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from liquid_control.kernels.program import Parameters, Program
from liquid_control.neurons.layered import LayeredCircuit
from liquid_control.neurons.memory import LSTM_GAIN, LSTM_GATES, lstm_bias, lstm_update
from liquid_control.neurons.programs import Slots, layers, lookup
from liquid_control.wiring import Wiring

GRU_GAIN = 2.5  # see `weight_deviations`
GRU_GATES = 3  # reset, keep, candidate, as nn.GRU orders them
WEIGHTS = (("sensory", "weight"), ("recurrent", "weight"), ("elapsed_weight",))


class _GatedCircuit(LayeredCircuit):
    """Discrete-time neurons whose gates take the elapsed time as an additional input.

    Their equations do not contain time. For a fair comparison at variable rates, each gate adds a
    trainable weight times elapsed_time / time_scale - 1, which is zero at the nominal rate.
    """

    uses_own_state = True
    slopes = (0.0, 0.0, 1.0)  # of the candidate, the third gate in both models

    def __init__(self, wiring: Wiring, *, gates: int, **options: Any) -> None:
        if "memory" in options:
            raise TypeError(f"{type(self).__name__} has its own memory; leave out memory=")
        super().__init__(wiring, gates=gates, signed=0, **options)
        self.elapsed_weight = nn.Parameter(torch.zeros(gates, wiring.neuron_count))

    def _gated_program(self, kind: str, parameters: Callable[[Any], Parameters]) -> Program:
        """Return a program of one update per step, with synapses from the elapsed time."""
        slots = Slots(self.wiring)
        return Program(
            self.wiring.sensory_count,
            hidden=0,
            neurons=self.wiring.neuron_count,
            substeps=1,
            layers=layers(kind, self.blocks),
            banks=[
                slots.sensory(self.gates),
                slots.recurrent(slots.by_layer(slots.now, slots.before), self.gates),
                slots.timed(self.gates),
            ],
            parameters=parameters,
        )

    def _add_time(self, gates: Tensor, elapsed: Tensor, neurons: slice) -> Tensor:
        return torch.addcmul(gates, elapsed - 1, self.elapsed_weight[:, neurons].flatten())


class LSTM(_GatedCircuit):
    """Long short-term memory along the wiring's synapses (nn.LSTM's equations).

    The state is (hidden, cell). Elapsed time is an additional input of each gate, relative to the
    nominal interval.

    Args:
        wiring: the neurons and their synapses; `dense` for the usual LSTM.
        **options: as for `Circuit`, without `memory`; and `memory_gain`, as in `CTRNN`.
    """

    state_parts = 2

    def __init__(self, wiring: Wiring, **options: Any) -> None:
        super().__init__(wiring, gates=LSTM_GATES, gain=LSTM_GAIN, **options)
        self.bias = lstm_bias(wiring.neuron_count)
        self._apply_plasticity()

    def update(
        self, gates: Tensor, own: Sequence[Tensor], elapsed: Tensor, neurons: slice
    ) -> tuple[Tensor, ...]:
        """Return hidden and cell after one step."""
        return lstm_update(self._add_time(gates, elapsed, neurons), own[1])

    def program(self) -> Program | None:
        """Return the LSTM's program."""
        if type(self) is not LSTM:  # a subclass may have other equations
            return None
        return self._gated_program("lstm", lookup(*WEIGHTS, ("bias",)))


class GRU(_GatedCircuit):
    """Gated recurrent units along the wiring's synapses (Cho et al. 2014; nn.GRU's equations).

    As in nn.GRU, the reset gate scales the candidate's sum over recurrent synapses, which has its
    own bias. That sum is over the synapses from the neuron's block (see `Block`): its own layer and
    the layers that are coupled with it. Elapsed time is an additional input of each gate.

    Args:
        wiring: the neurons and their synapses; `dense` for the usual GRU.
        **options: as for `Circuit`, without `memory`; and `memory_gain`, as in `CTRNN`.
    """

    def __init__(self, wiring: Wiring, **options: Any) -> None:
        super().__init__(wiring, gates=GRU_GATES, gain=GRU_GAIN, **options)
        self.recurrent_bias = nn.Parameter(torch.zeros(wiring.neuron_count))
        self._apply_plasticity()

    def _gates(self, drive: Tensor, activity: Tensor, weight: Tensor) -> Tensor:
        """Return both sums, since the reset gate scales only one: (batch, 2 * gates * n)."""
        return torch.cat([drive, activity @ weight], dim=-1)

    def update(
        self, gates: Tensor, own: Sequence[Tensor], elapsed: Tensor, neurons: slice
    ) -> tuple[Tensor, ...]:
        """Return the state after one step."""
        drive, echo = gates.chunk(2, dim=-1)
        reset, keep, candidate = self._add_time(drive, elapsed, neurons).chunk(3, dim=-1)
        echo_reset, echo_keep, echo_candidate = echo.chunk(3, dim=-1)
        reset = (reset + echo_reset).sigmoid()
        keep = (keep + echo_keep).sigmoid()
        candidate = (candidate + reset * (echo_candidate + self.recurrent_bias[neurons])).tanh()
        return (torch.lerp(candidate, own[0], keep),)

    def program(self) -> Program | None:
        """Return the GRU's program; the recurrent bias joins the other three."""
        if type(self) is not GRU:  # a subclass may have other equations
            return None
        weights = lookup(*WEIGHTS)

        def parameters(circuit: GRU) -> Parameters:
            bias = torch.cat([circuit.bias, circuit.recurrent_bias.unsqueeze(0)])
            return [*weights(circuit), bias]

        return self._gated_program("gru", parameters)
