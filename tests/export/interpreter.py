"""Executes descriptions in NumPy, in double precision: what the backends are to compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.export.description import (
    ArgMax,
    Assign,
    Dense,
    Description,
    Map,
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

Array = NDArray[np.float64]
FUNCTIONS: Mapping[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "abs": np.abs,
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.exp(-np.logaddexp(0.0, -x)),
    "min": np.minimum,
    "max": np.maximum,
    "equal": lambda x, y: np.equal(x, y).astype(float),
    "greater": lambda x, y: np.greater(x, y).astype(float),
}


class Interpreter:
    """One robot's policy; `vectors` has the values of all vectors after a step."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.vectors: dict[str, Array] = {
            name: np.zeros(size) for name, size in description.vectors.items()
        }
        self.scalars: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        self.vectors |= {name: np.zeros(size) for name, size in self.description.states.items()}

    @property
    def state(self) -> Array:
        return np.concatenate([self.vectors[name] for name in self.description.states])

    def step(self, observation: Array, elapsed_time: float, noise: Any = None) -> Array:
        timed = self.description.is_timed
        elapsed_time = elapsed_time if timed else self.description.nominal_interval
        self.scalars["elapsed_time"] = elapsed_time
        self.vectors["observation"] = np.asarray(observation, float)
        if noise is not None:
            self.vectors["noise"] = np.asarray(noise, float)
        self._execute(self.description.statements)
        return self.vectors["action"].copy()

    def _execute(self, statements: Sequence[Statement]) -> None:
        for each in statements:
            match each:
                case Assign(scalar, value):
                    self.scalars[scalar] = self._value(value, 0, 1)
                case Map(_, start, stop, results):
                    values = [self._value(value, start, stop) for _, value in results]
                    for (target, _), value in zip(results, values, strict=True):
                        self.vectors[target][start:stop] = value
                case Sum():
                    self._sum(each)
                case Dense(_, _, source, target, weight, bias):
                    self.vectors[target][:] = weight @ self.vectors[source] + bias
                case ArgMax(_, source, start, stop, target, index):
                    self.vectors[target][index] = self.vectors[source][start:stop].argmax()
                case Repeat(_, times, body):
                    for _ in range(times):
                        self._execute(body)

    def _sum(self, each: Sum) -> None:
        source = self.vectors[each.source][each.sources]
        places = np.repeat(np.arange(len(each.starts) - 1), np.diff(each.starts))
        carried = [
            self._value(value, 0, 0, source, each.parameters) for _, value in each.contributions
        ]
        for index, target in enumerate(each.targets):
            entries = self.vectors[target][each.start : each.stop]
            if each.initial is not None:
                entries[:] = each.initial[index]
            np.add.at(entries, places, carried[index])

    def _value(
        self, value: Expression, start: int, stop: int, source: Any = None, parameters: Any = None
    ) -> Any:
        match value:
            case Number(number):
                return number
            case Scalar(name):
                return self.scalars[name]
            case Entry(vector, shift):
                return self.vectors[vector][start + shift : stop + shift].copy()
            case Item(vector, index):
                return self.vectors[vector][index]
            case Constant(_, values):
                assert len(values) == stop - start
                return values.astype(float)
            case Source():
                return source
            case Parameter(index):
                return parameters[index].astype(float)
            case Local(_, inner):
                return self._value(inner, start, stop, source, parameters)
            case Apply(function, arguments):
                return FUNCTIONS[function](
                    *(self._value(each, start, stop, source, parameters) for each in arguments)
                )
        raise AssertionError(value)
