"""Statistics over few runs: interquartile means, bootstrap intervals, probabilities.

They follow Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021); the stratified bootstrap is that of their library rliable. Scores are one array per
stratum, which is a task: runs are resampled within each task only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from liquid_control.recipes import CommandError
from liquid_control.recipes.text import cut, one_line
from liquid_control.sweeps.run_files import Array

REPLICATIONS = 2000
CONFIDENCE = 0.95
SEED = 0
FEW = 3
"""Fewer runs than this say little about other seeds."""

INSTALL = 'pip install "liquid-control[sweep]"'


@dataclass(frozen=True)
class Estimate:
    """A number estimated from runs, with its 95 % confidence interval.

    Attributes:
        value: The estimate.
        low: The lower end of the interval; NaN for a single run.
        high: The upper end.
        runs: The number of runs.
    """

    value: float
    low: float
    high: float
    runs: int

    def surely_above(self, other: Estimate) -> bool:
        """Whether the interval lies above another one; False with fewer than three runs in one."""
        return self.low > other.high and min(self.runs, other.runs) >= FEW


def iqm(scores: Array) -> Array:
    """Return interquartile means over the first axis: of the middle half, without rounding up.

    A quarter of the values, rounded down, is omitted at each end, as in rliable; of fewer than
    four values it is the mean.
    """
    cut_off = len(scores) // 4
    kept: Array = np.sort(scores, axis=0)[cut_off : len(scores) - cut_off]
    return np.asarray(kept.mean(axis=0))


def estimate_iqm(scores: Sequence[Array]) -> Estimate:
    """Return the interquartile mean of all scores, (runs,) for each task."""
    scores = [each for each in scores if len(each)]
    if not scores:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value, low, high = _bootstrap(lambda *drawn: iqm(np.concatenate(drawn)), scores)
    return Estimate(float(value), float(low), float(high), sum(map(len, scores)))


def estimate_difference(ours: Sequence[Array], theirs: Sequence[Array]) -> Estimate:
    """Return by how much the interquartile mean of all our scores is above that of all of theirs.

    Args:
        ours: Scores, (runs,) for each task.
        theirs: Likewise; the runs of the two are independent of each other.
    """

    def gain(*drawn: Array) -> Array:
        return iqm(np.concatenate(drawn[: len(ours)])) - iqm(np.concatenate(drawn[len(ours) :]))

    value, low, high = _bootstrap(gain, [*ours, *theirs])
    return Estimate(float(value), float(low), float(high), min(map(len, [*ours, *theirs])))


def curve(scores: Array) -> tuple[Array, Array, Array]:
    """Return interquartile means of (runs, points), and both ends of their intervals, (points,).

    The intervals are pointwise, not for the curve as a whole.
    """
    return _bootstrap(iqm, [scores])


def probabilities_of_improvement(
    scores: Mapping[str, Mapping[str, Array]],
) -> dict[tuple[str, str], Estimate]:
    """Return the probabilities that a run of one recipe beats one of another, by their names.

    Each is the mean over the tasks on which both have runs; pairs without such a task are omitted.
    A tie counts as half (the statistic of Mann and Whitney). `runs` of an estimate is the smallest
    number of runs in it.

    Args:
        scores: Scores of a recipe on a task, (runs,), by name; numbers of runs may differ.
    """
    keys = [(name, task) for name, tasks in scores.items() for task in tasks if len(tasks[task])]
    place = {key: index for index, key in enumerate(keys)}
    pairs = {
        (ours, theirs): [
            (place[ours, task], place[theirs, task])
            for task in scores[ours]
            if (ours, task) in place and (theirs, task) in place
        ]
        for ours, theirs in combinations(scores, 2)
    }
    pairs = {names: indices for names, indices in pairs.items() if indices}
    if not pairs:
        return {}

    def wins(*drawn: Array) -> Array:
        return np.array(
            [
                np.mean([_share_of_wins(drawn[one], drawn[other]) for one, other in indices])
                for indices in pairs.values()
            ]
        )

    arrays = [scores[name][task] for name, task in keys]
    values, lows, highs = _bootstrap(wins, arrays)
    found = {}
    for (ours, theirs), value, low, high in zip(pairs, values, lows, highs, strict=True):
        sizes = [len(arrays[index]) for pair in pairs[ours, theirs] for index in pair]
        if max(sizes) < 2:
            low = high = np.nan
        runs = min(sizes)
        found[ours, theirs] = Estimate(float(value), float(low), float(high), runs)
        found[theirs, ours] = Estimate(float(1 - value), float(1 - high), float(1 - low), runs)
    return found


def _share_of_wins(ours: Array, theirs: Array) -> float:
    return float(1 + np.sign(np.subtract.outer(ours, theirs)).mean()) / 2


def _bootstrap(
    statistic: Callable[..., Array], scores: Sequence[Array]
) -> tuple[Array, Array, Array]:
    """Return a statistic of scores, and both ends of its interval; NaN if no task has two runs."""
    library = _rliable()
    value = statistic(*scores)
    if max(map(len, scores)) < 2:
        unknown = np.full_like(value, np.nan)
        return value, unknown, unknown
    with _seeded():
        _, intervals = library.get_interval_estimates(
            {"": [each.reshape(len(each), -1) for each in scores]},
            lambda *drawn: np.atleast_1d(
                statistic(
                    *(part.reshape(each.shape) for part, each in zip(drawn, scores, strict=True))
                )
            ),
            reps=REPLICATIONS,
            confidence_interval_size=CONFIDENCE,
        )
    low, high = np.asarray(intervals[""]).reshape(2, *value.shape)
    return value, low, high


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed NumPy's global generator, which rliable draws from, and restore it afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(SEED)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def check_installed() -> None:
    """Raise a CommandError with the package to install if rliable is missing."""
    _rliable()


def _rliable() -> Any:
    """Return rliable's module for resampling, imported late because the import takes seconds."""
    try:
        from rliable import library
    except (ImportError, TypeError) as error:  # a TypeError with arch 7 and pandas 3
        raise CommandError(
            f"statistics need rliable ({cut(one_line(error))}); install it: {INSTALL}"
        ) from error
    return library
