"""Conversion of seconds to whole physics steps; no other module rounds them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from liquid_control.envs.intervals import Chosen, Interval

FURTHEST = 100
"""Factor above or below the nominal interval beyond which intervals are rejected.

`policies/observations.py` rejects elapsed times beyond the same factor."""
UNUSUAL = 10
"""Factor above or below the nominal interval beyond which a warning is given."""
_LONGEST_HOLD = 10_000  # nominal intervals that one interval of an endless episode may last
LONGEST_EPISODE = 10_000_000  # nominal intervals; all intervals of an episode are drawn at once
UNLIMITED_COUNT = 4096
"""Number of intervals drawn for an episode without a horizon; then they repeat."""

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


def substep_bounds(interval: Interval, nominal: float, timestep: float) -> tuple[int, int]:
    """Return the fewest and the most physics steps of an interval.

    The bounds of a range are rounded inward, other intervals to the nearest physics step. Where an
    interval has no upper bound, it lasts at most `FURTHEST` nominal ones. Durations are in seconds.

    Raises:
        ValueError: If a range contains no multiple of `timestep`.
    """
    low, high = interval.bounds(nominal)
    if math.isinf(high):
        high = FURTHEST * nominal
    if low == high or not interval.is_range:
        return int(to_substeps(low, timestep)), int(to_substeps(high, timestep))
    fewest = math.ceil(low / timestep * (1 - _RELATIVE_ERROR))
    most = math.floor(high / timestep * (1 + _RELATIVE_ERROR))
    if fewest > most:
        raise ValueError(
            f"no multiple of the physics step of {timestep:.6g} s lies in the range of intervals "
            f"from {low:.6g} to {high:.6g} s; widen it, to {most * timestep:.6g} or "
            f"{fewest * timestep:.6g} s"
        )
    return fewest, most


def check_interval(
    interval: Interval, nominal: float, timestep: float, *, allow_any_interval: bool = False
) -> None:
    """Reject implausible intervals, and warn about those that are rounded or unusual.

    Durations are in seconds. Warns if an interval or a bound of a range is not a multiple of
    `timestep`, or more than `UNUSUAL` times longer or shorter than `nominal`.

    Raises:
        ValueError: If an interval may be shorter than `timestep`, if a range contains no multiple
            of it, or, unless `allow_any_interval`, if an interval is more than `FURTHEST` times
            longer or shorter than `nominal`.
    """
    bounds = interval.bounds(nominal)
    if bounds[0] < timestep * (1 - _RELATIVE_ERROR):
        raise ValueError(
            f"interval {bounds[0]:.6g} s is shorter than one physics step of {timestep:.6g} s; "
            f"use at least {timestep:.6g}"
        )
    used = [count * timestep for count in substep_bounds(interval, nominal, timestep)]
    for seconds in dict.fromkeys(bounds):
        unusual = check_magnitude(seconds, nominal, allow_any_interval=allow_any_interval)
        if unusual:
            warnings.warn(unusual, stacklevel=3)
    if np.allclose(used, bounds, rtol=_RELATIVE_ERROR, atol=0):
        return
    if bounds[0] == bounds[1]:
        warnings.warn(
            f"interval {bounds[0]:.6g} s is not a multiple of the physics step of {timestep:.6g} "
            f"s; {used[0]:.6g} s is used",
            stacklevel=3,
        )
    elif interval.is_range:
        warnings.warn(
            f"intervals from {bounds[0]:.6g} to {bounds[1]:.6g} s are whole physics steps of "
            f"{timestep:.6g} s, so they are from {used[0]:.6g} to {used[1]:.6g} s",
            stacklevel=3,
        )


def check_magnitude(seconds: float, nominal: float, *, allow_any_interval: bool = False) -> str:
    """Return a warning if an interval is far from the nominal one; it may be in another unit.

    Raises:
        ValueError: If it is more than `FURTHEST` times longer or shorter.
    """
    ratio = max(seconds / nominal, nominal / seconds) * (1 - _RELATIVE_ERROR)
    # `substep_bounds` bounds an infinite one.
    if allow_any_interval or ratio <= UNUSUAL or math.isinf(seconds):
        return ""
    far = (
        f"an interval of {seconds:.6g} seconds is {seconds / nominal:.3g} times the nominal one of "
        f"{nominal:.6g} seconds; intervals are in seconds, not milliseconds"
    )
    if ratio > FURTHEST:
        raise ValueError(f"{far}. If it is intended, set allow_any_interval=True")
    return far


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
        Substeps, (intervals,). They sum to `horizon`; the last interval is shortened for it, or
        added to the one before if less than 1 / `FURTHEST` of the nominal interval is left.
        Without a horizon there are `UNLIMITED_COUNT` intervals.
    """
    count = longest_schedule(interval, nominal, timestep, horizon)
    substeps = to_substeps(interval.schedule(rng, count, nominal), timestep)
    substeps = substeps.clip(*substep_bounds(interval, nominal, timestep))
    if horizon is None:
        return substeps
    ends = np.cumsum(substeps)
    last = int(np.searchsorted(ends, horizon))
    substeps[last] -= ends[last] - horizon
    if last > 0 and substeps[last] * timestep * FURTHEST < nominal * (1 - _RELATIVE_ERROR):
        substeps[last - 1] += substeps[last]
        last -= 1
    return substeps[: last + 1]


def chosen_substeps(
    interval: Chosen,
    entries: NDArray[Any],
    nominal: float,
    timestep: float,
    elapsed: NDArray[np.int64],
    horizon: int | None,
) -> NDArray[np.int64]:
    """Return the physics steps of the intervals that a policy chooses.

    Args:
        interval: The rule, already checked by `check_interval`.
        entries: The last entries of the actions, (num_envs,).
        nominal: The task's nominal interval in seconds.
        timestep: Duration of a physics step in seconds.
        elapsed: Physics steps since the reset, (num_envs,).
        horizon: Physics steps in the episode, or None for an episode without an end.

    Returns:
        Substeps, (num_envs,); the horizon ends them as in `draw_substeps`.
    """
    substeps = to_substeps(interval.seconds(entries), timestep)
    substeps = substeps.clip(*substep_bounds(interval, nominal, timestep))
    if horizon is None:
        return substeps
    left = horizon - elapsed
    after = left - substeps
    is_last = after * timestep * FURTHEST < nominal * (1 - _RELATIVE_ERROR)
    chosen: NDArray[np.int64] = np.where(is_last, left, substeps)
    return chosen


def check_chosen(tick: int, elapsed: int, horizon: int | None) -> None:
    """Reject saved step counts that chosen intervals cannot reach."""
    if not 0 <= tick <= elapsed or (horizon is not None and elapsed > horizon):
        raise ValueError(
            f"the saved schedule of intervals does not fit tick {tick}, {elapsed} substeps since "
            f"the reset, and a horizon of {horizon} substeps"
        )


def check_schedule(
    substeps: NDArray[np.integer[Any]], tick: int, elapsed: int, horizon: int | None, nominal: int
) -> None:
    """Reject a saved schedule that `draw_substeps` cannot return.

    Args:
        substeps: The physics steps of each interval; entries after the last one are ignored.
        tick: Number of intervals so far.
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
