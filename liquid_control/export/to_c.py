"""Generates a policy in C99 that needs no other library, and no memory but what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from liquid_control.export.c_functions import FUNCTIONS, functions_text
from liquid_control.export.description import (
    Action,
    ArgMax,
    Assign,
    Dense,
    Description,
    ExportError,
    Map,
    Part,
    Repeat,
    Statement,
    Sum,
    as_floats,
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
    walk,
)
from liquid_control.export.quantization import BITS, codes

WIDTH = 96  # of lines with tables
OPERATORS = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2)}
BLOCK = 8  # functions that are computed at once
GROUP = 128  # synapses whose functions are kept on the stack
ATOM = 3  # precedence of what needs no parentheses
CALLS = {"abs": "magnitude", "min": "at_most", "max": "at_least"}
COMPARISONS = {"equal": "==", "greater": ">"}
FIELDS = {
    "x": "activity of the neurons",
    "cell": "memory of the neurons",
    "previous_action": "in [-1, 1]",
    "previous_features": "the last observation and its derivatives",
    "continues": "0 at the start of an episode, then 1",
    "action": "the last one",
}
"""Comments for the vectors of the state."""

WEIGHTS = {
    "float32": "floats",
    "int8": "8 bits, and a float as scale for each neuron and gate",
    "int4": "4 bits, and a float as scale for each neuron and gate",
}
"""What the header says about them."""

AROUND = {"shift", "scale", "places", "low", "high", "range"}
"""Constants of the normaliser and the actions, which are not the circuit's."""

TEMPLATES = Environment(
    loader=PackageLoader("liquid_control.export", ""),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class CSources:
    """A policy in C.

    Attributes:
        header: text of policy.h.
        source: text of policy.c.
        flash: bytes of constants.
        circuit: bytes of those of the circuit: without the normaliser, the encoder and the head.
        state: bytes of a robot's state.
        stack: bytes of vectors during a step.
    """

    header: str
    source: str
    flash: int
    circuit: int
    state: int
    stack: int


def to_c(
    description: Description,
    facts: Sequence[str] = (),
    trained_interval: tuple[float, float] | None = None,
) -> CSources:
    """Generate policy.h and policy.c.

    Args:
        description: of a policy without noise.
        facts: lines of text for the header, such as the name of the task.
        trained_interval: shortest and longest interval of the training, in seconds; by default the
            nominal one.

    Raises:
        ExportError: the description takes noise as an input.
    """
    if description.is_sampled:
        raise ExportError("policies in C take no noise; describe one with sampled=False")
    writer = _Writer(description)
    body = writer.step()
    functions = writer.functions | {"all_finite"}
    if any(part.sizes for part in description.parts):
        functions.add("is_index")
    state = 4 * (description.state_size + description.action.size)
    sizes = {
        "flash": sum(table.bytes for table in writer.tables.values()),
        "circuit": sum(writer.tables[name].bytes for name in writer.of_circuit),
        "state": state,
        "stack": state
        + 4 * (writer.functions_at_once + sum(description.vectors[name] for name in writer.work)),
    }
    trained = trained_interval or (description.nominal_interval,) * 2
    elapsed = "elapsed_seconds" if description.is_timed else "POLICY_NOMINAL_INTERVAL"
    values = {
        **_values(description),
        **sizes,
        "facts": list(map(comment, facts)),
        "trained": [number(each) for each in trained],
        "functions": functions_text(functions),
        "tables": ["\n".join(table.text()) for table in writer.tables.values()],
        "work": [(name, description.vectors[name]) for name in writer.work],
        "elapsed": elapsed if any("elapsed_time" in line for line in body) else None,
        "body": "\n".join(body),
    }
    header, source = (
        TEMPLATES.get_template(name).render(values) for name in ("policy.h.jinja", "policy.c.jinja")
    )
    return CSources(header, source, **sizes)


def number(value: float) -> str:
    """Return a literal that is exactly a single-precision number, in every locale."""
    text = f"{np.float32(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


class _Table:
    """A constant array of numbers."""

    def __init__(self, name: str, values: NDArray[Any]) -> None:
        self.name, self.values = name, values
        if values.dtype == np.float32:
            self.type = "float"
        elif values.dtype == np.int8:
            self.type = "int8_t"
        else:
            largest = int(values.max(initial=0))
            self.type = "uint8_t" if largest < 1 << 8 else "uint16_t"
            if largest >= 1 << 16:
                raise ExportError(f"{name} has more than {1 << 16} entries, which C cannot index")

    @property
    def bytes(self) -> int:
        width = {"float": 4, "int8_t": 1, "uint8_t": 1, "uint16_t": 2}[self.type]
        return int(self.values.size) * width

    def text(self) -> Iterator[str]:
        shape = "".join(f"[{size}]" for size in self.values.shape)
        yield f"static const {self.type} {self.name}{shape} = {{"
        rows = self.values.reshape(-1, self.values.shape[-1]) if self.values.ndim > 1 else None
        if self.values.ndim == 1:
            yield from _wrapped([self._literal(value) for value in self.values])
        elif self.values.ndim == 2:
            assert rows is not None
            literals = ["{" + ", ".join(map(self._literal, row)) + "}" for row in rows]
            yield from _wrapped(literals)
        else:
            for matrix in self.values:
                yield "    {"
                for row in matrix:
                    lines = list(_wrapped([self._literal(value) for value in row]))
                    yield from ("    {", *lines, "    },")
                yield "    },"
        yield "};"

    def _literal(self, value: Any) -> str:
        return number(value) if self.type == "float" else str(int(value))


@dataclass(frozen=True)
class _Weights:
    """A table of weights.

    Attributes:
        name: of the table.
        shape: of the weights.
        bits: of each: 32 for floats.
    """

    name: str
    shape: tuple[int, ...]
    bits: int

    def at(self, *indices: str | int) -> str:
        """Return the text of one weight, as a float."""
        if self.bits == 4:
            place = str(indices[0])
            for size, index in zip(self.shape[1:], indices[1:], strict=True):
                place = f"({place} * {size} + {index})"
            return f"weight_at({self.name}, {place})"
        text = self.name + "".join(f"[{index}]" for index in indices)
        return text if self.bits == 32 else f"(float){text}"


def packed(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return whole numbers of four bits, two in a byte, the first in the lower bits."""
    flat = np.append(values.ravel(), np.int8(0)) if values.size % 2 else values.ravel()
    bits = flat.astype(np.uint8) & 15
    return np.asarray(bits[::2] | (bits[1::2] << 4), np.uint8)


def _plus(first: str, second: str) -> str:
    """Return the text of a sum, without a zero at its beginning."""
    return second if first == "0.0f" else f"{first} + {second}"


def _wrapped(literals: Sequence[str]) -> Iterator[str]:
    line = "   "
    for literal in literals:
        if len(line) + len(literal) > WIDTH:
            yield line
            line = "   "
        line += f" {literal},"
    yield line


class _Writer:
    """Writes the statements of a step, and collects the tables and functions that they need."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.tables: dict[str, _Table] = {}
        self.functions: set[str] = set()
        self.work: dict[str, None] = {}  # vectors that are not part of the state, in order
        self.functions_at_once = 0
        self.of_circuit: set[str] = set()  # names of tables
        self._depth = 1
        self._title = ""

    def step(self) -> list[str]:
        """Return the lines of all statements."""
        return [line for each in self.description.statements for line in self._statement(each)]

    def _statement(self, statement: Statement) -> Iterator[str]:
        self._is_circuit = isinstance(statement, Sum)
        match statement:
            case Assign(scalar, value):
                yield self._line(f"const float {scalar} = {self._text(value, '', 0)};")
            case Map():
                yield from self._titled(statement.title)
                yield from self._map(statement)
            case Sum():
                yield from self._titled(statement.title)
                dense, gate = _dense_sources(statement), _gate(statement)
                if dense is not None:
                    yield from self._full(statement, dense)
                elif gate is not None:
                    yield from self._gated(statement, gate)
                else:
                    yield from self._sum(statement)
            case Dense():
                yield from self._titled(statement.title)
                yield from self._dense(statement)
            case ArgMax():
                yield from self._titled(statement.title)
                yield from self._arg_max(statement)
            case Repeat(title, times, body):
                yield from self._titled(title)
                yield self._line(
                    f"for (int step_number = 0; step_number < {times}; ++step_number) {{"
                )
                self._depth += 1
                for each in body:
                    yield from self._statement(each)
                self._depth -= 1
                yield self._line("}")

    def _titled(self, title: str) -> Iterator[str]:
        if title != self._title:
            yield self._line(f"/* {title} */")
        self._title = title

    def _line(self, text: str, deeper: int = 0) -> str:
        return "    " * (self._depth + deeper) + text

    def _loop(self, count: int, variable: str = "i") -> str:
        return f"for (int {variable} = 0; {variable} < {count}; ++{variable}) {{"

    def _map(self, each: Map) -> Iterator[str]:
        count = each.stop - each.start
        index = "i" if count > 1 else ""
        self._names: dict[int, str] = {}
        lines: list[str] = []
        values: list[str] = []
        for target, value in each.results:
            lines += self._locals(value, index, each.start)
            text = self._text(value, index, each.start)
            if len(each.results) > 1 and not isinstance(value, Local):
                lines.append(f"const float new_{target} = {text};")
                text = f"new_{target}"
            values.append(text)
        for (target, _), text in zip(each.results, values, strict=True):
            lines.append(f"{self._place(target, each.start, index)} = {text};")
        if index:
            yield self._line(self._loop(count))
            yield from (self._line(line, 1) for line in lines)
            yield self._line("}")
        elif len(lines) > 1:
            yield self._line("{")
            yield from (self._line(line, 1) for line in lines)
            yield self._line("}")
        else:
            yield from map(self._line, lines)

    def _locals(self, value: Expression, index: str, start: int) -> Iterator[str]:
        """Declare the named parts of a formula that were not declared before."""
        for part in walk(value):
            if isinstance(part, Local) and id(part) not in self._names:
                text = self._text(part.value, index, start)
                taken = set(self._names.values())
                name = next(
                    name
                    for name in (part.name, *(f"{part.name}_{n}" for n in range(2, 99)))
                    if name not in taken
                )
                self._names[id(part)] = name
                yield f"const float {name} = {text};"

    def _sum(self, each: Sum) -> Iterator[str]:
        """Sparse synapses, target by target."""
        starts = self._table(f"{each.name}_starts", each.starts)
        sources = self._table(f"{each.name}_sources", each.sources)
        values = each.parameters if each.scales is None else codes(each)
        weights = self._weights(each.name, values.T if len(values) > 1 else values[0])
        scale = self._scale(each)
        self._names = {}
        sums = len(each.targets)
        yield self._line(self._loop(len(each.starts) - 1, "n"))
        initial = [self._initial(each, target, index) for index, target in enumerate(each.targets)]
        late = each.is_linear and bool(scale)  # the sum is scaled, in the place of each synapse
        yield self._line(
            f"float sum[{sums}] = {{{', '.join(['0.0f'] * sums if late else initial)}}};", 1
        )
        first, last = f"{starts}[n]", f"{starts}[n + 1]"
        yield self._line(f"for (int k = {first}; k < {last}; ++k) {{", 1)
        yield self._line(f"const float from = {self._vector(each.source)}[{sources}[k]];", 2)
        if each.is_linear and sums > 1:  # an inner loop is what compilers turn into vectors
            yield self._line(self._loop(sums, "j"), 2)
            yield self._line(f"sum[j] += {weights.at('k', 'j')} * from;", 3)
            yield self._line("}", 2)
        else:
            lines = self._contributions(each, weights, "" if late else scale)
            yield from (self._line(line, 2) for line in lines)
        yield self._line("}", 1)
        for index, target in enumerate(each.targets):
            total = f"sum[{index}]"
            if late:
                total = _plus(initial[index], f"{scale}[n][{index}] * {total}")
            yield self._line(f"{self._place(target, each.start, 'n')} = {total};", 1)
        yield self._line("}")

    def _gated(self, each: Sum, gate: Local) -> Iterator[str]:
        """Sparse synapses that share a function, which is computed for many of them at once.

        Targets are taken in groups with few synapses, so that the stack stays small, and the
        function in blocks of a fixed length, which compilers turn into vectors.
        """
        starts = self._table(f"{each.name}_starts", each.starts)
        sources = self._table(f"{each.name}_sources", each.sources)
        bounds = _groups(each.starts)
        groups = self._table(f"{each.name}_groups", bounds)
        values = each.parameters if each.scales is None else codes(each)
        weights = self._weights(each.name, values.T)
        scale = self._scale(each)
        source = f"const float from = {self._vector(each.source)}[{sources}[k]];"
        most = -(-int(np.diff(each.starts[bounds]).max(initial=1)) // BLOCK) * BLOCK
        self.functions_at_once = max(self.functions_at_once, most)
        assert isinstance(gate.value, Apply)
        (argument,) = gate.value.arguments
        self._names = {}
        weight = list(self._weight_of(each, weights, scale))
        each_target = f"for (int n = {groups}[group]; n < {groups}[group + 1]; ++n) {{"
        each_synapse = f"for (int k = {starts}[n]; k < {starts}[n + 1]; ++k) {{"
        yield self._line(self._loop(len(bounds) - 1, "group"))
        yield self._line(f"const int first = {starts}[{groups}[group]];", 1)
        yield self._line(f"float {gate.name}[{most}];", 1)
        yield self._line("int count = 0;", 1)
        yield self._line(each_target, 1)
        yield self._line(each_synapse, 2)
        yield self._line(source, 3)
        yield from (self._line(line, 3) for line in weight)
        yield self._line(f"{gate.name}[count++] = {self._text(argument, '', 0)};", 3)
        yield self._line("}", 2)
        yield self._line("}", 1)
        yield self._line(f"for (; count % {BLOCK} != 0; ++count) {{", 1)
        yield self._line(f"{gate.name}[count] = 0.0f;", 2)
        yield self._line("}", 1)
        yield self._line(f"for (int k = 0; k < count; k += {BLOCK}) {{", 1)
        yield self._line(self._loop(BLOCK, "j"), 2)
        text, _ = self._call(gate.value.function, [(f"{gate.name}[k + j]", ATOM)])
        yield self._line(f"{gate.name}[k + j] = {text};", 3)
        yield self._line("}", 2)
        yield self._line("}", 1)
        yield self._line(each_target, 1)
        initial = [self._initial(each, target, index) for index, target in enumerate(each.targets)]
        yield self._line(f"float sum[{len(initial)}] = {{{', '.join(initial)}}};", 2)
        yield self._line(each_synapse, 2)
        if any(_reads_source(value, gate) for _, value in each.contributions):
            yield self._line(source, 3)
        yield from (self._line(line, 3) for line in weight)
        self._names[id(gate)] = f"{gate.name}[k - first]"
        for index, (_, value) in enumerate(each.contributions):
            yield self._line(f"sum[{index}] += {self._text(value, '', 0)};", 3)
        yield self._line("}", 2)
        for index, target in enumerate(each.targets):
            yield self._line(f"{self._place(target, each.start, 'n')} = sum[{index}];", 2)
        yield self._line("}", 1)
        yield self._line("}")

    def _contributions(self, each: Sum, weights: _Weights, scale: str) -> Iterator[str]:
        """What one synapse adds to the sums; `scale` is that of each parameter, if there is one."""
        yield from self._weight_of(each, weights, scale)
        for index, (_, value) in enumerate(each.contributions):
            yield from self._locals(value, "", 0)
            yield f"sum[{index}] += {self._text(value, '', 0)};"

    def _weight_of(self, each: Sum, weights: _Weights, scale: str) -> Iterator[str]:
        """Declare the parameters of a synapse."""
        count = len(each.parameters)
        self._is_scalar = count == 1
        if self._is_scalar:
            yield f"const float weight = {weights.at('k')};"
        elif each.scales is None:
            yield f"const float *const weight = {weights.name}[k];"
        else:
            values = [f"{scale}[n][{index}] * {weights.at('k', index)}" for index in range(count)]
            yield f"const float weight[{count}] = {{{', '.join(values)}}};"

    def _full(self, each: Sum, span: slice) -> Iterator[str]:
        """Synapses from every source in a range to every target: no lists, and vectorised."""
        count = len(each.starts) - 1
        size = self.description.size(each.source)
        values = each if each.scales is None else replace(each, parameters=as_floats(codes(each)))
        matrix = values.matrix(size)[span]
        weights = self._weights(
            each.name, matrix if each.scales is None else matrix.astype(np.int8)
        )
        scale = self._scale(each)
        yield self._line(self._loop(count, "n"))
        for index, target in enumerate(each.targets):
            place = self._place(target, each.start, "n")
            yield self._line(f"{place} = {self._initial(each, target, index)};", 1)
        yield self._line("}")
        yield self._line(self._loop(span.stop - span.start, "k"))
        yield self._line(f"const float from = {self._place(each.source, span.start, 'k')};", 1)
        yield self._line(self._loop(count, "n"), 1)
        for index, target in enumerate(each.targets):
            place = self._place(target, each.start, "n")
            weight = weights.at("k", index, "n")
            weight = f"{scale}[n][{index}] * {weight}" if scale else weight
            yield self._line(f"{place} += {weight} * from;", 2)
        yield self._line("}", 1)
        yield self._line("}")

    def _initial(self, each: Sum, target: str, index: int) -> str:
        if each.initial is None:
            return self._place(target, each.start, "n")
        if not each.initial.any():
            return "0.0f"
        table = self._table(f"{each.name}_bias", np.ascontiguousarray(each.initial.T))
        return f"{table}[n][{index}]"

    def _dense(self, each: Dense) -> Iterator[str]:
        outputs, inputs = each.weight.shape
        bias = self._table(f"{each.name}_bias", each.bias)
        weights = self._weights(each.name, (each.weight if each.scales is None else codes(each)).T)
        target = self._vector(each.target)
        yield self._line(self._loop(outputs, "n"))
        yield self._line(f"{target}[n] = {bias + '[n]' if each.scales is None else '0.0f'};", 1)
        yield self._line("}")
        yield self._line(self._loop(inputs, "k"))
        yield self._line(f"const float from = {self._vector(each.source)}[k];", 1)
        yield self._line(self._loop(outputs, "n"), 1)
        yield self._line(f"{target}[n] += {weights.at('k', 'n')} * from;", 2)
        yield self._line("}", 1)
        yield self._line("}")
        if each.scales is not None:
            scale = self._table(f"{each.name}_scales", each.scales)
            yield self._line(self._loop(outputs, "n"))
            yield self._line(f"{target}[n] = {bias}[n] + {scale}[n] * {target}[n];", 1)
            yield self._line("}")

    def _weights(self, name: str, values: NDArray[Any]) -> _Weights:
        """Add the table of weights: floats, or whole numbers of eight bits or four."""
        bits = 32 if values.dtype == np.float32 else BITS[self.description.weights]
        if bits == 4:
            self.functions.add("weight_at")
        table = packed(values) if bits == 4 else np.ascontiguousarray(values)
        return _Weights(self._table(f"{name}_weights", table), values.shape, bits)

    def _scale(self, each: Sum) -> str:
        """Return the name of the scales of rounded weights, (entries, parameters)."""
        if each.scales is None:
            return ""
        return self._table(f"{each.name}_scales", np.ascontiguousarray(each.scales.T))

    def _arg_max(self, each: ArgMax) -> Iterator[str]:
        source, last = self._vector(each.source), each.stop
        yield self._line("{")
        yield self._line(f"int best = {each.start};", 1)
        yield self._line(f"for (int i = {each.start + 1}; i < {last}; ++i) {{", 1)
        yield self._line(f"best = {source}[i] > {source}[best] ? i : best;", 2)
        yield self._line("}", 1)
        place = f"{self._vector(each.target)}[{each.index}]"
        offset = f" - {each.start}" if each.start else ""
        chosen = f"(best{offset})" if offset else "best"
        yield self._line(f"{place} = (float){chosen};", 1)
        yield self._line("}")

    def _vector(self, name: str) -> str:
        """Return how a vector is called in C."""
        if name == "observation":
            return name
        if name == "action" or name in self.description.states:
            return f"next.{name}"
        self.work.setdefault(name)
        return name

    def _place(self, vector: str, start: int, index: str) -> str:
        at = " + ".join(part for part in (str(start) if start or not index else "", index) if part)
        return f"{self._vector(vector)}[{at}]"

    def _table(self, name: str, values: NDArray[Any]) -> str:
        """Return the name of a table with these values, which is added if there is none."""
        number_of_name = 1
        while True:
            unique = name if number_of_name == 1 else f"{name}_{number_of_name}"
            known = self.tables.get(unique)
            if known is None:
                self.tables[unique] = known = _Table(unique, values)
            if known.values.shape == values.shape and (known.values == values).all():
                if self._is_circuit:
                    self.of_circuit.add(unique)
                return unique
            number_of_name += 1

    def _text(self, value: Expression, index: str, start: int) -> str:
        return self._formula(value, index, start)[0]

    def _formula(self, value: Expression, index: str, start: int) -> tuple[str, int]:
        """Return the text of a formula, and the precedence of its outermost operator."""
        if isinstance(value, Apply):
            parts = [self._formula(each, index, start) for each in value.arguments]
            return self._call(value.function, parts)
        return self._atom(value, index, start), ATOM

    def _atom(self, value: Expression, index: str, start: int) -> str:
        match value:
            case Number(constant):
                return number(constant)
            case Scalar(name):
                return name
            case Entry(vector, shift):
                return self._place(vector, start + shift, index)
            case Item(vector, place):
                return f"{self._vector(vector)}[{place}]"
            case Constant():
                return self._constant(value, index)
            case Source():
                return "from"
            case Parameter(which):
                return "weight" if self._is_scalar else f"weight[{which}]"
        assert isinstance(value, Local)
        return self._names[id(value)]

    def _constant(self, value: Constant, index: str) -> str:
        first = value.values[0]
        if (value.values == first).all():
            return number(first)
        self._is_circuit = value.name not in AROUND
        return f"{self._table(value.name, value.values)}[{index or 0}]"

    def _call(self, function: str, arguments: Sequence[tuple[str, int]]) -> tuple[str, int]:
        if function in OPERATORS:
            sign, rank = OPERATORS[function]
            (left, left_rank), (right, right_rank) = arguments
            left = left if left_rank >= rank else f"({left})"
            # Floating-point sums are not associative, so the right side keeps its parentheses.
            right = right if right_rank > rank else f"({right})"
            return f"{left} {sign} {right}", rank
        texts = [text for text, _ in arguments]
        if function in COMPARISONS:
            return f"({texts[0]} {COMPARISONS[function]} {texts[1]} ? 1.0f : 0.0f)", ATOM
        name = CALLS.get(function, f"{function}_of")
        assert name in FUNCTIONS
        self.functions.add(name)
        return f"{name}({', '.join(texts)})", ATOM


def _gate(each: Sum) -> Local | None:
    """Return the function of one argument that all contributions share, if that is all they do."""
    found = {
        id(part): part
        for _, value in each.contributions
        for part in walk(value)
        if isinstance(part, Local)
    }
    if len(found) != 1 or len(each.parameters) == 1:
        return None
    (gate,) = found.values()
    is_function = isinstance(gate.value, Apply) and len(gate.value.arguments) == 1
    return gate if is_function else None


def _reads_source(value: Expression, gate: Local) -> bool:
    """Return whether a contribution needs its source besides the function that all share."""
    if value is gate:
        return False
    if isinstance(value, Apply):
        return any(_reads_source(each, gate) for each in value.arguments)
    return isinstance(value, Source)


def _groups(starts: NDArray[Any]) -> NDArray[np.int64]:
    """Return bounds of groups of targets, each with at most `GROUP` synapses, or one target."""
    bounds = [0]
    for target in range(1, len(starts)):
        if starts[target] - starts[bounds[-1]] > GROUP and target - 1 > bounds[-1]:
            bounds.append(target - 1)
    return np.array([*bounds, len(starts) - 1])


def _dense_sources(each: Sum) -> slice | None:
    """Return the sources of a sum if each of them has a synapse to each target, else None."""
    first, stop = int(each.sources.min()), int(each.sources.max()) + 1
    full = (stop - first) * (len(each.starts) - 1)
    return slice(first, stop) if each.is_linear and len(each.sources) == full else None


def _values(description: Description) -> dict[str, Any]:
    """Return what the templates say about a description."""
    action = description.action
    indices, index = [], 0
    for part in description.parts:
        indices += [
            (index + offset, size, comment(part.name)) for offset, size in enumerate(part.sizes)
        ]
        index += part.size
    resting = [0.0] * action.size
    if action.kind == "box":  # zero, or the bound that is nearest to it
        resting = [
            min(max(0.0, low), high) for low, high in zip(action.low, action.high, strict=True)
        ]
    results = [*description.states.items(), ("action", action.size)]
    return {
        "observation_size": description.observation_size,
        "action_size": action.size,
        "neurons": description.states["x"],
        "nominal": number(description.nominal_interval),
        "shortest": number(description.shortest),
        "longest": number(min(description.longest, float(np.finfo(np.float32).max))),
        "layout": "; ".join(map(_layout, description.parts)),
        "action_layout": _action_layout(action),
        "fields": [(name, size, FIELDS.get(name, name)) for name, size in results],
        "multiply_adds": description.multiply_adds,
        "weights": WEIGHTS[description.weights],
        "indices": indices,
        "resting": [(i, number(value)) for i, value in enumerate(resting) if value],
        "results": results,
    }


def comment(text: str) -> str:
    """Return text that cannot end a comment or a line."""
    return " ".join(text.replace("*/", "* /").replace("/*", "/ *").splitlines())


def _layout(part: Part) -> str:
    values = f", from 0 to below {', '.join(map(str, part.sizes))}" if part.sizes else ""
    return comment(f"{part.name} ({part.size}{values})")


def _action_layout(action: Action) -> str:
    if action.kind == "box":
        return f"{action.size} numbers within the bounds of the task"
    if action.kind == "multi_binary":
        return f"{action.size} numbers, each 0 or 1"
    return f"{action.size} whole numbers from 0 to below {', '.join(map(str, action.sizes))}"
