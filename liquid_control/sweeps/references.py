"""Reference scores of tasks, used to normalise scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from liquid_control.sweeps.run_files import Array


@dataclass(frozen=True)
class Reference:
    """Reference returns of a task at its nominal rate; the file gives their sources.

    Attributes:
        random: Mean return of random actions (`benchmarks/random_scores.py`).
        reference: Return of a good agent; None if there is no reliable number.
        source: The source of `reference`.
    """

    random: float
    reference: float | None
    source: str

    def normalise(self, returns: Array) -> Array:
        """Return scores: 0 for random actions, 1 for the reference.

        Raises:
            ValueError: There is no reference.
        """
        if self.reference is None:
            raise ValueError("this task has a score of random actions, but no reference")
        return (returns - self.random) / (self.reference - self.random)


@cache
def references() -> dict[str, Reference]:
    """Return the reference scores by task."""
    text = files(__package__).joinpath("reference_scores.json").read_text("utf-8")
    return {task: Reference(**entry) for task, entry in json.loads(text).items()}


def reference_of(task: str) -> Reference | None:
    """Return the reference scores of a task, if it has both."""
    known = references().get(task)
    return known if known is not None and known.reference is not None else None
