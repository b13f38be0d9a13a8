"""Formulas for one entry of a vector, as data from which C, ONNX and tests are generated.

Operators and functions build a formula in mathematical notation:

    s = local("s", sigmoid(Entry("a") * Scalar("time") + Entry("b")))
    x = g + s * (h - g)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]

FUNCTIONS = {
    "add": 2,
    "sub": 2,
    "mul": 2,
    "div": 2,
    "abs": 1,
    "exp": 1,
    "tanh": 1,
    "sigmoid": 1,
    "min": 2,
    "max": 2,
    "equal": 2,  # 1 where both are equal, else 0
    "greater": 2,  # 1 where the first is greater, else 0
}
"""Functions that a backend must support, and their number of arguments."""


class Expression:
    """The value of one entry; see the module's docstring."""

    def __add__(self, other: Operand) -> Apply:
        return Apply("add", (self, as_expression(other)))

    def __radd__(self, other: Operand) -> Apply:
        return Apply("add", (as_expression(other), self))

    def __sub__(self, other: Operand) -> Apply:
        return Apply("sub", (self, as_expression(other)))

    def __rsub__(self, other: Operand) -> Apply:
        return Apply("sub", (as_expression(other), self))

    def __mul__(self, other: Operand) -> Apply:
        return Apply("mul", (self, as_expression(other)))

    def __rmul__(self, other: Operand) -> Apply:
        return Apply("mul", (as_expression(other), self))

    def __truediv__(self, other: Operand) -> Apply:
        return Apply("div", (self, as_expression(other)))

    def __rtruediv__(self, other: Operand) -> Apply:
        return Apply("div", (as_expression(other), self))


Operand: TypeAlias = "Expression | float"


@dataclass(frozen=True, eq=False)
class Number(Expression):
    """The same number for all entries."""

    value: float


@dataclass(frozen=True, eq=False)
class Scalar(Expression):
    """A number that is computed in each step, such as the elapsed time."""

    name: str


@dataclass(frozen=True, eq=False)
class Entry(Expression):
    """The entry of a vector at the computed index plus `shift`."""

    vector: str
    shift: int = 0


@dataclass(frozen=True, eq=False)
class Item(Expression):
    """One entry of a vector, the same for all indices."""

    vector: str
    index: int


@dataclass(frozen=True, eq=False)
class Constant(Expression):
    """A constant of each entry; `values` begin at the first computed entry."""

    name: str
    values: Floats


@dataclass(frozen=True, eq=False)
class Source(Expression):
    """The input of a synapse: its entry of the source vector."""


@dataclass(frozen=True, eq=False)
class Parameter(Expression):
    """A parameter of each synapse, by its index."""

    index: int


@dataclass(frozen=True, eq=False)
class Local(Expression):
    """A named formula, which is computed only once."""

    name: str
    value: Expression


@dataclass(frozen=True, eq=False)
class Apply(Expression):
    """A function of `FUNCTIONS`, applied to arguments."""

    function: str
    arguments: tuple[Expression, ...]

    def __post_init__(self) -> None:
        if FUNCTIONS.get(self.function) != len(self.arguments):
            raise ValueError(f"no function {self.function!r} of {len(self.arguments)} arguments")


def as_expression(value: Operand) -> Expression:
    """Return an expression unchanged, and a number as an expression."""
    return value if isinstance(value, Expression) else Number(float(value))


def local(name: str, value: Expression) -> Local:
    """Give a formula a name."""
    return Local(name, value)


def tanh(value: Operand) -> Apply:
    """Return the hyperbolic tangent."""
    return Apply("tanh", (as_expression(value),))


def sigmoid(value: Operand) -> Apply:
    """Return 1 / (1 + e^-value)."""
    return Apply("sigmoid", (as_expression(value),))


def exp(value: Operand) -> Apply:
    """Return e^value."""
    return Apply("exp", (as_expression(value),))


def magnitude(value: Operand) -> Apply:
    """Return the absolute value."""
    return Apply("abs", (as_expression(value),))


def clip(value: Operand, low: Operand, high: Operand) -> Apply:
    """Return the value within bounds."""
    above = Apply("max", (as_expression(value), as_expression(low)))
    return Apply("min", (above, as_expression(high)))


def equal(value: Operand, other: Operand) -> Apply:
    """Return 1 where two values are the same, else 0."""
    return Apply("equal", (as_expression(value), as_expression(other)))


def greater(value: Operand, other: Operand) -> Apply:
    """Return 1 where a value is greater than another, else 0."""
    return Apply("greater", (as_expression(value), as_expression(other)))


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all of its parts, each after its own parts."""
    if isinstance(expression, Apply):
        for argument in expression.arguments:
            yield from walk(argument)
    elif isinstance(expression, Local):
        yield from walk(expression.value)
    yield expression


def constant(name: str, values: Any) -> Constant:
    """Return a constant of each entry, in single precision."""
    return Constant(name, np.asarray(values, dtype=np.float32).ravel())
