"""Circuits as the compiled kernels see them: layers in order, and who hears whom, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from liquid_control.neurons import CTRNN, LTC, CfC, Circuit
from liquid_control.neurons.blocks import Block, layered
from liquid_control.neurons.memory import LSTM_GATES
from liquid_control.wiring import Wiring

Layer = tuple[str, int, int, int]
"""Kind of neuron, first neuron, the one after the last, block."""

Bank = tuple[list[int], list[int], int]
"""Slots heard, targets, numbers per synapse: the synapses of one tensor (numbers, synapses)."""

Parameters = tuple[Tensor, ...]


@dataclass(frozen=True)
class Program:
    """How the kernels run one circuit.

    Attributes:
        kernel: the compiled plan, with `forward` and `backward`.
        parameters: the tensors that the plan takes, made from the circuit's parameters as they are.
    """

    kernel: Any
    parameters: Callable[[], Parameters]


def compile_circuit(circuit: Circuit, extension: ModuleType) -> Program | None:
    """The program of a circuit, or None if the kernels do not know its neurons or their solver."""
    # Not a subclass of them, whose equations may be others.
    if type(circuit) is CfC:
        return _closed_form(circuit, extension)
    if type(circuit) is LTC or type(circuit) is CTRNN:
        known = circuit.solver == "semi_implicit" and circuit.memory is None
        return _continuous(circuit, extension) if known else None
    return None


@dataclass(frozen=True)
class _Slots:
    """What can be heard: inputs, neurons' activity in this step, their activity in the one before.

    Neurons are those of the mixed memory, if there is one, then those of the wiring.
    """

    wiring: Wiring
    memory: int = 0

    @property
    def now(self) -> int:
        """The slot of the first neuron's activity in this step."""
        return self.wiring.sensory_count

    @property
    def before(self) -> int:
        """The slot of the first neuron's activity in the step before."""
        return self.now + self.memory + self.wiring.neuron_count

    def sensory(self, synapses: int, *, into: int) -> Bank:
        """Sensory synapses to the neurons from number `into` on."""
        sources, targets = np.nonzero(self.wiring.sensory)
        return sources.tolist(), (into + targets).tolist(), synapses

    def recurrent(self, slots: NDArray[Any], synapses: int, *, into: int) -> Bank:
        """Synapses among the neurons: `slots` says where each is heard, (synapses,)."""
        _, targets = np.nonzero(self.wiring.recurrent)
        return slots.tolist(), (into + targets).tolist(), synapses

    def plan(
        self, extension: ModuleType, substeps: int, layers: Sequence[Layer], banks: Sequence[Bank]
    ) -> Any:
        """The compiled plan."""
        inputs, visible = self.wiring.sensory_count, self.wiring.neuron_count
        return extension.Circuit(inputs, self.memory, visible, substeps, layers, banks)


def _layers(kind: str, blocks: Sequence[Block], first: int = 0) -> list[Layer]:
    """The layers of some blocks, their neurons numbered from `first`."""
    return [
        (kind, first + block.start + layer.start, first + block.start + layer.stop, number)
        for number, block in enumerate(blocks)
        for layer in block.layers
    ]


def _closed_form(circuit: CfC, extension: ModuleType) -> Program:
    """CfC: one update a step; synapses to a later layer are heard at once, others a step later.

    With mixed memory it is the memory that hears the step before, and what else would is heard
    from the memory.
    """
    wiring, memory = circuit.wiring, circuit.memory
    sources, targets = np.nonzero(wiring.recurrent)
    rank = np.empty(wiring.neuron_count, dtype=int)
    for index, layer in enumerate(wiring.layer_slices.values()):
        rank[layer] = index
    slots = _Slots(wiring, 0 if memory is None else wiring.neuron_count)
    first = slots.memory
    at_once = slots.now + first + sources
    later = (slots.before if memory is None else slots.now) + sources
    heard = np.where(rank[sources] < rank[targets], at_once, later)
    banks = [
        slots.sensory(circuit.gates, into=first),
        slots.recurrent(heard, circuit.gates, into=first),
    ]
    layers = _layers(f"cfc_{circuit.mode}", circuit.blocks, first)
    if memory is not None:
        banks = [
            slots.sensory(LSTM_GATES, into=0),
            slots.recurrent(slots.before + first + sources, LSTM_GATES, into=0),
            *banks,
        ]
        layers = [("lstm", 0, first, 0), *layers]

    sensory, recurrent = circuit.sensory, circuit.recurrent

    def parameters() -> Parameters:
        synapses: Parameters = (sensory.weight, recurrent.weight)
        biases: Parameters = (circuit.bias,)
        if memory is not None:
            synapses = (memory.sensory.weight, memory.recurrent.weight, *synapses)
            biases = (memory.bias, *biases)
        own = circuit.own_parameters()
        return (*synapses, *biases, torch.stack(own)) if own else (*synapses, *biases)

    return Program(slots.plan(extension, 1, layers, banks), parameters)


def _continuous(circuit: LTC | CTRNN, extension: ModuleType) -> Program:
    """LTC and CT-RNN: `ode_steps` updates a step, in each of which neurons hear the one before."""
    wiring = circuit.wiring
    slots = _Slots(wiring)
    sources, _ = np.nonzero(wiring.recurrent)
    kind, numbers, parameters = (
        ("ltc", 4, partial(_conductances, circuit))
        if isinstance(circuit, LTC)
        else ("ctrnn", 1, partial(_leaks, circuit))
    )
    banks = [
        slots.sensory(numbers, into=0),
        slots.recurrent(slots.before + sources, numbers, into=0),
    ]
    layers = _layers(kind, layered(wiring, remembers=True))
    return Program(slots.plan(extension, circuit.ode_steps, layers, banks), parameters)


def _conductances(circuit: LTC) -> Parameters:
    """Per synapse steepness, threshold and what it adds to drive and decay when open; the leak."""
    capacitance = softplus(circuit.capacitance)
    leak = softplus(circuit.leak) / capacitance

    def bank(synapses: Any) -> Tensor:
        decay = softplus(synapses.conductance) / capacitance[synapses.targets]
        drive = decay * synapses.reversal
        return torch.stack([synapses.steepness, synapses.threshold(), drive, decay])

    rest = torch.stack([leak * circuit.leak_reversal, leak])
    return bank(circuit.sensory), bank(circuit.recurrent), rest


def _leaks(circuit: CTRNN) -> Parameters:
    """Weights, biases and the neurons' decay."""
    decay = torch.exp(-circuit.log_tau)
    return circuit.sensory.weight, circuit.recurrent.weight, circuit.bias, decay
