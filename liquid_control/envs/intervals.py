"""Rules that draw the control intervals of an episode.

A rule is frozen and has no state. It draws the schedule of a whole episode at once, so that a step
draws nothing and only the schedule needs to be saved.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

Seconds: TypeAlias = NDArray[np.float64]

CANDIDATES = 256  # from which the constant interval of an episode is drawn by its length


class Interval(ABC):
    """A rule that draws control intervals; all durations are in seconds."""

    kind: ClassVar[str]

    @abstractmethod
    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Draw consecutive intervals, (count,) in seconds, for a task's `nominal` interval."""

    @abstractmethod
    def bounds(self, nominal: float) -> tuple[float, float]:
        """Return the shortest and the longest interval in seconds that `schedule` may draw."""

    @property
    def is_range(self) -> bool:
        """Whether every interval between the bounds may be drawn; they are rounded inward then."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able mapping from which `interval_from` builds an equal interval."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}  # type: ignore[arg-type]
        return {"kind": self.kind} | {
            name: value.to_dict() if isinstance(value, Interval) else value
            for name, value in fields.items()
        }


@dataclass(frozen=True)
class Fixed(Interval):
    """Every interval lasts `seconds`; None means the task's nominal interval."""

    kind = "fixed"
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            _set_seconds(self, "seconds")

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Return equal intervals, (count,) in seconds; the generator is not used."""
        return np.full(count, self.bounds(nominal)[0])

    def bounds(self, nominal: float) -> tuple[float, float]:
        """Return the interval as both bounds, in seconds."""
        seconds = nominal if self.seconds is None else self.seconds
        return seconds, seconds


@dataclass(frozen=True)
class _Range(Interval):
    """Intervals between `low` and `high` seconds."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _set_seconds(self, "low")
        _set_seconds(self, "high")
        if self.low > self.high:
            raise ValueError(f"low {self.low} s is above high {self.high} s; swap them")

    def bounds(self, nominal: float) -> tuple[float, float]:
        """Return `low` and `high` in seconds."""
        return self.low, self.high

    @property
    def is_range(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class Uniform(_Range):
    """Each interval is uniform between `low` and `high` seconds."""

    kind = "uniform"

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Draw intervals, (count,) in seconds."""
        return rng.uniform(self.low, self.high, count)


@dataclass(frozen=True)
class LogUniform(_Range):
    """Each interval's logarithm is uniform: half and twice a rate are equally likely."""

    kind = "log_uniform"

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Draw intervals, (count,) in seconds."""
        seconds = np.exp(rng.uniform(np.log(self.low), np.log(self.high), count))
        # exp(log(x)) may differ from x by rounding; the bounds must hold exactly.
        return np.clip(seconds, self.low, self.high)


@dataclass(frozen=True)
class Endpoints(_Range):
    """Intervals of `low` or `high` seconds, equally likely; a share `middle` is uniform between."""

    kind = "endpoints"
    middle: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _set_number(self, "middle")
        if not 0 <= self.middle <= 1:
            raise ValueError(f"middle is a share between 0 and 1, got {self.middle}")

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Draw intervals, (count,) in seconds."""
        choice = rng.random(count)
        between = rng.uniform(self.low, self.high, count)
        extreme = np.where(choice < (1 + self.middle) / 2, self.low, self.high)
        return np.where(choice < self.middle, between, extreme)


@dataclass(frozen=True)
class Jitter(Interval):
    """Nominal intervals with Gaussian noise, as in a control loop under load.

    `std` and `limit` are shares of the nominal interval: an interval is nominal * (1 + noise),
    and noise is clipped to plus or minus `limit`.
    """

    kind = "jitter"
    std: float = 0.1
    limit: float = 0.5

    def __post_init__(self) -> None:
        _set_number(self, "std")
        _set_number(self, "limit")
        if not 0 <= self.std < np.inf:
            raise ValueError(f"std is a share of the nominal interval, at least 0; got {self.std}")
        if not 0 <= self.limit < 1:
            raise ValueError(
                f"limit is a share of the nominal interval, at least 0 and below 1; "
                f"got {self.limit}"
            )

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Draw intervals, (count,) in seconds."""
        noise = self.std * rng.standard_normal(count)
        return nominal * (1 + np.clip(noise, -self.limit, self.limit))

    def bounds(self, nominal: float) -> tuple[float, float]:
        """Return nominal * (1 - limit) and nominal * (1 + limit), in seconds."""
        return nominal * (1 - self.limit), nominal * (1 + self.limit)

    @property
    def is_range(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class DroppedFrames(Interval):
    """Nominal ticks that are each dropped with `probability`; a dropped tick holds the last action.

    The intervals are multiples of the nominal one with a geometric distribution; environments end
    them after 100.
    """

    kind = "dropped_frames"
    probability: float

    def __post_init__(self) -> None:
        _set_number(self, "probability")
        if not 0 <= self.probability < 1:
            raise ValueError(f"probability is at least 0 and below 1, got {self.probability}")

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Draw intervals, (count,) in seconds."""
        ticks = rng.geometric(1 - self.probability, count)
        return nominal * ticks.astype(np.float64)

    def bounds(self, nominal: float) -> tuple[float, float]:
        """Return the nominal interval and infinity, in seconds."""
        return nominal, np.inf


@dataclass(frozen=True)
class Trace(Interval):
    """Intervals recorded on a real robot, replayed from a random position and repeated.

    `path` is a CSV of increasing timestamps in seconds, in the column `timestamp` or else the first
    one; a header is optional and blank lines are skipped. Raises FileNotFoundError if the file is
    missing, ValueError with the line if it has fewer than two increasing, finite timestamps.
    """

    kind = "trace"
    path: str
    seconds: Seconds = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.fspath(self.path))
        object.__setattr__(self, "seconds", _read_trace(self.path))

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Return recorded intervals, (count,) in seconds; only the first position is drawn."""
        start = rng.integers(len(self.seconds))
        return np.take(self.seconds, start + np.arange(count), mode="wrap")

    def bounds(self, nominal: float) -> tuple[float, float]:
        """Return the shortest and the longest recorded interval in seconds."""
        return float(self.seconds.min()), float(self.seconds.max())


@dataclass(frozen=True)
class PerEpisode(Interval):
    """One interval for a whole episode, drawn from `interval`.

    With a `share` below 1, the other episodes draw an interval for every step. Training then
    includes long stretches at constant rates, and changing rates as well.

    An episode of the same duration has fewer control steps at a longer interval. With
    `even_steps`, the probability of an interval is proportional to its length, so that control
    steps at all constant rates are equally common.
    """

    kind = "per_episode"
    interval: Interval
    share: float = 1.0
    even_steps: bool = False

    def __post_init__(self) -> None:
        _set_number(self, "share")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is a fraction of all episodes, from 0 to 1, got {self.share}")
        if not isinstance(self.even_steps, bool):
            raise TypeError(f"even_steps is true or false, got {self.even_steps!r}")
        if not isinstance(self.interval, Interval):
            raise TypeError(
                f"PerEpisode takes an Interval such as Uniform(0.01, 0.1), got {self.interval!r}"
            )
        if isinstance(self.interval, Chosen):
            raise TypeError("the policy chooses an interval at every decision; use Chosen itself")

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Draw one interval and repeat it, or draw all in other episodes, (count,) in seconds."""
        if self.share < 1 and rng.random() >= self.share:
            return self.interval.schedule(rng, count, nominal)
        if not self.even_steps:
            return np.repeat(self.interval.schedule(rng, 1, nominal), count)
        candidates = self.interval.schedule(rng, CANDIDATES, nominal)
        return np.full(count, rng.choice(candidates, p=candidates / candidates.sum()))

    def bounds(self, nominal: float) -> tuple[float, float]:
        """Return the bounds of the inner interval in seconds."""
        return self.interval.bounds(nominal)

    @property
    def is_range(self) -> bool:
        """Whether the inner interval is a range."""
        return self.interval.is_range


@dataclass(frozen=True)
class Chosen(Interval):
    """Intervals that the policy chooses: an additional entry of an action is its duration.

    The last entry of an action, from -1 to 1, is the logarithm of the seconds: -1 is `low`, 1 is
    `high`, and 0 the geometric mean. The constant `cost` of a decision is subtracted from the
    reward of its step (as the energy of a decision in MOSEAC, Wang & Beltrame 2024,
    arXiv 2402.14961). A horizon shortens the last interval.

    Attributes:
        low: The shortest interval in seconds.
        high: The longest interval in seconds; if equal to `low`, the policy has no choice.
        cost: In units of the reward, at least 0.
    """

    kind = "chosen"
    low: float
    high: float
    cost: float = 0.0

    def __post_init__(self) -> None:
        _set_seconds(self, "low")
        _set_seconds(self, "high")
        _set_number(self, "cost")
        if self.low > self.high:
            raise ValueError(f"low {self.low} s is above high {self.high} s; swap them")
        if not 0 <= self.cost < np.inf:
            raise ValueError(f"cost is a finite number, at least 0, got {self.cost}")

    def schedule(self, rng: np.random.Generator, count: int, nominal: float) -> Seconds:
        """Raise a TypeError: the policy chooses these intervals."""
        raise TypeError(
            "chosen intervals are not drawn; use Chosen itself as the interval, not within another"
        )

    def bounds(self, nominal: float) -> tuple[float, float]:
        """Return `low` and `high` in seconds."""
        return self.low, self.high

    @property
    def is_range(self) -> bool:
        """True, unless there is no choice."""
        return self.low < self.high

    def seconds(self, entries: NDArray[Any]) -> Seconds:
        """Return the intervals that the last entries of actions choose, clipped to -1 and 1."""
        share = (np.clip(np.asarray(entries, np.float64), -1.0, 1.0) + 1) / 2
        seconds: Seconds = self.low * (self.high / self.low) ** share
        return seconds


IntervalLike: TypeAlias = Interval | float | Mapping[str, Any] | None

KINDS: dict[str, type[Interval]] = {
    cls.kind: cls
    for cls in (
        Fixed,
        Uniform,
        LogUniform,
        Jitter,
        DroppedFrames,
        Endpoints,
        Trace,
        PerEpisode,
        Chosen,
    )
}


def interval_from(value: IntervalLike) -> Interval:
    """Build an interval from a value of a recipe.

    None gives the nominal interval, a number gives that many seconds, and a mapping such as
    {"kind": "uniform", "low": 0.02, "high": 0.08} gives the class of that kind. An Interval is
    returned unchanged. Raises ValueError for an unknown kind or key, TypeError for other types.
    """
    if isinstance(value, Interval):
        return value
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if value is None or (isinstance(value, Real) and not isinstance(value, bool)):
        return Fixed(value)
    raise TypeError(
        f"an interval is an Interval, a number of seconds, a mapping with a kind, or None for "
        f"the nominal interval; got {value!r}"
    )


def _from_mapping(mapping: Mapping[str, Any]) -> Interval:
    arguments = dict(mapping)
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"interval kind {kind!r} is unknown; use one of {', '.join(KINDS)}")
    fields = [f for f in dataclasses.fields(KINDS[kind]) if f.init]  # type: ignore[arg-type]
    known = [f.name for f in fields]
    required = [f.name for f in fields if f.default is dataclasses.MISSING]
    if unknown := [key for key in arguments if key not in known]:
        raise ValueError(f"interval kind {kind!r} has no key {unknown[0]!r}; it has {known}")
    if missing := [key for key in required if key not in arguments]:
        raise ValueError(f"interval kind {kind!r} lacks key {missing[0]!r}; it needs {required}")
    if "interval" in arguments:
        arguments["interval"] = interval_from(arguments["interval"])
    return KINDS[kind](**arguments)


def _set_number(interval: Interval, name: str) -> None:
    """Check that a field is a number, and store it as a float, as JSON does."""
    value = getattr(interval, name)
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    object.__setattr__(interval, name, float(value))


def _set_seconds(interval: Interval, name: str) -> None:
    """Check that a field is a positive duration, and store it as a float."""
    _set_number(interval, name)
    value = getattr(interval, name)
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be a finite number of seconds above 0, got {value}")


def _read_trace(path: str) -> Seconds:
    """Return the intervals between a CSV's timestamps, read-only; see `Trace`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"trace file {path!r} does not exist; give the path of a CSV")
    try:
        lines, timestamps = _read_timestamps(path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"trace file {path!r} is no CSV in UTF-8: {error}") from error
    if len(timestamps) < 2:
        raise ValueError(
            f"trace file {path!r} holds {len(timestamps)} timestamps; an interval needs two"
        )
    intervals = np.diff(np.array(timestamps))
    if not (intervals > 0).all():
        late = int(np.argmin(intervals > 0)) + 1
        raise ValueError(
            f"trace file {path!r}, line {lines[late]}: timestamp {timestamps[late]} does not come "
            f"after {timestamps[late - 1]}; timestamps must increase"
        )
    intervals.setflags(write=False)
    return intervals


def _read_timestamps(path: str) -> tuple[list[int], list[float]]:
    """Return line numbers and timestamps in seconds."""
    lines, timestamps = [], []
    # Spreadsheets write a byte order mark, which utf-8-sig removes.
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        column = 0
        for index, row in enumerate(row for row in reader if row):
            if index == 0 and not any(map(_is_number, row)):
                names = [name.strip() for name in row]
                column = names.index("timestamp") if "timestamp" in names else 0
                continue
            cell = row[column] if column < len(row) else ""
            if not _is_number(cell) or not np.isfinite(float(cell)):
                raise ValueError(
                    f"trace file {path!r}, line {reader.line_num}: {cell!r} is not a timestamp; "
                    f"give finite seconds"
                )
            lines.append(reader.line_num)
            timestamps.append(float(cell))
    return lines, timestamps


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
