"""Effects of sensors on observations: noise, delays, dropped frames, quantisation, and age.

A sensor is frozen data. `Sensing` applies the sensors of a task to the observations of many
simulations at once, or of one, with the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.delay import Delay
from liquid_control.envs.episode import Column, Episode
from liquid_control.envs.parts import Part, Range, as_range, draw, flag, number, number_or_range
from liquid_control.envs.substeps import FURTHEST

Array: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]

_BLOCK = 512  # observations in a block of random numbers, at most
_NUMBERS = 2048  # approximate number of random numbers in a block of long observations

LARGEST = 1e30  # of noise, so that what is observed fits into single precision


@dataclass(frozen=True)
class Noise(Part):
    """Adds independent Gaussian noise to every entry of each observation.

    Attributes:
        std: The standard deviation, at least 0, in the units of the observation.
        bias: The mean in the same units; or a range (low, high), from which each entry draws a
            constant for an episode.
        relative: Whether `std` and `bias` are in units of each entry's running standard deviation
            instead, over all observations of this environment so far. The first observation has no
            deviation, and so no noise.
    """

    kind = "noise"
    std: float
    bias: float | Range = 0.0
    relative: bool = False

    def __post_init__(self) -> None:
        number(self, "std", 0.0, LARGEST)
        number_or_range(self, "bias", -LARGEST, LARGEST)
        flag(self, "relative")

    @property
    def biases(self) -> Range:
        """The range of the bias."""
        return as_range(self.bias)


@dataclass(frozen=True)
class Dropout(Part):
    """Drops whole observations, each with `probability`; the first one of an episode arrives.

    The policy still acts at every control step. A dropped observation is replaced by the last one
    that arrived, with `hold=True`, or by zeros, with `hold=False`. In both cases the `elapsed_time`
    of the observation is the time since the last one that arrived, as the "time interval" of GRU-D
    (Che et al. 2018, eq. 2): after two dropped ones it is two intervals, the next one that arrives
    comes with three, and the one after that with one. It stays within 100 nominal intervals.
    `info["elapsed_time"]` remains the time since the last control step; rewards are integrated over
    this time, and agents discount by it.

    With `DroppedFrames`, in contrast, the policy waits for the next observation.

    Attributes:
        probability: At least 0 and below 1.
        hold: Whether the last observation that arrived replaces a dropped one.
    """

    kind = "dropout"
    probability: float
    hold: bool = True

    def __post_init__(self) -> None:
        number(self, "probability", 0.0)
        flag(self, "hold")
        if self.probability >= 1:
            raise ValueError(
                f"probability must be below 1, got {self.probability}; nothing would ever arrive"
            )


@dataclass(frozen=True)
class Quantize(Part):
    """Rounds every entry of an observation to the nearest multiple of `step`.

    Attributes:
        step: Resolution in the units of the observation, above 0.
    """

    kind = "quantize"
    step: float

    def __post_init__(self) -> None:
        number(self, "step", 0.0)
        if self.step == 0:
            raise ValueError("step must be above 0; leave Quantize out for unrounded values")


@dataclass(frozen=True)
class Age(Part):
    """Appends the age of an observation as its last entry: seconds since it was measured.

    It is the delay so far, and grows where `Dropout` holds an observation. Later sensors treat it
    as any other entry.
    """

    kind = "age"


Sensor: TypeAlias = Noise | Delay | Dropout | Quantize | Age
SENSORS: dict[str, type[Sensor]] = {
    each.kind: each for each in (Noise, Delay, Dropout, Quantize, Age)
}


@dataclass
class Frames:
    """Observations of the simulations `which`, as they pass through the sensors.

    Attributes:
        which: Indices of the simulations, (frames,).
        tick: Number of earlier observations in the episode, (frames,).
        now: Physics steps since the reset at which the sensor receives the frame, (frames,).
        measured: Physics steps since the reset at which it was measured, (frames,).
        values: The observations, (frames, features).
        arrived: Whether they were not dropped, (frames,).
        repeated: Whether it is the frame of the reset again, since a later delay shows no other
            yet, (frames,).
    """

    which: Counts
    tick: Counts
    now: Counts
    measured: Counts
    values: Array
    arrived: NDArray[np.bool_]
    repeated: NDArray[np.bool_]


class Stage(Protocol):
    """One sensor of all simulations."""

    memory: dict[str, NDArray[Any]]
    """The arrays that later frames depend on."""

    def draw(self, which: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Draw the constants of episodes that begin or resume in some simulations."""

    def __call__(self, frames: Frames) -> None:
        """Change frames."""


class Sensing:
    """The sensors of many simulations, in order, and their state.

    Args:
        sensors: The sensors.
        num_envs: Number of simulations.
        size: Features of an observation.
        timestep: Duration of a physics step in seconds.
        nominal: Physics steps of the nominal interval.

    Attributes:
        size: Features of the sensors' output.
        longest_delay: The most physics steps between a measurement and its observation.
        changes_elapsed_time: Whether observations may be dropped.
        drawn: Columns of values drawn for the current episodes, by name.
        memory: The arrays that later observations depend on.
    """

    def __init__(
        self, sensors: Sequence[Sensor], num_envs: int, size: int, timestep: float, nominal: int
    ) -> None:
        self._timestep, self._nominal = timestep, nominal
        self._stages: list[tuple[Stage, Counts]] = []
        self._delay = np.zeros(num_envs, np.int64)  # of all sensors
        self._last_arrival = np.zeros(num_envs, np.int64)
        self._delays: list[tuple[Delay, str, Counts, Array]] = []
        self.longest_delay = 0
        self.changes_elapsed_time = False
        self.drawn: dict[str, Column] = {}
        self.memory: dict[str, NDArray[Any]] = {}
        shifts: list[tuple[int, Counts]] = []
        for index, sensor in enumerate(sensors):
            name = f"sensors.{index}"
            occurrence = sum(type(other) is type(sensor) for other in sensors[:index])
            stream = f"sensors.{sensor.kind}.{occurrence}"
            if isinstance(sensor, Delay):
                sensor.check(f"the delay sensors[{index}]", nominal * timestep, timestep)
                if most := sensor.most(timestep):
                    shift, seconds = np.zeros(num_envs, np.int64), np.zeros(num_envs)
                    self._delays.append((sensor, stream, shift, seconds))
                    self.longest_delay += most
                    shifts.append((len(self._stages), shift))
                    self.drawn[f"{name}.delay"] = Column(seconds)
                continue
            stage = _stage(sensor, stream, num_envs, size, timestep)
            if stage is None:
                continue
            if isinstance(sensor, Age):
                size += 1
            if isinstance(sensor, Dropout):
                self.changes_elapsed_time = True
            if isinstance(sensor, Noise) and sensor.biases[0] < sensor.biases[1]:
                assert isinstance(stage, _Noise)
                self.drawn |= {f"{name}.bias.{i}": Column(stage.bias, (i,)) for i in range(size)}
            self._stages.append((stage, np.zeros(num_envs, np.int64)))
            self.memory |= {f"{name}.{key}": array for key, array in stage.memory.items()}
        self.size = size
        self._later = [
            [shift for place, shift in shifts if place > index]
            for index in range(len(self._stages))
        ]
        if self.changes_elapsed_time:
            self.memory["sensors.last_arrival"] = self._last_arrival

    def draw(self, which: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Draw the constants of episodes that begin or resume in some simulations."""
        for sensor, stream, shift, seconds in self._delays:
            for index, episode in zip(which, episodes, strict=True):
                shift[index] = sensor.draw(episode.stream(stream), self._timestep)
                seconds[index] = shift[index] * self._timestep
        if self._delays:
            self._delay[...] = sum(shift for _, _, shift, _ in self._delays)
            for (_, after), shifts in zip(self._stages, self._later, strict=True):
                after[...] = sum(shifts)
        for stage, _ in self._stages:
            stage.draw(which, episodes)

    def seed(self, index: int) -> None:
        """Forget what outlasts the episodes of a simulation: the running deviations of noise."""
        for stage, _ in self._stages:
            if isinstance(stage, _Noise):
                for array in stage.memory.values():
                    array[index] = 0

    def measured(self, which: Counts, now: Counts) -> Counts:
        """Return the physics steps since the reset at which current observations were measured."""
        measured: Counts = np.maximum(now - _rows(self._delay, which), 0)
        return measured

    def observe(self, which: Counts, tick: Counts, now: Counts, values: Array) -> Array:
        """Return the sensors' output, (frames, size).

        Args:
            which: Indices of the simulations, (frames,).
            tick: Number of earlier observations in their episodes, (frames,).
            now: Physics steps since the reset, (frames,).
            values: The observations measured at `measured`, (frames, features).
        """
        measured = self.measured(which, now) if self._delays else now
        arrived = np.ones(len(which), bool)
        never = np.zeros(len(which), bool)
        frames = Frames(which, tick, now, measured, values, arrived, never)
        for (stage, after), shifts in zip(self._stages, self._later, strict=True):
            if shifts:
                frames.now = np.maximum(now - _rows(after, which), 0)
                frames.tick = tick * (frames.now > 0)
                frames.repeated = (frames.now == 0) & (tick > 0)
            else:
                frames.now, frames.tick, frames.repeated = now, tick, never
            stage(frames)
        self._arrived = frames.arrived
        return frames.values

    def elapsed(self, which: Counts, now: Counts, intervals: Counts) -> Counts:
        """Return the physics steps since the last observation that arrived, (frames,).

        Args:
            which: As in the last `observe`.
            now: Physics steps since the reset, (frames,).
            intervals: Physics steps since the last control step, (frames,).
        """
        if not self.changes_elapsed_time:
            return intervals
        since = now - _rows(self._last_arrival, which)
        self._last_arrival[which[self._arrived]] = now[self._arrived]
        since = np.minimum(since, FURTHEST * self._nominal)
        elapsed: Counts = np.maximum(since, intervals)
        return elapsed

    def start(self, which: Counts, values: Array) -> Array:
        """Return the first observations of episodes, given those of the reset."""
        zero = np.zeros(len(which), np.int64)
        self._last_arrival[which] = 0
        return self.observe(which, zero, zero, values)

    def space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """Return the space of the sensors' output, given that of the observations."""
        assert isinstance(space, gym.spaces.Box)
        if not self._stages:
            return space
        return gym.spaces.Box(-np.inf, np.inf, (self.size,), space.dtype.type)

    def check(self, state: Mapping[str, NDArray[Any]], now: Counts) -> None:
        """Raise a ValueError if a memory is impossible for simulations at these times."""
        for name, array in state.items():
            if name.endswith(("last_arrival", "measured")) and not (
                (array >= 0).all() and (array <= now).all()
            ):
                raise ValueError(f"{name} of the saved envs lies outside the episode")
            if name.endswith((".count", ".squares")) and not (array >= 0).all():
                raise ValueError(f"{name} of the saved envs is negative")


def _stage(
    sensor: Noise | Dropout | Quantize | Age, stream: str, num_envs: int, size: int, timestep: float
) -> Stage | None:
    """Return the stage of a sensor, or None for one that changes nothing."""
    match sensor:
        case Noise(std=0.0, bias=0.0) | Dropout(probability=0.0):
            return None
        case Noise():
            return _Noise(sensor, stream, num_envs, size)
        case Dropout():
            return _Dropout(sensor, stream, num_envs, size)
        case Quantize():
            return _Quantize(sensor)
        case Age():
            return _Age(timestep)


class _Blocks:
    """Random numbers for each observation of an episode, drawn block by block.

    Args:
        stream: The name of the random stream.
        num_envs: Number of simulations.
        size: Numbers for each observation.
        dtype: Of what `fill` returns.
        fill: Returns a block of a simulation, (length, size), given a generator, the length, the
            index of the simulation and the number of the block.
    """

    def __init__(
        self, stream: str, num_envs: int, size: int, dtype: type, fill: Callable[..., Any]
    ) -> None:
        self._stream, self._fill = stream, fill
        self._length = max(4, min(_BLOCK, _NUMBERS // size))
        self._blocks: NDArray[Any] = np.zeros((num_envs, self._length, size), dtype)
        self._current = np.full(num_envs, -1, np.int64)
        self._first = np.arange(num_envs) * self._length
        self._episodes: list[Episode | None] = [None] * num_envs

    def begin(self, which: Sequence[int], episodes: Sequence[Episode]) -> None:
        for index, episode in zip(which, episodes, strict=True):
            self._episodes[index] = episode
            self._current[index] = -1

    def at(self, which: Counts, tick: Counts) -> NDArray[Any]:
        """Return the rows of observations, (frames, size)."""
        block = tick // self._length
        stale = _rows(self._current, which) != block
        if stale.any():
            for index, number_of_block in zip(
                which[stale].tolist(), block[stale].tolist(), strict=True
            ):
                episode = self._episodes[index]
                assert episode is not None
                rng = episode.stream(self._stream, number_of_block)
                self._blocks[index] = self._fill(rng, self._length, index, number_of_block)
                self._current[index] = number_of_block
        rows = _rows(self._first, which) + tick - block * self._length
        return self._blocks.reshape(-1, self._blocks.shape[2]).take(rows, axis=0)


def _rows(array: NDArray[Any], which: Counts) -> NDArray[Any]:
    """Return some rows of an array; all rows, which are then in order, are not copied."""
    return array if len(which) == len(array) else array[which]


def _store(array: NDArray[Any], which: Counts, rows: NDArray[Any]) -> None:
    """Write some rows of an array, or all."""
    array[slice(None) if len(which) == len(array) else which] = rows


class _Noise:
    def __init__(self, part: Noise, stream: str, num_envs: int, size: int) -> None:
        self._part, self._stream = part, stream
        self._blocks = _Blocks(stream, num_envs, size, np.float64, self._fill)
        self.bias = np.zeros((num_envs, size))
        self._moments = _Moments(num_envs, size) if part.relative else None
        self.memory = self._moments.memory if self._moments else {}

    def draw(self, which: Sequence[int], episodes: Sequence[Episode]) -> None:
        self._blocks.begin(which, episodes)
        size = self.bias.shape[1]
        for index, episode in zip(which, episodes, strict=True):
            low, high = self._part.biases
            self.bias[index] = low
            if low < high:
                self.bias[index] = draw(episode.stream(f"{self._stream}.bias"), (low, high), size)

    def _fill(self, rng: np.random.Generator, length: int, index: int, block: int) -> Array:
        # Single precision takes half the time.
        normal = rng.standard_normal((length, self.bias.shape[1]), np.float32)
        noise: Array = self._part.std * normal.astype(np.float64) + self.bias[index]
        return noise

    def __call__(self, frames: Frames) -> None:
        noise = self._blocks.at(frames.which, frames.tick)
        if self._moments:
            noise *= self._moments.deviation(frames)
        noise += frames.values
        frames.values = noise


class _Moments:
    """Running deviations of observations (Welford 1962), separate for each simulation."""

    def __init__(self, num_envs: int, size: int) -> None:
        self._count = np.zeros(num_envs)
        self._mean = np.zeros((num_envs, size))
        self._squares = np.zeros((num_envs, size))
        self.memory: dict[str, NDArray[Any]] = {
            "count": self._count,
            "mean": self._mean,
            "squares": self._squares,
        }

    def deviation(self, frames: Frames) -> Array:
        """Add observations once each, and return the deviations so far, (frames, size)."""
        which, values = frames.which, frames.values
        if frames.repeated.any():
            which, values = which[~frames.repeated], values[~frames.repeated]
        self._count[which] += 1
        before = values - self._mean[which]
        self._mean[which] += before / self._count[which][:, None]
        self._squares[which] += before * (values - self._mean[which])
        deviation: Array = np.sqrt(self._squares[frames.which] / self._count[frames.which][:, None])
        return deviation


class _Dropout:
    def __init__(self, part: Dropout, stream: str, num_envs: int, size: int) -> None:
        self._part = part
        self._blocks = _Blocks(stream, num_envs, 1, np.bool_, self._fill)
        self._held = np.zeros((num_envs, size))
        self._measured = np.zeros(num_envs, np.int64)
        self.memory: dict[str, NDArray[Any]] = {"measured": self._measured}
        if part.hold:
            self.memory["held"] = self._held

    def draw(self, which: Sequence[int], episodes: Sequence[Episode]) -> None:
        self._blocks.begin(which, episodes)

    def _fill(
        self, rng: np.random.Generator, length: int, index: int, block: int
    ) -> NDArray[np.bool_]:
        lost = rng.random((length, 1)) < self._part.probability
        lost[0] &= block > 0  # the first observation arrives
        return lost

    def __call__(self, frames: Frames) -> None:
        which = frames.which
        lost = self._blocks.at(which, frames.tick)
        if lost.any():
            frames.values = np.where(lost, _rows(self._held, which), frames.values)
            frames.measured = np.where(lost[:, 0], _rows(self._measured, which), frames.measured)
            frames.arrived = frames.arrived & ~lost[:, 0]
        _store(self._measured, which, frames.measured)
        if self._part.hold:  # otherwise zeros are held
            _store(self._held, which, frames.values)


class _Quantize:
    def __init__(self, part: Quantize) -> None:
        self._step = part.step
        self.memory: dict[str, NDArray[Any]] = {}

    def draw(self, which: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Draw nothing."""

    def __call__(self, frames: Frames) -> None:
        values = frames.values / self._step
        np.rint(values, out=values)
        values *= self._step
        frames.values = values


class _Age:
    def __init__(self, timestep: float) -> None:
        self._timestep = timestep
        self.memory: dict[str, NDArray[Any]] = {}

    def draw(self, which: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Draw nothing."""

    def __call__(self, frames: Frames) -> None:
        age = (frames.now - frames.measured) * self._timestep
        frames.values = np.concatenate((frames.values, age[:, None]), axis=1)
