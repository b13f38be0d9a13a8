"""Data of a study's figures and tables: curves, rates, thresholds and probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from liquid_control.agents.evaluation import TRAINED
from liquid_control.sweeps.comparison import Comparison, Group
from liquid_control.sweeps.references import reference_of, references
from liquid_control.sweeps.results import RunResult
from liquid_control.sweeps.run_files import Array
from liquid_control.sweeps.statistics import (
    Estimate,
    curve,
    estimate_iqm,
    probabilities_of_improvement,
)

POINTS = 100  # of a learning curve
SHARE = 0.8
"""Default threshold, as a share of the way from the return of random actions to the best one."""


@dataclass(frozen=True)
class LearningCurve:
    """Returns of training episodes against control steps.

    Attributes:
        variant: The name of the recipe.
        steps: (points,), up to the last step that all runs have reached; empty if there is none.
        middle: Interquartile mean over the runs, (points,).
        low: Lower end of its interval, (points,).
        high: Upper end, (points,).
        runs: Number of runs in it: the finished ones, or all if none is finished.
        others: Steps and returns of each run that is not finished.
    """

    variant: str
    steps: Array
    middle: Array
    low: Array
    high: Array
    runs: int
    others: tuple[tuple[Array, Array], ...]


@dataclass(frozen=True)
class RateCurve:
    """Returns of trained agents against the control interval.

    Attributes:
        variant: The name of the recipe.
        names: Names of the fixed intervals, from short to long.
        intervals: The fixed intervals in seconds.
        estimates: Interquartile mean over the runs at each of them.
        trained_interval: Mean interval of the training; NaN if unknown.
        trained: Interquartile mean at the intervals of the training.
    """

    variant: str
    names: tuple[str, ...]
    intervals: tuple[float, ...]
    estimates: tuple[Estimate, ...]
    trained_interval: float
    trained: Estimate


@dataclass(frozen=True)
class Reached:
    """Steps and time in which a recipe's runs reached a return; infinite for those that did not.

    Attributes:
        variant: The name of the recipe.
        steps: Control steps, (runs,).
        seconds: Wall time, (runs,).
    """

    variant: str
    steps: Array
    seconds: Array

    @property
    def successes(self) -> int:
        """The number of runs that reached it."""
        return int(np.isfinite(self.steps).sum())


def learning_curve(group: Group, *, band: bool = True) -> LearningCurve:
    """Return the learning curve of a group; without a band, both of its ends are NaN."""
    counted = counted_runs(group)
    curves = [run.log.curve for run in counted]
    begin = max((steps[0] for steps, _, _ in curves), default=math.inf)
    end = min((steps[-1] for steps, _, _ in curves), default=-math.inf)
    if begin < end:
        grid = np.linspace(begin, end, POINTS)
    else:
        grid = np.array([begin] if begin == end else [])
    returns = np.array([np.interp(grid, steps, values) for steps, _, values in curves])
    returns = returns.reshape(len(curves), len(grid))
    nothing = np.full(len(grid), np.nan)
    if len(grid) and band:
        middle, low, high = curve(returns)
    else:
        middle, low, high = (curve(returns)[0] if len(grid) else nothing), nothing, nothing
    unfinished = [run.log.curve for run in group.runs if run.score is None]
    others = tuple((steps, values) for steps, _, values in unfinished if len(steps))
    return LearningCurve(group.variant, grid, middle, low, high, len(counted), others)


def counted_runs(group: Group) -> list[RunResult]:
    """Return the runs in a learning curve: the finished ones, or all if none is finished."""
    finished = [run for run in group.finished if len(run.log.curve[0])]
    return finished or [run for run in group.runs if len(run.log.curve[0])]


def rate_curve(group: Group) -> RateCurve:
    """Return the returns of a group's finished runs at each control interval."""
    found = {
        each.name: each.interval
        for run in group.finished
        for each in run.conditions
        if each.name != TRAINED
    }
    names = tuple(sorted(found, key=lambda name: found[name]))
    trained = [each.interval for run in group.finished if (each := run.under(TRAINED)) is not None]
    return RateCurve(
        group.variant,
        names,
        tuple(found[name] for name in names),
        tuple(estimate_iqm([group.returns_under(name)]) for name in names),
        float(np.mean(trained)) if trained else math.nan,
        estimate_iqm([group.scores]),
    )


def threshold_of(task: str, curves: Iterable[LearningCurve]) -> float | None:
    """Return the return at a share of the way from random actions to the end of the best curve.

    For a task without a score of random actions, it is measured from the lowest first return.
    """
    ends = [each.middle for each in curves if len(each.middle)]
    if not ends:
        return None
    known = references().get(task)
    begin = known.random if known is not None else min(float(each[0]) for each in ends)
    best = max(float(each[-1]) for each in ends)
    return begin + SHARE * (best - begin)


def reached(group: Group, threshold: float) -> Reached:
    """Return the steps and seconds after which the runs of a group first reach a return."""
    points = []
    for run in counted_runs(group):
        steps, seconds, returns = run.log.curve
        above = np.flatnonzero(returns >= threshold)
        points.append((steps[above[0]], seconds[above[0]]) if len(above) else (np.inf, np.inf))
    steps, seconds = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return Reached(group.variant, steps, seconds)


def improvements(
    comparison: Comparison, variants: Sequence[str]
) -> dict[tuple[str, str], Estimate]:
    """Return the probability that a run of one variant beats one of another, by their names.

    It is the mean over the tasks on which both have finished runs; pairs without any are omitted.
    """
    return probabilities_of_improvement(
        {
            name: {
                task: comparison.groups[task, name].scores
                for task in comparison.tasks
                if (task, name) in comparison.groups
            }
            for name in variants
        }
    )


def pooled(comparison: Comparison) -> tuple[tuple[str, ...], Mapping[str, Estimate]]:
    """Return the interquartile mean of normalised scores over tasks, for each variant.

    Returns:
        The pooled tasks, which have a reference and a finished run of every variant that has any;
        and the estimates by variant.
    """
    scored = {
        name
        for name in comparison.variants
        if any(len(group.scores) for group in comparison.groups.values() if group.variant == name)
    }
    tasks = tuple(
        task
        for task in comparison.tasks
        if reference_of(task) is not None
        and scored == {group.variant for group in comparison.of_task(task) if len(group.scores)}
    )
    return tasks, {
        name: estimate_iqm([normalised(comparison.groups[task, name]) for task in tasks])
        for name in comparison.variants
        if name in scored and tasks
    }


def normalised(group: Group) -> Array:
    """Return the normalised scores of a group; a ValueError if its task has no reference."""
    known = reference_of(group.task)
    if known is None:
        raise ValueError(f"{group.task} has no reference score")
    return known.normalise(group.scores)
