"""Statements of a policy in C: loops over neurons and synapses that compilers vectorise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.export.c_formulas import ATOM, Formulas
from liquid_control.export.c_tables import Weights, add_table, comment, packed
from liquid_control.export.description import (
    ArgMax,
    Assign,
    Dense,
    Description,
    Map,
    Repeat,
    Statement,
    Sum,
    as_floats,
)
from liquid_control.export.expressions import Apply, Expression, Local, Source, walk
from liquid_control.export.quantization import BITS, codes

BLOCK = 8  # functions that are computed at once
GROUP = 128  # synapses whose functions are kept on the stack


class Writer:
    """Writes the statements of a step.

    Attributes:
        formulas: what the statements need.
        functions_at_once: most values of a shared function that are kept on the stack.
    """

    def __init__(self, description: Description) -> None:
        self.description = description
        self.formulas = Formulas(description.states)
        self.functions_at_once = 0
        self._depth = 1
        self._title = ""

    def step(self) -> list[str]:
        """Return the lines of all statements."""
        return [line for each in self.description.statements for line in self._statement(each)]

    def _statement(self, statement: Statement) -> Iterator[str]:
        if not isinstance(statement, Assign):
            yield from self._titled(statement.title)
        match statement:
            case Assign(scalar, value):
                yield self._line(f"const float {scalar} = {self.formulas.text(value)};")
            case Map():
                yield from self._map(statement)
            case Sum():
                yield from self._synapses(statement)
            case Dense():
                yield from self._dense(statement)
            case ArgMax():
                yield from self._arg_max(statement)
            case Repeat(_, times, body):
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
            yield self._line(f"/* {comment(title)} */")
        self._title = title

    def _line(self, text: str, deeper: int = 0) -> str:
        return "    " * (self._depth + deeper) + text

    def _loop(self, count: int, variable: str = "i") -> str:
        return f"for (int {variable} = 0; {variable} < {count}; ++{variable}) {{"

    def _map(self, each: Map) -> Iterator[str]:
        count = each.stop - each.start
        index = "i" if count > 1 else ""
        self.formulas.begin()
        lines: list[str] = []
        values: list[str] = []
        for target, value in each.results:
            lines += self.formulas.locals(value, index, each.start)
            text = self.formulas.text(value, index, each.start)
            if len(each.results) > 1 and not isinstance(value, Local):
                lines.append(f"const float new_{target} = {text};")
                text = f"new_{target}"
            values.append(text)
        for (target, _), text in zip(each.results, values, strict=True):
            lines.append(f"{self.formulas.place(target, each.start, index)} = {text};")
        if index or len(lines) > 1:
            yield self._line(self._loop(count) if index else "{")
            yield from (self._line(line, 1) for line in lines)
            yield self._line("}")
        else:
            yield from map(self._line, lines)

    def _synapses(self, each: Sum) -> Iterator[str]:
        dense, gate = _dense_sources(each), _gate(each)
        if dense is not None:
            return self._full(each, dense)
        return self._sum(each) if gate is None else self._gated(each, gate)

    def _sum(self, each: Sum) -> Iterator[str]:
        """Sparse synapses, target by target."""
        starts = self._table(each, "starts", each.starts)
        sources = self._table(each, "sources", each.sources)
        values = each.parameters if each.scales is None else codes(each)
        weights = self._weights(each, values.T if len(values) > 1 else values[0])
        scale = self._scale(each)
        self.formulas.begin(len(each.parameters))
        sums = len(each.targets)
        yield self._line(self._loop(len(each.starts) - 1, "n"))
        initial = [self._initial(each, target, index) for index, target in enumerate(each.targets)]
        late = each.is_linear and bool(scale)  # the sum is scaled, in the place of each synapse
        yield self._line(
            f"float sum[{sums}] = {{{', '.join(['0.0f'] * sums if late else initial)}}};", 1
        )
        first, last = f"{starts}[n]", f"{starts}[n + 1]"
        yield self._line(f"for (int k = {first}; k < {last}; ++k) {{", 1)
        yield self._line(
            f"const float from = {self.formulas.vector(each.source)}[{sources}[k]];", 2
        )
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
            yield self._line(f"{self.formulas.place(target, each.start, 'n')} = {total};", 1)
        yield self._line("}")

    def _gated(self, each: Sum, gate: Local) -> Iterator[str]:
        """Sparse synapses that share a function, which is computed for many of them at once.

        Targets are taken in groups with few synapses, so that the stack stays small, and the
        function in blocks of a fixed length, which compilers turn into vectors.
        """
        starts = self._table(each, "starts", each.starts)
        sources = self._table(each, "sources", each.sources)
        bounds = _groups(each.starts)
        groups = self._table(each, "groups", bounds)
        values = each.parameters if each.scales is None else codes(each)
        weights = self._weights(each, values.T)
        scale = self._scale(each)
        source = f"const float from = {self.formulas.vector(each.source)}[{sources}[k]];"
        most = -(-int(np.diff(each.starts[bounds]).max(initial=1)) // BLOCK) * BLOCK
        self.functions_at_once = max(self.functions_at_once, most)
        assert isinstance(gate.value, Apply)
        (argument,) = gate.value.arguments
        self.formulas.begin(len(each.parameters))
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
        yield self._line(f"{gate.name}[count++] = {self.formulas.text(argument)};", 3)
        yield self._line("}", 2)
        yield self._line("}", 1)
        yield self._line(f"for (; count % {BLOCK} != 0; ++count) {{", 1)
        yield self._line(f"{gate.name}[count] = 0.0f;", 2)
        yield self._line("}", 1)
        yield self._line(f"for (int k = 0; k < count; k += {BLOCK}) {{", 1)
        yield self._line(self._loop(BLOCK, "j"), 2)
        text, _ = self.formulas.call(gate.value.function, [(f"{gate.name}[k + j]", ATOM)])
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
        self.formulas.name(gate, f"{gate.name}[k - first]")
        for index, (_, value) in enumerate(each.contributions):
            yield self._line(f"sum[{index}] += {self.formulas.text(value)};", 3)
        yield self._line("}", 2)
        for index, target in enumerate(each.targets):
            yield self._line(f"{self.formulas.place(target, each.start, 'n')} = sum[{index}];", 2)
        yield self._line("}", 1)
        yield self._line("}")

    def _contributions(self, each: Sum, weights: Weights, scale: str) -> Iterator[str]:
        """What one synapse adds to the sums; `scale` is that of each parameter, if there is one."""
        yield from self._weight_of(each, weights, scale)
        for index, (_, value) in enumerate(each.contributions):
            yield from self.formulas.locals(value)
            yield f"sum[{index}] += {self.formulas.text(value)};"

    def _weight_of(self, each: Sum, weights: Weights, scale: str) -> Iterator[str]:
        """Declare the parameters of a synapse."""
        count = len(each.parameters)
        if count == 1:
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
        weights = self._weights(each, matrix if each.scales is None else matrix.astype(np.int8))
        scale = self._scale(each)
        yield self._line(self._loop(count, "n"))
        for index, target in enumerate(each.targets):
            place = self.formulas.place(target, each.start, "n")
            yield self._line(f"{place} = {self._initial(each, target, index)};", 1)
        yield self._line("}")
        yield self._line(self._loop(span.stop - span.start, "k"))
        yield self._line(
            f"const float from = {self.formulas.place(each.source, span.start, 'k')};", 1
        )
        yield self._line(self._loop(count, "n"), 1)
        for index, target in enumerate(each.targets):
            place = self.formulas.place(target, each.start, "n")
            weight = weights.at("k", index, "n")
            weight = f"{scale}[n][{index}] * {weight}" if scale else weight
            yield self._line(f"{place} += {weight} * from;", 2)
        yield self._line("}", 1)
        yield self._line("}")

    def _initial(self, each: Sum, target: str, index: int) -> str:
        if each.initial is None:
            return self.formulas.place(target, each.start, "n")
        if not each.initial.any():
            return "0.0f"
        table = self._table(each, "bias", np.ascontiguousarray(each.initial.T))
        return f"{table}[n][{index}]"

    def _dense(self, each: Dense) -> Iterator[str]:
        outputs, inputs = each.weight.shape
        bias = self._table(each, "bias", each.bias)
        weights = self._weights(each, (each.weight if each.scales is None else codes(each)).T)
        target = self.formulas.vector(each.target)
        yield self._line(self._loop(outputs, "n"))
        yield self._line(f"{target}[n] = {bias + '[n]' if each.scales is None else '0.0f'};", 1)
        yield self._line("}")
        yield self._line(self._loop(inputs, "k"))
        yield self._line(f"const float from = {self.formulas.vector(each.source)}[k];", 1)
        yield self._line(self._loop(outputs, "n"), 1)
        yield self._line(f"{target}[n] += {weights.at('k', 'n')} * from;", 2)
        yield self._line("}", 1)
        yield self._line("}")
        if each.scales is not None:
            scale = self._scale(each)
            yield self._line(self._loop(outputs, "n"))
            yield self._line(f"{target}[n] = {bias}[n] + {scale}[n] * {target}[n];", 1)
            yield self._line("}")

    def _table(self, each: Sum | Dense, what: str, values: NDArray[Any]) -> str:
        """Add a table of synapses or a layer, unless there is an equal one; return its name."""
        name, tables = f"{each.name}_{what}", self.formulas.tables
        return add_table(tables, name, values, is_of_circuit=isinstance(each, Sum))

    def _weights(self, each: Sum | Dense, values: NDArray[Any]) -> Weights:
        """Add the table of weights: floats, or whole numbers of eight bits or four."""
        bits = 32 if each.scales is None else BITS[self.description.weights]
        if bits == 4:
            self.formulas.functions.add("weight_at")
        table = packed(values) if bits == 4 else np.ascontiguousarray(values)
        return Weights(self._table(each, "weights", table), values.shape, bits)

    def _scale(self, each: Sum | Dense) -> str:
        """Return the name of the scales of rounded weights, (entries, parameters) or (outputs,)."""
        if each.scales is None:
            return ""
        return self._table(each, "scales", np.ascontiguousarray(each.scales.T))

    def _arg_max(self, each: ArgMax) -> Iterator[str]:
        source, last = self.formulas.vector(each.source), each.stop
        yield self._line("{")
        yield self._line(f"int best = {each.start};", 1)
        yield self._line(f"for (int i = {each.start + 1}; i < {last}; ++i) {{", 1)
        yield self._line(f"best = {source}[i] > {source}[best] ? i : best;", 2)
        yield self._line("}", 1)
        place = f"{self.formulas.vector(each.target)}[{each.index}]"
        chosen = f"(best - {each.start})" if each.start else "best"
        yield self._line(f"{place} = (float){chosen};", 1)
        yield self._line("}")


def _plus(first: str, second: str) -> str:
    """Return the text of a sum, without a zero at its beginning."""
    return second if first == "0.0f" else f"{first} + {second}"


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
