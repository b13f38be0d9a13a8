"""Builds a policy as one ONNX graph.

The graph is written node by node from the description rather than traced from PyTorch: it has no
unnecessary node, its names are those of the description, and the compiled kernels cannot be traced.
Each vector is kept as pieces (batch, entries), because layers write parts of it; pieces are joined
where they are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from liquid_control.deploy import Metadata
from liquid_control.export.description import (
    ArgMax,
    Assign,
    Dense,
    Description,
    Map,
    Part,
    Repeat,
    Statement,
    Sum,
)
from liquid_control.export.expressions import (
    Apply,
    Constant,
    Entry,
    Expression,
    Item,
    Local,
    Number,
    Parameter,
    Scalar,
    Source,
)
from liquid_control.export.onnx_metadata import properties

OPSET = 17
"""Version of the standard operators, in ONNX Runtime since version 1.12 of 2022."""

IR_VERSION = 8
"""Version of the file format, which matches the operators."""

OPERATORS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "abs": "Abs",
    "exp": "Exp",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "min": "Min",
    "max": "Max",
}
COMPARISONS = {"equal": "Equal", "greater": "Greater"}
LARGE = 1 << 21
"""Weights of a dense matrix above which few synapses are gathered, see `_Graph._weighted`."""

DENSITY = 0.05
"""Synapses per weight of a dense matrix below which they are gathered.

Measured on one core of an x86-64: 1024 CfC neurons with 2 % of the synapses take 0.5 ms gathered
and 1.7 ms as matrices; of 256 CfC or 1024 CT-RNN neurons, matrices are faster at every density.
"""


def to_onnx(description: Description, metadata: Metadata) -> ModelProto:
    """Return the model, which onnx's checker accepts.

    Inputs are the parts of the observation, `elapsed_time` (batch, 1) in seconds, `state` (batch,
    state_size), `episode_start` (batch, 1), nonzero where the state is reset first, and `noise`
    (batch, size) if the policy is sampled. Outputs are `action`, within its bounds, `next_state`
    and `motor`, the motor activity. The batch is dynamic.
    """
    graph = _Graph(description)
    inputs = [*map(_part_input, description.parts)]
    inputs += [_floats("elapsed_time", 1), _floats("state", description.state_size)]
    inputs += [_floats("episode_start", 1)]
    if description.is_sampled:
        inputs.append(_floats("noise", description.action.noise))
    graph.read_inputs()
    graph.execute(description.statements)
    graph.write_outputs()
    action = description.action
    kind = TensorProto.FLOAT if action.kind == "box" else TensorProto.INT64
    outputs = [
        helper.make_tensor_value_info("action", kind, ["batch", *action.shape]),
        _floats("next_state", description.state_size),
        _floats("motor", description.size(description.motor)),
    ]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            inputs,
            outputs,
            [numpy_helper.from_array(values, name) for name, values in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="liquid_control",
        producer_version=metadata.versions.get("liquid-control", ""),
    )
    helper.set_model_props(model, properties(metadata))
    checker.check_model(model, full_check=True)
    return model


def _floats(name: str, size: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])


def _part_input(part: Part) -> Any:
    kind = TensorProto.INT64 if part.sizes else TensorProto.FLOAT
    return helper.make_tensor_value_info(part.name, kind, ["batch", *part.shape])


Piece = tuple[int, int, str]
"""First entry, the one after the last, and their tensor (batch, entries)."""


class _Graph:
    """Nodes and constants, and the current tensors of the vectors."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._pieces: dict[str, list[Piece]] = {}
        self._scalars = {"elapsed_time": "elapsed_time"}
        self._stacked: dict[tuple[tuple[str, ...], int, int], str] = {}
        self._pending: dict[str, Callable[[], None]] = {}
        self._count = 0
        self._taken = {part.name for part in description.parts}  # names of inputs

    def read_inputs(self) -> None:
        """Join the parts of the observation, and reset the state where episodes start."""
        flat = []
        for part in self.description.parts:
            name = part.name
            if part.sizes:
                name = self._node("Cast", name, to=TensorProto.FLOAT)
            if len(part.shape) != 1:
                name = self._node("Reshape", name, self._whole(-1, part.size))
            flat.append(name)
        joined = flat[0] if len(flat) == 1 else self._node("Concat", *flat, axis=1)
        self._set("observation", joined)
        if not self.description.is_timed:
            nominal = self._number(self.description.nominal_interval)
            zero = self._node("Mul", "elapsed_time", self._number(0.0))
            self._scalars["elapsed_time"] = self._node("Add", zero, nominal)
        if self.description.is_sampled:
            self._set("noise", "noise")
        starts = self._node("Cast", "episode_start", to=TensorProto.BOOL)
        kept = self._node("Where", starts, self._number(0.0), "state")
        first = 0
        for name, size in self.description.states.items():
            whole = size == self.description.state_size
            self._set(name, kept if whole else self._slice(kept, first, first + size))
            first += size

    def write_outputs(self) -> None:
        """Name the outputs."""
        action = self.description.action
        chosen = self._read("action", 0, action.size)
        if action.kind != "box":
            chosen = self._node("Cast", chosen, to=TensorProto.INT64)
        if len(action.shape) != 1:
            shape = self._whole(-1, *action.shape)
            chosen = self._node("Reshape", chosen, shape)
        states = [self._read(name, 0, size) for name, size in self.description.states.items()]
        after = states[0] if len(states) == 1 else self._node("Concat", *states, axis=1)
        motor = self.description.motor
        self._name_output(chosen, "action")
        self._name_output(after, "next_state")
        self._name_output(self._read(motor, 0, self.description.size(motor)), "motor")

    def _name_output(self, tensor: str, output: str) -> None:
        """Rename a node's output, without a new node unless it is an output already."""
        found = [each for each in self.nodes if tensor in each.output]
        if not found or tensor in ("action", "next_state"):
            self._node("Identity", tensor, output=output)
            return
        for each in self.nodes:
            for names in (each.input, each.output):
                for index, name in enumerate(names):
                    if name == tensor:
                        names[index] = output

    def execute(self, statements: Sequence[Statement]) -> None:
        """Append the nodes of statements; repetitions are unrolled."""
        for statement in statements:
            match statement:
                case Assign(scalar, value):
                    self._scalars[scalar] = self._value(value, 0, 1, {})
                case Map():
                    self._map(statement)
                case Sum():
                    self._sum(statement)
                case Dense(_, name, source, target, weight, bias):
                    seen = self._read(source, 0, weight.shape[1])
                    matrix = self._constant(np.ascontiguousarray(weight.T), f"{name}_weights")
                    offset = self._constant(bias, f"{name}_bias")
                    self._set(target, self._node("Gemm", seen, matrix, offset))
                case ArgMax(_, source, start, stop, target, index):
                    place = self._node("ArgMax", self._read(source, start, stop), axis=1)
                    found = self._node("Cast", place, to=TensorProto.FLOAT)
                    self._write(target, index, index + 1, found)
                case Repeat(_, times, body):
                    for _ in range(times):
                        self.execute(body)

    def _map(self, each: Map) -> None:
        known: dict[int, str] = {}
        width = each.stop - each.start
        found = []
        for _, value in each.results:
            tensor = self._value(value, each.start, each.stop, known)
            is_column = width == 1 and _has(value, Scalar | Item)  # it has a row for each robot
            if not is_column and not self._has_rows(value):
                tensor = self._node("Expand", tensor, self._rows(width))
            found.append(tensor)
        for (target, _), tensor in zip(each.results, found, strict=True):
            self._write(target, each.start, each.stop, tensor)

    def _sum(self, each: Sum) -> None:
        count = len(each.targets)
        size = each.stop - each.start
        key = (each.targets, each.start, each.stop)
        before: str | None = None
        if each.initial is None:
            before = self._stacked.get(key) if key in self._stacked else self._gather_targets(each)
        elif each.initial.any():
            before = self._constant(each.initial.reshape(-1), f"{each.name}_bias")
        total = (self._weighted if each.is_linear else self._carried)(each, before)
        self._stack(key, total, count, size)

    def _weighted(self, each: Sum, before: str | None) -> str:
        """Return weighted sums (batch, targets * entries), by a matrix product or by synapse.

        `before` is added. Gathering each synapse's source takes more time than the zeros of a
        matrix, unless the matrix is large and nearly empty.
        """
        first, stop = int(each.sources.min()), int(each.sources.max()) + 1
        first, stop = self._covering(each.source, first, stop)
        matrix = each.matrix(self.description.size(each.source))[first:stop]
        if matrix.size > LARGE and each.parameters.size < DENSITY * matrix.size:
            return self._carried(each, before)
        weights = self._constant(
            np.ascontiguousarray(matrix.reshape(stop - first, -1)), f"{each.name}_weights"
        )
        source = self._read(each.source, first, stop)
        if before is None:
            return self._node("MatMul", source, weights)
        return self._node("Gemm", source, weights, before)

    def _carried(self, each: Sum, before: str | None) -> str:
        """Return sums over synapses, (batch, targets * entries), with an entry's in one row.

        Rows have the largest number of synapses of an entry; shorter ones are padded with synapses
        whose parameters are all zero.
        """
        entries = len(each.starts) - 1
        fan_in = np.diff(each.starts)
        longest = int(fan_in.max())
        rows = np.arange(longest) < fan_in[:, None]  # (entries, longest)
        sources = np.zeros(rows.shape, np.int64)
        sources[rows] = each.sources
        size = self.description.size(each.source)
        vector = self._read(each.source, 0, size)
        indices = self._constant(sources.reshape(-1), f"{each.name}_sources")
        known: dict[int, str] = {}
        parameters = []
        for values in each.parameters:
            padded = np.zeros(rows.shape, np.float32)
            padded[rows] = values
            parameters.append(self._constant(padded, f"{each.name}_parameter"))
        taken = self._node("Gather", vector, indices, axis=1)
        shape = self._whole(-1, entries, longest)
        taken = self._node("Reshape", taken, shape)
        sums = []
        axes = self._whole(2)
        for _, value in each.contributions:
            carried = self._value(value, 0, 0, known, taken, parameters)
            sums.append(self._node("ReduceSum", carried, axes, keepdims=0))
        total = sums[0] if len(sums) == 1 else self._node("Concat", *sums, axis=1)
        return total if before is None else self._node("Add", total, before)

    def _gather_targets(self, each: Sum) -> str:
        """Return the current targets, (batch, targets * entries)."""
        parts = [self._read(target, each.start, each.stop) for target in each.targets]
        return parts[0] if len(parts) == 1 else self._node("Concat", *parts, axis=1)

    def _stack(
        self, key: tuple[tuple[str, ...], int, int], total: str, count: int, size: int
    ) -> None:
        """Make targets parts of a tensor, which is split when one of them is read."""
        targets, start, stop = key
        if count == 1:
            self._write(targets[0], start, stop, total)
            self._stacked[key] = total
            return
        names = [self._name(target) for target in targets]
        for target, name in zip(targets, names, strict=True):
            self._write(target, start, stop, name)

        def split() -> None:
            sizes = self._whole(*[size] * count)
            self.nodes.append(
                helper.make_node("Split", [total, sizes], names, axis=1, name=self._name("Split"))
            )
            for name in names:
                self._pending.pop(name, None)

        for name in names:
            self._pending[name] = split
        self._stacked[key] = total

    def _has_rows(self, value: Expression) -> bool:
        """Whether a formula's tensor has one row for each robot, and one column for each entry."""
        match value:
            case Entry():
                return True
            case Apply(_, arguments):
                return any(map(self._has_rows, arguments)) or (
                    # A scalar has the rows, and a constant the columns.
                    any(_has(each, Scalar | Item) for each in arguments)
                    and any(_has(each, Constant) for each in arguments)
                )
            case Local(_, inner):
                return self._has_rows(inner)
        return False

    def _rows(self, width: int) -> str:
        """Return the shape (batch, width)."""
        batch = self._node("Shape", "state", start=0, end=1)
        return self._node("Concat", batch, self._whole(width), axis=0)

    def _value(
        self,
        value: Expression,
        start: int,
        stop: int,
        known: dict[int, str],
        source: str = "",
        parameters: Sequence[str] = (),
    ) -> str:
        """Return the tensor of a formula, and append its nodes."""
        if id(value) not in known:
            if isinstance(value, Apply) and (bounds := _bounds(value)) is not None:
                inner, low, high = bounds
                tensor = self._value(inner, start, stop, known, source, parameters)
                limits = self._number(low), self._number(high)
                known[id(value)] = self._node("Clip", tensor, *limits)
            elif isinstance(value, Apply):
                arguments = [
                    self._value(each, start, stop, known, source, parameters)
                    for each in value.arguments
                ]
                known[id(value)] = self._apply(value.function, arguments)
            elif isinstance(value, Local):
                inner = value.value
                known[id(value)] = self._value(inner, start, stop, known, source, parameters)
            elif isinstance(value, Source):
                return source
            elif isinstance(value, Parameter):
                return parameters[value.index]
            else:
                known[id(value)] = self._atom(value, start, stop)
        return known[id(value)]

    def _atom(self, value: Expression, start: int, stop: int) -> str:
        match value:
            case Constant(name, values):
                return self._constant(values[None], name)
            case Entry(vector, shift):
                return self._read(vector, start + shift, stop + shift)
            case Item(vector, index):
                return self._read(vector, index, index + 1)
            case Scalar(name):
                return self._scalars[name]
        assert isinstance(value, Number)
        return self._number(value.value)

    def _apply(self, function: str, tensors: Sequence[str]) -> str:
        if function in COMPARISONS:
            truth = self._node(COMPARISONS[function], *tensors)
            return self._node("Cast", truth, to=TensorProto.FLOAT)
        return self._node(OPERATORS[function], *tensors)

    def _set(self, vector: str, tensor: str) -> None:
        self._pieces[vector] = [(0, self.description.size(vector), tensor)]

    def _write(self, vector: str, start: int, stop: int, tensor: str) -> None:
        """Write a piece to a vector, replacing the entries that it covers."""
        kept: list[Piece] = []
        for first, last, name in self._pieces.get(vector, []):
            if last <= start or first >= stop:
                kept.append((first, last, name))
                continue
            if first < start:
                kept.append((first, start, self._slice(name, 0, start - first)))
            if last > stop:
                kept.append((stop, last, self._slice(name, stop - first, last - first)))
        self._pieces[vector] = sorted([*kept, (start, stop, tensor)])
        for key in [key for key in self._stacked if vector in key[0]]:
            if key[1] < stop and start < key[2]:
                del self._stacked[key]

    def _covering(self, vector: str, start: int, stop: int) -> tuple[int, int]:
        """Extend a range to whole pieces, so that none has to be cut."""
        touched = [piece for piece in self._pieces[vector] if piece[0] < stop and start < piece[1]]
        return touched[0][0], touched[-1][1]

    def _read(self, vector: str, start: int, stop: int) -> str:
        """Return the tensor of some entries of a vector."""
        parts = []
        for first, last, name in self._pieces[vector]:
            if last <= start or first >= stop:
                continue
            if name in self._pending:
                self._pending[name]()
            whole = start <= first and last <= stop
            cut = max(start, first) - first, min(stop, last) - first
            parts.append(name if whole else self._slice(name, *cut))
        return parts[0] if len(parts) == 1 else self._node("Concat", *parts, axis=1)

    def _slice(self, tensor: str, start: int, stop: int) -> str:
        if tensor in self._pending:
            self._pending[tensor]()
        bounds = [self._whole(each) for each in (start, stop, 1)]
        return self._node("Slice", tensor, *bounds)

    def _whole(self, *values: int) -> str:
        """Return a constant of whole numbers, such as a shape."""
        return self._constant(np.array(values, np.int64))

    def _number(self, value: float) -> str:
        return self._constant(np.float32(value))

    def _constant(self, values: Any, name: str = "constant") -> str:
        """Return the name of a constant tensor, which is added if it is new."""
        array = np.asarray(values)
        for known, others in self.constants.items():
            same = others.dtype == array.dtype and others.shape == array.shape
            if same and known.rstrip("_0123456789") == name and (others == array).all():
                return known
        unique = name if name not in {*self.constants, *self._taken} else self._name(name)
        self.constants[unique] = array
        return unique

    def _name(self, stem: str) -> str:
        while True:
            self._count += 1
            if (name := f"{stem}_{self._count}") not in self._taken:
                return name

    def _node(self, operator: str, *inputs: str, output: str | None = None, **options: Any) -> str:
        name = output or self._name(operator)
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], name=f"node_{name}", **options)
        )
        return name


def _bounds(value: Apply) -> tuple[Expression, float, float] | None:
    """Return the clipped expression and the bounds, if they are the same for all entries."""
    if value.function != "min":
        return None
    above, high = value.arguments
    if not isinstance(above, Apply) or above.function != "max":
        return None
    found = []
    for bound in (above.arguments[1], high):
        if isinstance(bound, Number):
            found.append(bound.value)
        elif isinstance(bound, Constant) and (bound.values == bound.values[0]).all():
            found.append(float(bound.values[0]))
        else:
            return None
    return above.arguments[0], found[0], found[1]


def _has(value: Expression, kinds: Any) -> bool:
    return any(isinstance(each, kinds) for each in _parts(value))


def _parts(value: Expression) -> Iterator[Expression]:
    yield value
    if isinstance(value, Apply):
        for each in value.arguments:
            yield from _parts(each)
    elif isinstance(value, Local):
        yield from _parts(value.value)
