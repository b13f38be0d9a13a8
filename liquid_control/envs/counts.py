"""Numbers of things, as arguments."""

from __future__ import annotations

import operator
from typing import SupportsIndex


def count(name: str, value: object, *, least: int) -> int:
    """Return an integer, NumPy's included, as an int.

    Raises TypeError if it is not one (bools are not), and ValueError if it is below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if (number := operator.index(value)) < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number
