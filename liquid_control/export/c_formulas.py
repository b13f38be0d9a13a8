"""Formulas of a policy in C, and the tables, functions and vectors that they need."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from liquid_control.export.c_functions import FUNCTIONS
from liquid_control.export.c_tables import Table, add_table, number
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

OPERATORS = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2)}
ATOM = 3  # precedence of what needs no parentheses
CALLS = {"abs": "magnitude", "min": "at_most", "max": "at_least"}
COMPARISONS = {"equal": "==", "greater": ">"}
AROUND = {"shift", "scale", "places", "low", "high", "range"}
"""Constants of the normaliser and the actions, which are not the circuit's."""


class Formulas:
    """Writes the formulas of a step.

    Args:
        states: names of the vectors of the state.

    Attributes:
        tables: by name, in order.
        functions: names of those of `c_functions`.
        work: vectors that are not part of the state, in order.
    """

    def __init__(self, states: Collection[str]) -> None:
        self.tables: dict[str, Table] = {}
        self.functions: set[str] = set()
        self.work: dict[str, None] = {}
        self._states = states

    def begin(self, parameters: int = 0) -> None:
        """Forget the locals of the statement before; each synapse has so many parameters."""
        self._names: dict[int, str] = {}
        self._is_scalar = parameters == 1

    def name(self, part: Local, text: str) -> None:
        """Set how a local is called in the statement under way."""
        self._names[id(part)] = text

    def locals(self, value: Expression, index: str = "", start: int = 0) -> Iterator[str]:
        """Declare the named parts of a formula that were not declared before."""
        for part in walk(value):
            if isinstance(part, Local) and id(part) not in self._names:
                text = self.text(part.value, index, start)
                taken = set(self._names.values())
                name = next(
                    name
                    for name in (part.name, *(f"{part.name}_{n}" for n in range(2, 99)))
                    if name not in taken
                )
                self.name(part, name)
                yield f"const float {name} = {text};"

    def vector(self, name: str) -> str:
        """Return how a vector is called in C."""
        if name == "observation":
            return name
        if name == "action" or name in self._states:
            return f"next.{name}"
        self.work.setdefault(name)
        return name

    def place(self, vector: str, start: int, index: str) -> str:
        """Return the text of an entry of a vector: `start`, or `index` further on."""
        at = " + ".join(part for part in (str(start) if start or not index else "", index) if part)
        return f"{self.vector(vector)}[{at}]"

    def text(self, value: Expression, index: str = "", start: int = 0) -> str:
        """Return the text of a formula for the entry at a place."""
        return self._formula(value, index, start)[0]

    def _formula(self, value: Expression, index: str, start: int) -> tuple[str, int]:
        """Return the text of a formula, and the precedence of its outermost operator."""
        if isinstance(value, Apply):
            parts = [self._formula(each, index, start) for each in value.arguments]
            return self.call(value.function, parts)
        return self._atom(value, index, start), ATOM

    def _atom(self, value: Expression, index: str, start: int) -> str:
        match value:
            case Number(constant):
                return number(constant)
            case Scalar(name):
                return name
            case Entry(vector, shift):
                return self.place(vector, start + shift, index)
            case Item(vector, place):
                return f"{self.vector(vector)}[{place}]"
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
        is_of_circuit = value.name not in AROUND
        table = add_table(self.tables, value.name, value.values, is_of_circuit=is_of_circuit)
        return f"{table}[{index or 0}]"

    def call(self, function: str, arguments: Sequence[tuple[str, int]]) -> tuple[str, int]:
        """Return a function of texts, each with the precedence of its outermost operator."""
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
