"""Conversion of seconds to whole physics steps; no other module rounds them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from liquid_control.envs.intervals import Interval

_LONGEST_HOLD = 10_000  # nominal intervals that one interval of an endless episode may last
UNLIMITED_COUNT = 4096
"""Number of intervals drawn for an episode without a horizon; they repeat afterwards."""

# Decimal fractions such as 0.1 * 0.05 differ from a multiple of the physics step by rounding.
_RELATIVE_ERROR = 1e-6


def to_substeps(seconds: ArrayLike, timestep: float) -> NDArray[np.int64]:
    """Round seconds to the nearest whole number of physics steps, and to at least one.

    Args:
        seconds: Durations of any shape; infinity is allowed.
        timestep: Duration of a physics step in seconds.

    Returns:
        Substeps of the same shape, at most the maximum of MuJoCo's 32-bit step count.
    """
    steps = np.rint(np.asarray(seconds, dtype=np.float64) / timestep)
    return np.clip(steps, 1, np.iinfo(np.int32).max).astype(np.int64)


def check_interval(interval: Interval, nominal: float, timestep: float) -> None:
    """Reject intervals shorter than a physics step, and warn about intervals that are rounded.

    Durations are in seconds. Raises ValueError if an interval may be shorter than `timestep`. Warns
    if a requested interval is not a multiple of `timestep`. Intervals drawn from a range are
    rounded without a warning.
    """
    shortest, longest = interval.bounds(nominal)
    if shortest < timestep * (1 - _RELATIVE_ERROR):
        raise ValueError(
            f"interval {shortest:.6g} s is shorter than one physics step of {timestep:.6g} s; "
            f"use at least {timestep:.6g}"
        )
    if not interval.aims_at_bounds:
        return
    for seconds in dict.fromkeys((shortest, longest)):
        used = int(to_substeps(seconds, timestep)) * timestep
        if not math.isclose(used, seconds, rel_tol=_RELATIVE_ERROR):
            warnings.warn(
                f"interval {seconds:.6g} s is not a multiple of the physics step of "
                f"{timestep:.6g} s; {used:.6g} s is used",
                stacklevel=3,
            )


def longest_schedule(
    interval: Interval, nominal: float, timestep: float, horizon: int | None
) -> int:
    """Return the largest number of control intervals of an episode; see `draw_substeps`."""
    if horizon is None:
        return UNLIMITED_COUNT
    shortest = int(to_substeps(interval.bounds(nominal)[0], timestep))
    return math.ceil(horizon / shortest)


def draw_substeps(
    interval: Interval,
    rng: np.random.Generator,
    nominal: float,
    timestep: float,
    horizon: int | None,
) -> NDArray[np.int64]:
    """Draw the physics steps of each control interval of one episode.

    Args:
        interval: The rule that draws them, already checked by `check_interval`.
        rng: The generator of the env.
        nominal: The task's nominal interval in seconds.
        timestep: Duration of a physics step in seconds.
        horizon: Physics steps in the episode, or None for an episode without an end.

    Returns:
        Substeps, (intervals,). They sum to `horizon`; the last interval is shortened for it.
        Without a horizon there are `UNLIMITED_COUNT` intervals.
    """
    count = longest_schedule(interval, nominal, timestep, horizon)
    substeps = to_substeps(interval.schedule(rng, count, nominal), timestep)
    if horizon is None:
        return substeps
    ends = np.cumsum(substeps)
    last = int(np.searchsorted(ends, horizon))
    substeps[last] -= ends[last] - horizon
    return substeps[: last + 1]


def check_schedule(
    substeps: NDArray[np.integer[Any]], tick: int, elapsed: int, horizon: int | None, nominal: int
) -> None:
    """Refuse a schedule, as a file may hold it, that `draw_substeps` could not have drawn.

    Args:
        substeps: The physics steps of each interval; what follows the last one is ignored.
        tick: How many intervals have passed.
        elapsed: Physics steps since the start of the episode.
        horizon: Physics steps in the episode, or None for an episode without an end.
        nominal: Physics steps of the nominal interval.

    Raises:
        ValueError: If the intervals do not fit each other or the horizon.
    """
    ends = np.cumsum(substeps, dtype=np.int64)
    last = len(ends) - 1
    if horizon is not None and (substeps >= 0).all():
        last = int(np.searchsorted(ends, horizon))
    fits = last < len(ends) and substeps[: last + 1].min(initial=1) >= 1 and elapsed >= 0
    if fits and horizon is None:
        fits = substeps.max(initial=0) <= _LONGEST_HOLD * nominal and tick >= 0
    elif fits:
        fits = 0 <= tick <= last and ends[last] == horizon and elapsed == substeps[:tick].sum()
    if not fits:
        raise ValueError(
            f"the saved schedule of intervals does not fit tick {tick}, {elapsed} substeps since "
            f"the reset, and a horizon of {horizon} substeps"
        )
