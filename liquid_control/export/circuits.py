"""The equations of each kind of neuron, as statements of a description.

A new kind of neuron is one function from a circuit to its statements, in `CIRCUITS`. It may use
the variables of `describe_policy`: the vector `inputs` of the sensory neurons, the scalar `time`,
elapsed time in units of the circuit, and the vectors `x`, the neurons' activity, and `cell`, the
second part of the state if there is one. Other names become vectors of one entry for each neuron.
Sums read the latest activity: layers that are computed in order within a step need no copy of the
previous step, since a synapse from a neuron's own layer or a later one reads the old activity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from liquid_control.export.description import (
    Assign,
    ExportError,
    Map,
    Repeat,
    Statement,
    Sum,
    linear,
)
from liquid_control.export.expressions import (
    Entry,
    Expression,
    Floats,
    Parameter,
    Scalar,
    Source,
    constant,
    exp,
    local,
    magnitude,
    sigmoid,
    tanh,
)
from liquid_control.neurons import CTRNN, GRU, LRC, LSTM, LTC, CfC, Circuit
from liquid_control.neurons.continuous import ContinuousCircuit
from liquid_control.neurons.lrc import _Synapses
from liquid_control.neurons.ltc import _Conductances
from liquid_control.neurons.memory import Memory
from liquid_control.neurons.synapses import SynapseList, Synapses

Sums = Callable[[str], Sequence[Statement]]
"""From the vector of the neurons' activity to the sums in the field."""

TIME = Scalar("time")
STEP = Scalar("step")  # of a solver, in units of the circuit
INPUTS, ACTIVITY, CELL = "inputs", "x", "cell"
GATES = ("write", "keep", "candidate", "read")  # of an LSTM, in the order of its weights


def describe_circuit(circuit: Circuit) -> list[Statement]:
    """Return the statements of one control step, from `inputs` to `x`.

    Raises:
        ExportError: there is no description of that class of neurons.
    """
    kind = type(circuit)
    if kind not in CIRCUITS:
        known = ", ".join(each.__name__ for each in CIRCUITS)
        raise ExportError(
            f"{kind.__name__} neurons cannot be exported, {known} can; a subclass may have other "
            "equations, so describe them in liquid_control/export/circuits.py"
        )
    with torch.no_grad():
        return list(CIRCUITS[kind](circuit))


def array(tensor: Tensor) -> Floats:
    """Return a tensor's numbers in single precision."""
    values: Floats = tensor.detach().cpu().float().numpy()
    return values


def synapses(
    title: str,
    name: str,
    source: str,
    of: SynapseList,
    parameters: Floats,
    contributions: Sequence[tuple[str, Expression]],
    neurons: slice,
    *,
    initial: Floats | None = None,
    chosen: NDArray[np.bool_] | None = None,
) -> Sum:
    """Return the sum over the synapses of a list that end at some neurons.

    Args:
        title: of the sum.
        name: of the synapses.
        source: their source vector.
        of: the list.
        parameters: (parameters, synapses of the list).
        contributions: as in `Sum`.
        neurons: the targets.
        initial: as in `Sum`.
        chosen: mask of the synapses to include, (synapses,); all by default.
    """
    targets = of.targets.cpu().numpy()
    wanted = (targets >= neurons.start) & (targets < neurons.stop)
    if chosen is not None:
        wanted &= chosen
    (found,) = np.nonzero(wanted)
    found = found[np.argsort(targets[found], kind="stable")]
    count = neurons.stop - neurons.start
    starts = np.searchsorted(targets[found], np.arange(neurons.start, neurons.stop + 1))
    assert len(starts) == count + 1
    return Sum(
        title,
        name,
        source,
        neurons.start,
        starts,
        of.sources.cpu().numpy()[found],
        np.ascontiguousarray(parameters[:, found]),
        tuple(contributions),
        initial,
    )


def summed(banks: Sequence[Sum], initial: Floats) -> Iterator[Statement]:
    """Yield the sums that have synapses; the targets start from `initial`, (targets, entries).

    All banks have the same targets.
    """
    first = banks[0]
    present = [bank for bank in banks if len(bank.sources)]
    if not present:
        values = zip(first.targets, initial, strict=True)
        yield Map(
            f"{first.title}: none",
            first.start,
            first.stop,
            tuple((target, constant(f"{target}_bias", bias)) for target, bias in values),
        )
        return
    head, *rest = present
    yield replace(head, initial=initial)
    yield from rest


def layers(circuit: Circuit) -> Iterator[tuple[str, slice]]:
    """Yield the names of layers, valid in C, and their neurons."""
    for name, neurons in circuit.wiring.layer_slices.items():
        cleaned = "".join(each if each.isascii() and each.isalnum() else "_" for each in name)
        yield cleaned.lower() or "layer", neurons


def _weighted(
    title: str,
    name: str,
    source: str,
    of: Synapses,
    targets: Sequence[str],
    neurons: slice,
    chosen: NDArray[np.bool_] | None = None,
) -> Sum:
    """Return weighted sums over synapses, with one weight per target; see `synapses`."""
    weight = array(of.weight)
    return synapses(title, name, source, of, weight, linear(*targets), neurons, chosen=chosen)


def _layer_sums(
    circuit: CfC | LSTM, name: str, neurons: slice, targets: Sequence[str]
) -> Iterator[Statement]:
    """Yield the affine sums of a layer."""
    banks = [
        _weighted(
            f"from inputs to {name} neurons",
            f"sensory_{name}",
            INPUTS,
            circuit.sensory,
            targets,
            neurons,
        ),
        _weighted(
            f"from neurons to {name} neurons",
            f"recurrent_{name}",
            ACTIVITY,
            circuit.recurrent,
            targets,
            neurons,
        ),
    ]
    yield from summed(banks, array(circuit.bias)[:, neurons])


def _cfc(circuit: CfC) -> Iterator[Statement]:
    if circuit.memory is not None:
        yield from _memory(circuit.memory, circuit.wiring.neuron_count)
    targets = ("g",) if circuit.mode == "pure" else ("g", "h", "a", "b")
    for name, neurons in layers(circuit):
        yield from _layer_sums(circuit, name, neurons, targets)
        formula = _closed_form(circuit, neurons)
        yield Map(f"{name} neurons", neurons.start, neurons.stop, ((ACTIVITY, formula),))


def _closed_form(circuit: CfC, neurons: slice) -> Expression:
    """Return the closed form of the mode; `CfC` has the equations."""
    if circuit.mode == "pure":
        leak = constant("leak", array(circuit.leak.abs())[neurons])
        reversal = constant("reversal", array(circuit.reversal)[neurons])
        g = Entry("g")
        # The decay is e^-t(|w| + |g|).
        return reversal - reversal * exp((0.0 - TIME) * (leak + magnitude(g))) * g
    gate = local("gate", sigmoid(Entry("a") * TIME + Entry("b")))
    first = local("first", tanh(Entry("g")))
    second = tanh(Entry("h"))
    if circuit.mode == "no_gate":
        return first + gate * second
    return first + gate * (second - first)


def _lstm_update(gates: Sequence[Expression]) -> tuple[tuple[str, Expression], ...]:
    """Return the new hidden state, as activity, and cell; see `neurons.memory.lstm_update`."""
    write, keep, candidate, read = gates
    cell = local("new_cell", sigmoid(keep) * Entry(CELL) + sigmoid(write) * tanh(candidate))
    return (ACTIVITY, sigmoid(read) * tanh(cell)), (CELL, cell)


def _memory(memory: Memory, neurons: int) -> Iterator[Statement]:
    """Yield the mixed memory, which writes its hidden state to `x` for the neurons."""
    everyone = slice(0, neurons)
    banks = [
        _weighted(
            "from inputs to the memory", "memory_sensory", INPUTS, memory.sensory, GATES, everyone
        ),
        _weighted(
            "from neurons to the memory",
            "memory_recurrent",
            ACTIVITY,
            memory.recurrent,
            GATES,
            everyone,
        ),
    ]
    yield from summed(banks, array(memory.bias))
    gates = [Entry(gate) for gate in GATES]
    yield Map("the memory", 0, neurons, _lstm_update(gates))


def _timed(circuit: LSTM | GRU, gates: Sequence[str], neurons: slice) -> list[Expression]:
    """Return the gates with the elapsed time as an additional input."""
    weights = array(circuit.elapsed_weight)[:, neurons]
    return [
        Entry(gate) + (TIME - 1.0) * constant(f"{gate}_by_time", weight)
        for gate, weight in zip(gates, weights, strict=True)
    ]


def _lstm(circuit: LSTM) -> Iterator[Statement]:
    for name, neurons in layers(circuit):
        yield from _layer_sums(circuit, name, neurons, GATES)
        gates = _timed(circuit, GATES, neurons)
        yield Map(f"{name} neurons", neurons.start, neurons.stop, _lstm_update(gates))


def _gru(circuit: GRU) -> Iterator[Statement]:
    """Yield a GRU, with `echo` as the candidate's sum over its own block; see `GRU`."""
    blocks = {
        block.start + layer.start: block.neurons
        for block in circuit.blocks
        for layer in block.layers
    }
    gates = ("reset", "keep", "candidate")
    sources = circuit.recurrent.sources.cpu().numpy()
    for name, neurons in layers(circuit):
        block = blocks[neurons.start]
        within = (sources >= block.start) & (sources < block.stop)
        banks = [
            _weighted(
                f"from inputs to {name} neurons",
                f"sensory_{name}",
                INPUTS,
                circuit.sensory,
                gates,
                neurons,
            ),
            _weighted(
                f"from earlier neurons to {name} neurons",
                f"earlier_{name}",
                ACTIVITY,
                circuit.recurrent,
                gates,
                neurons,
                ~within,
            ),
        ]
        yield from summed(banks, array(circuit.bias)[:, neurons])
        echo = constant("echo_bias", array(circuit.recurrent_bias)[neurons])
        title = f"what the reset gates of {name} neurons scale"
        yield Map(title, neurons.start, neurons.stop, (("echo", echo),))
        echoes = _weighted(
            f"from {name} neurons and those coupled with them",
            f"recurrent_{name}",
            ACTIVITY,
            circuit.recurrent,
            ("reset", "keep", "echo"),
            neurons,
            within,
        )
        if len(echoes.sources):
            yield echoes
        reset, keep, candidate = _timed(circuit, gates, neurons)
        proposed = local("proposed", tanh(candidate + sigmoid(reset) * Entry("echo")))
        formula = proposed + sigmoid(keep) * (Entry(ACTIVITY) - proposed)
        yield Map(f"{name} neurons", neurons.start, neurons.stop, ((ACTIVITY, formula),))


def _integrate(
    circuit: ContinuousCircuit, sums: Sums, drive: Expression, decay: Expression
) -> Iterator[Statement]:
    """Yield `ode_steps` steps of a solver of dx/dt = drive - decay x; see `neurons.solvers`.

    Args:
        circuit: names the solver.
        sums: the sums of the field, given the vector of the activity.
        drive: a formula of those sums.
        decay: the same.
    """
    if circuit.memory is not None:
        yield from _memory(circuit.memory, circuit.wiring.neuron_count)
    yield Assign("step", TIME / float(circuit.ode_steps))
    count = circuit.wiring.neuron_count
    x, y, total = Entry(ACTIVITY), Entry("y"), Entry("total")

    def step(vector: str, *results: tuple[str, Expression]) -> tuple[Statement, ...]:
        return (*sums(vector), Map("all neurons", 0, count, results))

    body: tuple[Statement, ...]
    if circuit.solver == "semi_implicit":
        body = step(ACTIVITY, (ACTIVITY, (x + STEP * drive) / (1.0 + STEP * decay)))
    elif circuit.solver == "euler":
        body = step(ACTIVITY, (ACTIVITY, x + STEP * (drive - decay * x)))
    else:
        first = local("slope", drive - decay * x)
        later = local("slope", drive - decay * y)
        body = (
            *step(ACTIVITY, ("total", first), ("y", x + STEP / 2.0 * first)),
            *step("y", ("total", total + 2.0 * later), ("y", x + STEP / 2.0 * later)),
            *step("y", ("total", total + 2.0 * later), ("y", x + STEP * later)),
            *step("y", (ACTIVITY, x + STEP / 6.0 * (total + later))),
        )
    yield Repeat(
        f"{circuit.ode_steps} steps of the {circuit.solver} solver", circuit.ode_steps, body
    )


def _ctrnn(circuit: CTRNN) -> Iterator[Statement]:
    everyone = slice(0, circuit.wiring.neuron_count)
    sensory = _weighted(
        "from inputs to all neurons", "sensory", INPUTS, circuit.sensory, ["sensed"], everyone
    )
    yield from summed([sensory], array(circuit.bias)[None])

    def sums(vector: str) -> list[Statement]:
        title, of = "from neurons to all neurons", circuit.recurrent
        bank = _weighted(title, "recurrent", vector, of, ["u"], everyone)
        return list(summed([bank], np.zeros((1, everyone.stop), np.float32)))

    decay = constant("decay", array(torch.exp(-circuit.log_tau)))
    yield from _integrate(circuit, sums, decay * tanh(Entry("sensed") + Entry("u")), decay)


def _ltc(circuit: LTC) -> Iterator[Statement]:
    everyone = slice(0, circuit.wiring.neuron_count)
    capacitance = softplus(circuit.capacitance)
    leak = softplus(circuit.leak) / capacitance
    rest = torch.stack([leak * circuit.leak_reversal, leak])

    def bank(title: str, name: str, vector: str, of: _Conductances, targets: Sequence[str]) -> Sum:
        conductance = softplus(of.conductance) / capacitance[of.targets]
        parameters = [of.steepness, of.threshold(), conductance * of.reversal, conductance]
        opening = local("opening", sigmoid(Parameter(0) * Source() + Parameter(1)))
        contributions = [
            (target, Parameter(2 + index) * opening) for index, target in enumerate(targets)
        ]
        numbers = array(torch.stack(parameters))
        return synapses(title, name, vector, of, numbers, contributions, everyone)

    sensory = bank(
        "from inputs to all neurons",
        "sensory",
        INPUTS,
        circuit.sensory,
        ("sensed_drive", "sensed_decay"),
    )
    yield from summed([sensory], array(rest))

    def sums(vector: str) -> list[Statement]:
        recurrent = bank(
            "from neurons to all neurons",
            "recurrent",
            vector,
            circuit.recurrent,
            ("drive", "decay"),
        )
        return list(summed([recurrent], np.zeros((2, everyone.stop), np.float32)))

    yield from _integrate(
        circuit,
        sums,
        Entry("sensed_drive") + Entry("drive"),
        Entry("sensed_decay") + Entry("decay"),
    )


def _lrc(circuit: LRC) -> Iterator[Statement]:
    everyone = slice(0, circuit.wiring.neuron_count)
    rest = torch.stack([circuit.bias[0], softplus(circuit.leak), circuit.bias[1]])

    def bank(title: str, name: str, vector: str, of: _Synapses, targets: Sequence[str]) -> Sum:
        opening = local("opening", sigmoid(Parameter(0) * Source() + Parameter(1)))
        weighed = (Parameter(2) * opening, Parameter(3) * opening, Parameter(4) * Source())
        contributions = list(zip(targets, weighed, strict=True))
        return synapses(title, name, vector, of, array(of.numbers()), contributions, everyone)

    names = ("drive", "forget", "elastance")
    targets = [f"sensed_{name}" for name in names]
    sensory = bank("from inputs to all neurons", "sensory", INPUTS, circuit.sensory, targets)
    yield from summed([sensory], array(rest))

    def sums(vector: str) -> list[Statement]:
        title, of = "from neurons to all neurons", circuit.recurrent
        recurrent = bank(title, "recurrent", vector, of, names)
        return list(summed([recurrent], np.zeros((3, everyone.stop), np.float32)))

    drive, forget, elastance = (Entry(f"sensed_{name}") + Entry(name) for name in names)
    per_time = constant("per_time", array(torch.exp(-circuit.log_tau)))
    rate = local("rate", per_time * sigmoid(elastance))
    reversal = constant("reversal", array(circuit.reversal))
    yield from _integrate(circuit, sums, rate * reversal * tanh(drive), rate * sigmoid(forget))


CIRCUITS: Mapping[type[Circuit], Callable[..., Iterator[Statement]]] = {
    CfC: _cfc,
    LTC: _ltc,
    CTRNN: _ctrnn,
    LRC: _lrc,
    LSTM: _lstm,
    GRU: _gru,
}
"""From each class of neurons to the function that describes its circuits."""
