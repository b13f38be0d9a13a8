"""The last steps of a control loop, in memory that is allocated once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Row(NamedTuple):
    """One step.

    Attributes:
        now: seconds of the loop's clock.
        elapsed: seconds since the previous observation, not clamped.
        latency: seconds that the step took.
        delay: seconds since the observation was measured; 0 if that is unknown.
        acted: whether the policy accepted an observation.
        starts: whether it was the first one of its episode.
        observation: raw numbers; NaN if there was none.
        action: the returned action.
        state: of the policy, after the step.
    """

    now: float
    elapsed: float
    latency: float
    delay: float
    acted: bool
    starts: bool
    observation: NDArray[Any]
    action: NDArray[Any]
    state: NDArray[Any]


NUMBERS = Row._fields.index("observation")  # fields of a row before its vectors


class Ring:
    """The last rows, and their mean conditions, at a cost that does not depend on their number.

    Args:
        rows: capacity.
        observation: size of an observation.
        action: size of an action.
        state: size of the state.
    """

    def __init__(self, rows: int, observation: int, action: int, state: int) -> None:
        # `full` writes all of it, so no step waits for memory; `zeros` only reserves it.
        # The last three numbers are the time since the last step, whether there was one, and the
        # delay of an observation that the policy accepted.
        self._numbers = np.full((rows, NUMBERS + 3), 0.0)
        self._vectors = [
            np.full((rows, size), 0.0, np.float32) for size in (observation, action, state)
        ]
        self._sums = np.zeros(NUMBERS + 3)
        self._last: tuple[float, bool] | None = None  # time of the last step, and whether it starts
        self._next = self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: Row) -> None:
        """Replace the oldest row."""
        index = self._next
        self._sums -= self._numbers[index]
        self._numbers[index] = *row[:NUMBERS], *self._gap(row), row.acted * row.delay
        self._sums += self._numbers[index]
        for vectors, values in zip(self._vectors, row[NUMBERS:], strict=True):
            vectors[index] = values
        self._next = (index + 1) % len(self._numbers)
        if self._next == 0:  # sums of many differences drift
            self._sums = self._numbers.sum(axis=0)
        self._count = min(self._count + 1, len(self._numbers))

    def rows(self) -> dict[str, NDArray[Any]]:
        """Return the rows by their names in `Row`, the oldest first."""
        order = (self._next - self._count + np.arange(self._count)) % len(self._numbers)
        numbers = zip(Row._fields[:NUMBERS], self._numbers[order, :NUMBERS].T, strict=True)
        vectors = zip(Row._fields[NUMBERS:], (each[order] for each in self._vectors), strict=True)
        return {**dict(numbers), **dict(vectors)}

    @property
    def duration(self) -> float:
        """Seconds from the first to the last of the rows."""
        if not self._count:
            return 0.0
        first, last = (self._next - self._count) % len(self._numbers), self._next - 1
        return float(self._numbers[last, 0] - self._numbers[first, 0])

    def conditions(self) -> dict[str, float]:
        """Return mean control interval and delay in seconds, and the share of lost observations.

        A control interval lasts from one step to the next, with or without an observation.
        """
        _, elapsed, _, _, acted, _, gaps, gap_count, delay = self._sums
        return {
            "interval": gaps / gap_count if gap_count else elapsed / self._count,
            "delay": delay / max(acted, 1.0),
            "dropout": 1 - acted / self._count,
        }

    def _gap(self, row: Row) -> tuple[float, bool]:
        """Return the seconds since the previous step, and whether there is one in the episode."""
        last, self._last = self._last, (row.now, row.starts)
        if last is None or (row.starts and not last[1]):
            return 0.0, False
        return row.now - last[0], True
