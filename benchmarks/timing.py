"""Timing that is robust to drift of the machine's speed: all sides alternate in every round."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

Clock = Callable[[], float]
Side = TypeVar("Side", bound=Hashable)


@dataclass(frozen=True)
class Turns(Generic[Side]):
    """Seconds per call of each side, one entry a round."""

    seconds: Mapping[Side, Sequence[float]]

    def median(self, side: Side) -> float:
        """Return the median over the rounds, in seconds per call."""
        return median(self.seconds[side])

    def ratio(self, side: Side, other: Side) -> float:
        """Return the median over the rounds of `side` divided by `other` in the same round.

        A round's sides ran within the same moments, so the drift between rounds cancels out.
        """
        return median(
            mine / theirs
            for mine, theirs in zip(self.seconds[side], self.seconds[other], strict=True)
        )


def in_turns(
    sides: Mapping[Side, Callable[[], object]],
    *,
    rounds: int,
    seconds: float = 0.0,
    clock: Clock = time.process_time,
) -> Turns[Side]:
    """Time each of `sides` once a round, for at least `seconds` or one call.

    A call of each before the first round warms caches up and sets how often it is called.
    The default clock counts processor time, which other programs cannot inflate by waiting.
    """
    calls = {name: _calls_to_fill(seconds, side, clock) for name, side in sides.items()}
    timed: dict[Side, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            timed[name].append(_seconds_per_call(side, calls[name], clock))
    return Turns(timed)


def _calls_to_fill(seconds: float, side: Callable[[], object], clock: Clock) -> int:
    side()
    if seconds == 0:
        return 1
    once = _seconds_per_call(side, 1, clock)
    return max(1, math.ceil(seconds / max(once, 1e-6)))


def _seconds_per_call(side: Callable[[], object], calls: int, clock: Clock) -> float:
    start = clock()
    for _ in range(calls):
        side()
    return (clock() - start) / calls
