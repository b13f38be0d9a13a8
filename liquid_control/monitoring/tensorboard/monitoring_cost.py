"""What monitoring an agent during its training costs; its failures become warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from weakref import WeakKeyDictionary

from stable_baselines3.common.base_class import BaseAlgorithm

_SPENT: WeakKeyDictionary[BaseAlgorithm, float] = WeakKeyDictionary()


def seconds_spent(model: BaseAlgorithm) -> float:
    """Seconds that monitoring a model has taken so far."""
    return _SPENT.get(model, 0.0)


@contextmanager
def measure_cost(model: BaseAlgorithm, subject: str) -> Iterator[None]:
    """Measure the time that monitoring takes; turn a full disk or a lost display into a warning.

    Args:
        model: which is monitored.
        subject: what is monitored, for the warning.
    """
    start = perf_counter()
    try:
        yield
    except (OSError, RuntimeError) as error:
        warnings.warn(f"no {subject} this time, and training goes on: {error}", stacklevel=3)
    finally:
        _SPENT[model] = seconds_spent(model) + perf_counter() - start
