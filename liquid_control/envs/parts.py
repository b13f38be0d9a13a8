"""Base of sensors, actuators, bodies and events: frozen data, checked once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np

Range: TypeAlias = tuple[float, float]
Factors: TypeAlias = Range | Mapping[str, Range]
"""A range for all elements of a model, or one for each named element."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of an environment's conditions: frozen data without a state.

    Attributes:
        kind: The name of the class in recipes.
    """

    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping, with all keys, from which an equal part is built."""
        fields = {each.name: _plain(getattr(self, each.name)) for each in dataclasses.fields(self)}
        return {"kind": self.kind} | fields


Kind = TypeVar("Kind", bound=Part)


def parts_from(value: Any, what: str, kinds: Mapping[str, type[Kind]]) -> tuple[Kind, ...]:
    """Build parts from a list of objects and of mappings such as {"kind": "noise", "std": 0.01}.

    Args:
        value: The list; None is an empty one.
        what: Its name, for errors: "sensors".
        kinds: The classes, by kind.

    Raises:
        TypeError: If the value is not a list, or an element neither a part nor a mapping.
        ValueError: If a kind or a key is unknown or missing, or a value is out of range.
    """
    if value is None:
        return ()
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise TypeError(f"{what} takes a list, such as [{_example(kinds)}]; got {value!r}")
    return tuple(_part(each, f"{what}[{index}]", kinds) for index, each in enumerate(value))


def part_from(value: Any, what: str, kind: type[Kind]) -> Kind:
    """Build a part of one kind from an object or a mapping; its key "kind" may be left out."""
    if isinstance(value, Mapping):
        value = {"kind": kind.kind} | dict(value)
    return _part(value, what, {kind.kind: kind})


def _part(value: Any, where: str, kinds: Mapping[str, type[Kind]]) -> Kind:
    for kind in kinds.values():
        if isinstance(value, kind):
            return value
    if not isinstance(value, Mapping):
        names = ", ".join(each.__name__ for each in kinds.values())
        raise TypeError(f"{where} is one of {names}, or a mapping with a kind; got {value!r}")
    arguments = dict(value)
    name = arguments.pop("kind", None)
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(f"{where}.kind {name!r} is unknown; use one of {', '.join(kinds)}")
    fields = dataclasses.fields(kinds[name])
    known = [each.name for each in fields]
    required = [each.name for each in fields if each.default is dataclasses.MISSING]
    if unknown := [key for key in arguments if key not in known]:
        raise ValueError(f"{where}: {name!r} has no key {unknown[0]!r}; it has {known}")
    if missing := [key for key in required if key not in arguments]:
        raise ValueError(f"{where}: {name!r} lacks key {missing[0]!r}; it needs {required}")
    try:
        return kinds[name](**arguments)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def _example(kinds: Mapping[str, type[Part]]) -> str:
    return f"envs.{next(iter(kinds.values())).__name__}(...)"


def number(part: Part, name: str, least: float = -math.inf, most: float = math.inf) -> None:
    """Check that a field is a finite number within bounds, and store it as a float, as JSON does.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not finite, below `least` or above `most`.
    """
    object.__setattr__(part, name, _checked(getattr(part, name), name, least, most))


def flag(part: Part, name: str) -> None:
    """Check that a field is a boolean."""
    if not isinstance(getattr(part, name), bool):
        raise TypeError(f"{name} must be true or false, got {getattr(part, name)!r}")


def number_or_range(
    part: Part, name: str, least: float = -math.inf, most: float = math.inf
) -> None:
    """Check that a field is a number or a pair (low, high).

    Raises:
        TypeError, ValueError: As in `number`, and if low is above high.
    """
    checked = _number_or_range(getattr(part, name), name, least, most)
    object.__setattr__(part, name, checked)


def as_range(value: float | Range) -> Range:
    """Return a number as the range that contains only it, and a range unchanged."""
    return value if isinstance(value, tuple) else (value, value)


def factors(part: Part, name: str) -> None:
    """Check that a field is a factor, a range of them, a mapping from names to these, or None.

    Raises:
        TypeError, ValueError: As in `number`, for factors that are negative, and if a mapping is
            empty or its keys are not names.
    """
    value = getattr(part, name)
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"{name} names nothing; leave it out, or map names to factors")
        if wrong := [each for each in value if not isinstance(each, str)]:
            raise TypeError(f"{name} maps names to factors, got the name {wrong[0]!r}")
        value = {
            key: _number_or_range(each, f"{name}.{key}", 0.0, math.inf)
            for key, each in value.items()
        }
        object.__setattr__(part, name, value)
    elif value is not None:
        object.__setattr__(part, name, _number_or_range(value, name, 0.0, math.inf))


def ranges(value: Any) -> dict[str, Range]:
    """Return the ranges of a field that `factors` has checked, by name; "" stands for all."""
    if value is None:
        return {}
    named = value if isinstance(value, Mapping) else {"": value}
    return {name: as_range(each) for name, each in named.items()}


def draw(rng: np.random.Generator, bounds: Range, size: int | None = None) -> Any:
    """Draw numbers between two bounds; equal bounds give exactly their value."""
    low, high = bounds
    drawn = rng.uniform(low, high, size)
    return np.clip(drawn, low, high) if size is not None else min(max(drawn, low), high)


def _number_or_range(value: Any, name: str, least: float, most: float) -> float | Range:
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError(f"{name} is a number or a range (low, high), got {value!r}")
        low, high = (_checked(each, name, least, most) for each in value)
        if low > high:
            raise ValueError(f"{name} is an empty range, {low} to {high}; swap them")
        return low, high
    return _checked(value, name, least, most)


def _checked(value: Any, name: str, least: float, most: float) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        checked = float(value)
    except OverflowError:  # of integers
        checked = math.inf
    if not math.isfinite(checked):
        raise ValueError(f"{name} must be finite, got {value!r}")
    if checked < least:
        raise ValueError(f"{name} must be at least {least:g}, got {value!r}")
    if checked > most:
        raise ValueError(f"{name} must be at most {most:g}, got {value!r}")
    return checked


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value
