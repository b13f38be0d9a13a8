"""Checks of arguments."""

from __future__ import annotations

import operator
from numbers import Real
from typing import SupportsIndex

MOST_NEURONS = 16_384
"""The most neurons in a layer; dense synapses among them take a gigabyte per weight."""


def whole_number(name: str, value: object, *, at_least: int) -> int:
    """Return `value` as an int.

    Raises TypeError if it is not a whole number (bools are not), and ValueError if it is below
    `at_least`.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    number = operator.index(value)
    if number < at_least:
        raise ValueError(f"{name} is {number}; raise it to at least {at_least}")
    return number


def neuron_count(name: str, value: object) -> int:
    """Return `value` as an int from 1 to `MOST_NEURONS`; raises as `whole_number` does."""
    number = whole_number(name, value, at_least=1)
    at_most(name, number, MOST_NEURONS, "the most that fit into memory are")
    return number


def fraction(name: str, value: float) -> float:
    """Return `value` as a float; raise TypeError for other types and ValueError outside [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name} is {number:g}; choose it from 0 (dense) up to, not including, 1")
    return number


def at_most(name: str, value: int, limit: int, what: str) -> None:
    """Raise ValueError if `value` exceeds `limit`, which `what` describes."""
    if value > limit:
        raise ValueError(f"{name} is {value}, but {what} {limit}; lower {name} to at most {limit}")
