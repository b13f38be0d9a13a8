"""Closed-form continuous-time neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from liquid_control.kernels.program import Parameters, Program
from liquid_control.neurons.circuit import check_option
from liquid_control.neurons.layered import LayeredCircuit
from liquid_control.neurons.memory import LSTM_GATES
from liquid_control.neurons.programs import Place, Slots, layers, lookup
from liquid_control.wiring import Wiring

GATES = {"default": 4, "no_gate": 4, "pure": 1}
CANDIDATES = 2  # the gates g and h, which start with the wiring's polarity; the time gate follows
SLOPES = {"default": (0.5, 0.5), "no_gate": (1.0, 0.5), "pure": (-1.0,)}
GAINS = {"default": 1.7, "no_gate": 1.1, "pure": 1.0}  # see `weight_deviations`
LEAK = 0.5  # initial |w| of mode "pure", per time scale
BOUNDS = {"default": 1.0, "no_gate": 2.0, "pure": float("inf")}


class CfC(LayeredCircuit):
    """Closed-form continuous-time neurons (Hasani et al. 2022, Nature Machine Intelligence 4).

    With g, h, a and b affine in the activities that a neuron receives, and t the elapsed time over
    `time_scale`:

    - "default", the CfC model: x = (1 - s) tanh(g) + s tanh(h), with the time gate
      s = sigmoid(a t + b)
    - "no_gate": x = tanh(g) + s tanh(h)
    - "pure", the approximate solution of the LTC equation: x = A - A g exp(-t (|w| + |g|)), with w
      and the reversal potential A of each neuron

    Every sum, the time gate's included, runs over the neuron's own synapses only. A neuron without
    a synapse from its own layer or a later one has no memory.

    Args:
        wiring: the neurons and their synapses.
        mode: "default", "no_gate" or "pure".
        memory_gain: initial strength of the synapses that carry the past, over that of others. With
            0 the circuit starts without memory, and learns what to remember.
        **options: as for `Circuit`.

    Raises:
        ValueError: `memory_gain` is negative or not finite, or an option is invalid.
    """

    def __init__(self, wiring: Wiring, *, mode: str = "default", **options: Any) -> None:
        check_option("mode", mode, tuple(GATES))
        super().__init__(wiring, gates=GATES[mode], signed=CANDIDATES, gain=GAINS[mode], **options)
        self.mode = mode
        self.slopes, self.bound = SLOPES[mode], BOUNDS[mode]
        self._update = {
            "default": self._default,
            "no_gate": self._no_gate,
            "pure": self._pure,
        }[mode]
        if mode == "pure":
            # At zero |w| would have no gradient, and stay.
            self.leak = nn.Parameter(torch.full((wiring.neuron_count,), LEAK))
            self.reversal = nn.Parameter(torch.ones(wiring.neuron_count))
        self._apply_plasticity()

    def update(
        self, gates: Tensor, own: Sequence[Tensor], elapsed: Tensor, neurons: slice
    ) -> tuple[Tensor, ...]:
        """Return the closed form of the mode; it uses previous states through synapses only."""
        return (self._update(gates, elapsed, neurons),)

    def program(self) -> Program | None:
        """Return a program of one update per step.

        A mixed memory receives the previous step; the CfC neurons then receive the memory's
        activity instead of their own past.
        """
        if type(self) is not CfC:  # a subclass may have other equations
            return None
        hidden = 0 if self.memory is None else self.wiring.neuron_count
        slots = Slots(self.wiring, hidden)
        past = slots.before if self.memory is None else slots.now
        banks = [
            slots.sensory(self.gates, into=hidden),
            slots.recurrent(slots.by_layer(slots.now + hidden, past), self.gates, into=hidden),
        ]
        order = layers(f"cfc_{self.mode}", self.blocks, hidden)
        places: list[Place] = [("sensory", "weight"), ("recurrent", "weight"), ("bias",)]
        if self.memory is not None:
            sources, _ = np.nonzero(self.wiring.recurrent)
            banks = [
                slots.sensory(LSTM_GATES),
                slots.recurrent(slots.before + hidden + sources, LSTM_GATES),
                *banks,
            ]
            order = [("lstm", 0, hidden, 0), *order]
            places = [("memory", "sensory", "weight"), ("memory", "recurrent", "weight"), *places]
            places.insert(-1, ("memory", "bias"))
        weights = lookup(*places)

        def parameters(circuit: CfC) -> Parameters:
            if circuit.mode != "pure":
                return weights(circuit)
            return [*weights(circuit), torch.stack([circuit.leak, circuit.reversal])]

        return Program(
            self.wiring.sensory_count,
            hidden,
            self.wiring.neuron_count,
            substeps=1,
            layers=order,
            banks=banks,
            parameters=parameters,
        )

    @torch.no_grad()
    def synapse_strengths(self) -> tuple[Tensor, Tensor]:
        """As in `LayeredCircuit`; in mode "pure", after one time scale."""
        sensory, recurrent = super().synapse_strengths()
        if self.mode == "pure":
            scale = self.reversal * torch.exp(-self.leak.abs())
            return sensory * scale, recurrent * scale
        return sensory, recurrent

    def _decay(self, inputs: Tensor, activity: Tensor, past: Tensor) -> Tensor:
        """Return |a|, as the time gate sigmoid(a t + b) replaces exp(-t / tau); or |w| + |g|."""
        if self.mode == "pure":
            return self.leak.abs() + self._gate_sum(0, inputs, activity, past).abs()
        return self._gate_sum(CANDIDATES, inputs, activity, past).abs()

    def _default(self, gates: Tensor, elapsed: Tensor, neurons: slice) -> Tensor:
        g, h, a, b = gates.chunk(4, dim=-1)
        return torch.lerp(g.tanh(), h.tanh(), torch.addcmul(b, a, elapsed).sigmoid())

    def _no_gate(self, gates: Tensor, elapsed: Tensor, neurons: slice) -> Tensor:
        g, h, a, b = gates.chunk(4, dim=-1)
        return g.tanh() + torch.addcmul(b, a, elapsed).sigmoid() * h.tanh()

    def _pure(self, gates: Tensor, elapsed: Tensor, neurons: slice) -> Tensor:
        reversal = self.reversal[neurons]
        decay = torch.exp(-elapsed * (self.leak[neurons].abs() + gates.abs()))
        return reversal - reversal * decay * gates
