"""A look at an agent in the midst of its training: what it costs, and what if it fails."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from weakref import WeakKeyDictionary

from stable_baselines3.common.base_class import BaseAlgorithm

_SPENT: WeakKeyDictionary[BaseAlgorithm, float] = WeakKeyDictionary()


def seconds_spent(model: BaseAlgorithm) -> float:
    """How long all looks at a model have taken so far."""
    return _SPENT.get(model, 0.0)


@contextmanager
def looking(model: BaseAlgorithm, at: str) -> Iterator[None]:
    """Take the time of a look, and let a full disk or a lost display cost no more than that.

    Args:
        model: which is looked at.
        at: what to see, for the warning.
    """
    start = perf_counter()
    try:
        yield
    except (OSError, RuntimeError) as error:
        warnings.warn(f"no {at} this time, and training goes on: {error}", stacklevel=3)
    finally:
        _SPENT[model] = seconds_spent(model) + perf_counter() - start
