"""Circuits as the compiled kernels see them: layers in order, and who hears whom, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liquid_control.neurons import CTRNN, GRU, LSTM, LTC, CfC, Circuit
from liquid_control.neurons.blocks import Block, layered
from liquid_control.neurons.memory import LSTM_GATES
from liquid_control.wiring import Wiring

Layer = tuple[str, int, int, int]
"""Kind of neuron, first neuron, the one after the last, block."""

Bank = tuple[list[int], list[int], int]
"""Slots heard, targets, numbers per synapse: the synapses of one tensor (numbers, synapses)."""

Parameters = list[Tensor | None]


Place = tuple[str, ...]
"""Names of modules, from the circuit inwards, and of a parameter there; or nothing at all."""


@dataclass(frozen=True)
class Program:
    """How the kernels run one circuit.

    Attributes:
        kernel: the compiled plan, with `forward` and `backward`.
        neurons: how many the circuit has.
        state_size: numbers in the state of one sample.
        parameters: from a circuit to the tensors that the plan takes, as its parameters are then.
        maps_inputs: whether that includes the mapping of the inputs.
    """

    kernel: Any
    neurons: int
    state_size: int
    parameters: Callable[[Any], Parameters]
    maps_inputs: bool = False


def compile_circuit(circuit: Circuit, extension: ModuleType) -> Program | None:
    """The program of a circuit, or None if the kernels do not know its neurons or their solver."""
    # Not a subclass of them, whose equations may be others.
    if type(circuit) is CfC:
        return _closed_form(circuit, extension)
    if type(circuit) is LSTM or type(circuit) is GRU:
        return _gated(circuit, extension)
    if type(circuit) is LTC or type(circuit) is CTRNN:
        known = circuit.solver == "semi_implicit" and circuit.memory is None
        return _continuous(circuit, extension) if known else None
    return None


def _lookup(*places: Place) -> Callable[[Circuit], Parameters]:
    """The parameters of a circuit in some places; None for an empty place.

    An attribute of a module is looked for among its parameters last of all, which takes longer than
    the kernels take for an acting step. So they are looked up there first.
    """
    split = [(place[:-1], place[-1]) if place else None for place in places]

    def lookup(circuit: Circuit) -> Parameters:
        found: Parameters = []
        for place in split:
            if place is None:
                found.append(None)
                continue
            path, name = place
            module: Any = circuit
            for part in path:
                module = module._modules[part]
            parameter = module._parameters.get(name)
            found.append(getattr(module, name) if parameter is None else parameter)
        return found

    return lookup


@dataclass(frozen=True)
class _Slots:
    """What can be heard: inputs, neurons' activity in this step, their activity in the one before.

    Neurons are those of the mixed memory, if there is one, then those of the wiring.
    """

    wiring: Wiring
    memory: int = 0

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
        return self.now + self.memory + self.wiring.neuron_count

    def sensory(self, synapses: int, *, into: int) -> Bank:
        """Sensory synapses to the neurons from number `into` on."""
        sources, targets = np.nonzero(self.wiring.sensory)
        return sources.tolist(), (into + targets).tolist(), synapses

    def recurrent(self, slots: NDArray[Any], synapses: int, *, into: int) -> Bank:
        """Synapses among the neurons: `slots` says where each is heard, (synapses,)."""
        _, targets = np.nonzero(self.wiring.recurrent)
        return slots.tolist(), (into + targets).tolist(), synapses

    def delayed(self, now: int, before: int) -> NDArray[Any]:
        """Slots of the recurrent synapses' sources: at once for a later layer, else a step later.

        `now` and `before` are the slots of the first neuron for either.
        """
        sources, targets = np.nonzero(self.wiring.recurrent)
        rank = np.repeat(
            np.arange(len(self.wiring.layers)), [size for _, size in self.wiring.layers]
        )
        slots: NDArray[Any] = np.where(
            rank[sources] < rank[targets], now + sources, before + sources
        )
        return slots

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
    sources, _ = np.nonzero(wiring.recurrent)
    slots = _Slots(wiring, 0 if memory is None else wiring.neuron_count)
    first = slots.memory
    heard = slots.delayed(slots.now + first, slots.before if memory is None else slots.now)
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

    places: list[Place] = [("sensory", "weight"), ("recurrent", "weight"), ("bias",)]
    if memory is not None:
        places = [("memory", "sensory", "weight"), ("memory", "recurrent", "weight"), *places]
        places.insert(-1, ("memory", "bias"))
    lookup = _lookup(*places)

    def parameters(circuit: CfC) -> Parameters:
        if circuit.mode != "pure":
            return lookup(circuit)
        return [*lookup(circuit), torch.stack([circuit.leak, circuit.reversal])]

    plan = slots.plan(extension, 1, layers, banks)
    return Program(plan, wiring.neuron_count, circuit.state_size, parameters)


def _gated(circuit: LSTM | GRU, extension: ModuleType) -> Program:
    """LSTM and GRU: as CfC, and with a synapse from the elapsed time to every neuron."""
    wiring, gates = circuit.wiring, circuit.gates
    slots = _Slots(wiring)
    everyone = list(range(wiring.neuron_count))
    banks = [
        slots.sensory(gates, into=0),
        slots.recurrent(slots.delayed(slots.now, slots.before), gates, into=0),
        ([slots.clock] * wiring.neuron_count, everyone, gates),
    ]
    kind = "lstm" if isinstance(circuit, LSTM) else "gru"
    weights = _lookup(("sensory", "weight"), ("recurrent", "weight"), ("elapsed_weight",))
    bias = _lookup(("bias",))

    def parameters(circuit: LSTM | GRU) -> Parameters:
        if isinstance(circuit, LSTM):
            return weights(circuit) + bias(circuit)
        return [*weights(circuit), torch.cat([circuit.bias, circuit.recurrent_bias.unsqueeze(0)])]

    plan = slots.plan(extension, 1, _layers(kind, circuit.blocks), banks)
    return Program(plan, wiring.neuron_count, circuit.state_size, parameters)


def _continuous(circuit: LTC | CTRNN, extension: ModuleType) -> Program:
    """LTC and CT-RNN: `ode_steps` updates a step, in each of which neurons hear the one before."""
    wiring = circuit.wiring
    slots = _Slots(wiring)
    sources, _ = np.nonzero(wiring.recurrent)
    kind, numbers = ("ltc", 4) if isinstance(circuit, LTC) else ("ctrnn", 1)
    banks = [
        slots.sensory(numbers, into=0),
        slots.recurrent(slots.before + sources, numbers, into=0),
    ]
    layers = _layers(kind, layered(wiring, remembers=True))
    plan = slots.plan(extension, circuit.ode_steps, layers, banks)
    if isinstance(circuit, LTC):
        parameters = _liquid(circuit)
        return Program(plan, wiring.neuron_count, circuit.state_size, parameters, maps_inputs=True)
    return Program(plan, wiring.neuron_count, circuit.state_size, _leaky)


def _liquid(circuit: LTC) -> Callable[[Circuit], Parameters]:
    """What conductances.h lists; the sensory synapses take over the mapping of the inputs."""
    mapping = circuit.input_mapping
    return _lookup(
        *(
            (synapses, name)
            for synapses in ("sensory", "recurrent")
            for name in ("steepness", "midpoint", "conductance", "reversal")
        ),
        *((name,) for name in ("capacitance", "leak", "leak_reversal")),
        *(
            () if getattr(mapping, name, None) is None else ("input_mapping", name)
            for name in ("gain", "offset")
        ),
    )


def _leaky(circuit: CTRNN) -> Parameters:
    """Weights, biases and the neurons' decay."""
    decay = torch.exp(-circuit.log_tau)
    return [circuit.sensory.weight, circuit.recurrent.weight, circuit.bias, decay]
