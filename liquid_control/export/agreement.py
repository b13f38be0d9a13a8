"""Comparison of an exported policy with the policy in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from liquid_control.deploy import Metadata
from liquid_control.policies.moments import ObservationNormalizer
from liquid_control.policies.observations import ELAPSED_TIME
from liquid_control.policies.stateful import StatefulPolicy

TOLERANCE = 1e-6
"""Accepted error of an action, relative to its range; numbers are in single precision."""

PRECISIONS = 4.0
"""Accepted multiple of what single precision itself changes, if that is more than `TOLERANCE`."""

LARGEST_TOLERANCE = 1e-5
"""Accepted error of any policy: what amplifies rounding further acts on noise."""

STEPS = 1000
RESETS = 0.01  # share of the steps that begin an episode
STRETCH = 2.0  # factor by which intervals are shorter and longer than in training


class Exported(Protocol):
    """The interface of a policy loaded from a file."""

    metadata: Metadata

    def reset(self) -> None:
        """Begin an episode."""

    def step(self, observation: NDArray[Any], elapsed_time: float) -> NDArray[Any]:
        """Return the action for the raw numbers of an observation."""


@dataclass(frozen=True)
class Moment:
    """One step of a recording.

    Attributes:
        numbers: of the observation, all parts in order.
        elapsed_time: seconds.
        starts: whether an episode starts.
    """

    numbers: NDArray[np.float32]
    elapsed_time: float
    starts: bool


@dataclass(frozen=True)
class Agreement:
    """The differences of an exported policy from the original over a recording.

    Attributes:
        steps: of the recording.
        error: the largest of any action, relative to its range; of discrete actions, the share
            that differs.
        tolerance: accepted error, see `tolerance_of`.
        rounding: the change of the actions by rounded weights, which `error` does not include;
            0 for weights in single precision.
    """

    steps: int
    error: float
    tolerance: float
    rounding: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether both agree; False if an action is NaN."""
        return self.error <= self.tolerance


def record(
    policy: StatefulPolicy, metadata: Metadata, steps: int = STEPS, seed: int = 0
) -> Sequence[Moment]:
    """Return random observations distributed as in training, at jittered intervals.

    Args:
        policy: its normaliser has the moments of the observations.
        metadata: its facts.
        steps: number of steps to record.
        seed: of all random numbers.
    """
    rng = np.random.default_rng(seed)
    low, high = metadata.trained_interval
    longest = np.inf if metadata.longest is None else metadata.longest
    bounds = np.log(
        [
            max(low / STRETCH, 1.01 * metadata.shortest),
            min(high * STRETCH, 0.99 * longest),
        ]
    )
    moments = []
    for step in range(steps):
        starts = step == 0 or bool(rng.random() < RESETS)
        jittered = float(np.float32(np.exp(rng.uniform(*bounds))))
        elapsed = metadata.nominal_interval if starts or not metadata.is_timed else jittered
        numbers = _rounded(policy.acting_space, _numbers(policy, metadata, rng))
        moments.append(Moment(numbers, elapsed, starts))
    return moments


def run(exported: Exported, moments: Sequence[Moment]) -> NDArray[Any]:
    """Return the actions of an exported policy over a recording, (steps, action_size)."""
    rows = []
    for moment in moments:
        if moment.starts:
            exported.reset()
        rows.append(exported.step(moment.numbers, moment.elapsed_time))
    return np.stack(rows)


def agreement(
    space: spaces.Space[Any], expected: NDArray[Any], found: NDArray[Any], rounding: float = 0.0
) -> Agreement:
    """Return the agreement of two sets of actions, (steps, action_size) each."""
    errors = errors_of(space, expected, found)
    if not isinstance(space, spaces.Box):
        return Agreement(len(found), float(errors.any(axis=1).mean()), 0.0, rounding)
    return Agreement(len(found), float(errors.max()), TOLERANCE, rounding)


def tolerance_of(policy: StatefulPolicy, moments: Sequence[Moment], acted: NDArray[Any]) -> float:
    """Return the accepted error of an exported policy's continuous actions.

    It is `TOLERANCE`, or more for a policy that amplifies the rounding of its sums: backends add in
    different orders, so their actions differ by about as much as the policy's own do from those
    that it computes in double precision.

    Args:
        policy: the original, in single precision.
        moments: a recording.
        acted: actions of the policy over it, (steps, action_size).
    """
    exact = np.stack([*act(deepcopy(policy).double(), moments)])
    errors = errors_of(policy.action_space, exact, acted)
    accepted = PRECISIONS * float(errors.max())
    return min(max(TOLERANCE, accepted), LARGEST_TOLERANCE)  # NaN is `TOLERANCE`


def errors_of(
    space: spaces.Space[Any], expected: NDArray[Any], found: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the differences of actions (steps, numbers), relative to the range of each number.

    The range is that of the space, or the observed one without bounds and where they are equal.
    Numbers of a discrete kind have a difference of 1 if they are not equal.
    """
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    errors: NDArray[np.float64]
    if not isinstance(space, spaces.Box):
        errors = np.not_equal(expected, found).astype(np.float64)
        return errors
    span = space.high.astype(np.float64).ravel() - space.low.ravel()
    used = np.maximum(1.0, np.abs(expected).max(axis=0))
    span = np.where(np.isfinite(span) & (span > 0), span, used)
    errors = np.abs(expected - found) / span
    return errors


def act(policy: StatefulPolicy, moments: Sequence[Moment]) -> Iterator[NDArray[Any]]:
    """Yield the most likely action of the policy in PyTorch at each moment, (action_size,)."""
    state = None
    for moment in moments:
        observation = observation_of(policy.acting_space, moment)
        action, state = policy.predict(
            observation, state, np.array([moment.starts]), deterministic=True
        )
        yield np.ravel(action)


def observation_of(space: spaces.Space[Any], moment: Moment) -> Any:
    """Return raw numbers as an observation of a space."""
    if not isinstance(space, spaces.Dict):
        return _part(space, moment.numbers)
    parts, first = {}, 0
    for name, part in space.spaces.items():
        if name == ELAPSED_TIME:
            parts[name] = np.full(part.shape or (), moment.elapsed_time, np.float32)
            continue
        size = int(np.prod(part.shape or ()))
        parts[name] = _part(part, moment.numbers[first : first + size])
        first += size
    return parts


def _part(space: spaces.Space[Any], numbers: NDArray[np.float32]) -> NDArray[Any]:
    return numbers.reshape(space.shape or ()).astype(space.dtype)


def _numbers(
    policy: StatefulPolicy, metadata: Metadata, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw the numbers of an observation."""
    parts: list[NDArray[Any]] = []
    feature = 0
    for part in metadata.observation:
        size = int(np.prod(part["shape"]))
        if part["sizes"]:
            parts.append(rng.integers(0, part["sizes"]))
            feature += sum(part["sizes"])
            continue
        if part["kind"] == "multi_binary":
            parts.append(rng.integers(0, 2, size))
        else:
            parts.append(_normal(policy.normalizer, feature, size, rng))
        feature += size
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


def _rounded(space: spaces.Space[Any], numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the numbers that an observation of the space holds, such as whole ones."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    found, first = [], 0
    for name, part in parts.items():
        if isinstance(space, spaces.Dict) and name == ELAPSED_TIME:
            continue
        size = int(np.prod(part.shape or ()))
        values = numbers[first : first + size]
        if isinstance(part, spaces.Box) and part.dtype not in (np.float32, np.float64):
            bounds = part.low.ravel(), part.high.ravel()
            values = np.clip(values, *bounds).astype(part.dtype).astype(np.float32)
        found.append(values)
        first += size
    return np.concatenate(found)


def _normal(
    normalizer: ObservationNormalizer | None, first: int, size: int, rng: np.random.Generator
) -> NDArray[Any]:
    drawn = rng.normal(size=size)
    if normalizer is None:
        return drawn
    mean, variance = (
        each[first : first + size].cpu().numpy() for each in (normalizer.mean, normalizer.variance)
    )
    return np.asarray(mean + np.sqrt(variance) * drawn)
