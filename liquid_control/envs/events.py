"""Events within an episode: a robot's body changes, or it is pushed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.bodies import Bodies, Factored
from liquid_control.envs.episode import Column, Episode
from liquid_control.envs.parts import Part, Range, as_range, draw, number_or_range
from liquid_control.envs.substeps import UNLIMITED_COUNT

Array: TypeAlias = NDArray[np.float64]
PAST = ("at", "x", "y")  # of the last push, in `info["drawn"]`
LAST = int(np.iinfo(np.int32).max)  # a physics step that no episode reaches


@dataclass(frozen=True)
class Change(Factored):
    """Multiplies values of the model by factors, once in an episode.

        events=[envs.Change(at=(10.0, 20.0), gain={"bthigh": 0.0})]   # a motor fails

    The factors multiply the episode's current values. They act from the physics step at that time
    on, even within a control step.

    Attributes:
        at: Seconds since the reset; or a range (low, high), from which each episode draws.
    """

    kind = "change"
    at: float | Range = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        number_or_range(self, "at", 0.0)
        if not any(self.factors()):
            raise ValueError("a Change without factors changes nothing; give one, such as gain")


@dataclass(frozen=True)
class Push(Part):
    """Pushes a body sideways repeatedly, in a direction that is drawn each time.

    The force acts for one physics step, horizontally on the body's centre of mass. Only its
    component in the plane affects a robot that moves in a plane.

    Attributes:
        every: Seconds between two pushes, and before the first; or a range (low, high), from which
            each is drawn.
        impulse: In newton seconds; or a range, from which each is drawn.
        body: The name of the body; None is the first one of the model.
    """

    kind = "push"
    every: float | Range
    impulse: float | Range
    body: str | None = None

    def __post_init__(self) -> None:
        number_or_range(self, "every", 0.0)
        number_or_range(self, "impulse", 0.0)
        if as_range(self.every)[0] == 0:
            raise ValueError("every must be above 0 seconds; leave Push out for no pushes")
        if self.body is not None and not isinstance(self.body, str):
            raise TypeError(f"body must be the name of a body, got {self.body!r}")


Event: TypeAlias = Change | Push
EVENTS: dict[str, type[Event]] = {each.kind: each for each in (Change, Push)}


class Timeline:
    """The events of the current episodes of many simulations.

    Args:
        events: The events.
        bodies: Stores the factors.
        model: The MjModel.
        num_envs: Number of simulations.
        timestep: Duration of a physics step in seconds.
        horizon: Physics steps in an episode, or None for an episode without an end, which has 4096
            pushes.

    Attributes:
        past: The last pushes of each simulation, (num_envs, pushes, entries of `PAST`).
        next: The physics step since the reset before which `happen` is due, (num_envs,).
        pushed: The body of each `Push`, (pushes,).
        at: The physics step since the reset of its next push, (num_envs, pushes).
        force: The force during that step, (num_envs, pushes, 3).
        drawn: Columns of values drawn for the current episodes, by name: of a `Change`
            from the reset on, and whether it has happened; of a `Push` the last one, seconds since
            the reset and newton seconds, zeros before the first.

    Raises:
        ValueError: If a name is unknown, or pushes follow each other faster than physics steps.
    """

    def __init__(
        self,
        events: Sequence[Event],
        bodies: Bodies,
        model: Any,
        num_envs: int,
        timestep: float,
        horizon: int | None,
    ) -> None:
        self._bodies, self._timestep = bodies, timestep
        self._end = LAST if horizon is None else horizon
        self._changes: list[_Changing] = []
        self._pushes: list[tuple[Push, str]] = []
        for index, event in enumerate(events):
            self._check_time(f"events[{index}]", event)
            occurrence = sum(type(other) is type(event) for other in events[:index])
            stream = f"events.{event.kind}.{occurrence}"
            if isinstance(event, Change):
                self._changes.append(_Changing(event, stream, f"events.{index}", bodies, num_envs))
                continue
            if as_range(event.every)[0] < timestep:
                raise ValueError(
                    f"events[{index}].every is shorter than one physics step of {timestep:g} s; "
                    f"use at least {timestep:g}"
                )
            self._pushes.append((event, stream))
        self.drawn = {name: column for each in self._changes for name, column in each.drawn.items()}
        places = [index for index, event in enumerate(events) if isinstance(event, Push)]
        self.past = np.zeros((num_envs, len(places), len(PAST)))
        for number, index in enumerate(places):
            for entry, name in enumerate(PAST):
                self.drawn[f"events.{index}.{name}"] = Column(self.past, (number, entry))
        self.pushed = np.array(
            [
                _body(model, push, f"events[{index}].body")
                for index, (push, _) in zip(places, self._pushes, strict=True)
            ],
            np.int32,
        )
        count = len(self._pushes)
        self.at = np.full((num_envs, count), LAST, np.int32)
        self.force = np.zeros((num_envs, count, 3))
        self._later = np.full((num_envs, count), LAST, np.int32)  # the pushes after the next ones
        self._coming: list[list[tuple[NDArray[np.int32], Array]]] = [[] for _ in range(num_envs)]
        self.next = np.full(num_envs, LAST, np.int64)

    def _check_time(self, name: str, event: Event) -> None:
        """Raise a ValueError for an event that no episode reaches."""
        key = "at" if isinstance(event, Change) else "every"
        first = as_range(event.at if isinstance(event, Change) else event.every)[0]
        if first > (end := self._end * self._timestep):
            raise ValueError(
                f"{name}.{key} is {first:g} seconds, and episodes end after {end:g}; it is in "
                "seconds, not milliseconds"
            )

    def draw(self, index: int, episode: Episode, now: int = 0) -> None:
        """Draw the events of an episode of a simulation, and apply those before `now`."""
        for change in self._changes:
            change.draw(index, episode, self._timestep)
        self._coming[index] = [
            self._draw_pushes(push, episode.stream(stream)) for push, stream in self._pushes
        ]
        self.happen(index, now - 1)  # events due at `now` itself are still pending
        self._await(index, now)

    def await_pushes(self, now: NDArray[np.int64]) -> None:
        """Replace past pushes by the next ones, given the current physics steps.

        It is called before and after each control step.
        """
        if len(self._pushes):
            for index in np.flatnonzero((self.at < now[:, None]).any(axis=1)).tolist():
                self._await(index, now.item(index))

    def happen(self, index: int, now: int) -> bool:
        """Apply the events due before a physics step; return whether factors have changed."""
        due = [each for each in self._changes if each.is_due(index, now)]
        for change in due:
            change.happen(index)
        self._await(index, now)
        return bool(due)

    def _await(self, index: int, now: int) -> None:
        """Find the next pushes from a step on, and when `happen` is due."""
        for number, (steps, forces) in enumerate(self._coming[index]):
            place = int(np.searchsorted(steps, now))
            self.past[index, number] = 0.0
            if place > 0:
                impulse = self._timestep * forces[place - 1, :2]
                self.past[index, number] = (steps[place - 1] * self._timestep, *impulse)
            self.at[index, number] = steps[place] if place < len(steps) else LAST
            if place < len(steps):
                self.force[index, number] = forces[place]
            self._later[index, number] = steps[place + 1] if place + 1 < len(steps) else LAST
        changes = [each.step.item(index) for each in self._changes if not each.has_happened(index)]
        self.next[index] = min([LAST, *self._later[index].tolist(), *changes])

    def _draw_pushes(
        self, event: Push, rng: np.random.Generator
    ) -> tuple[NDArray[np.int32], Array]:
        """Draw the steps (pushes,) and forces (pushes, 3) of all pushes of an episode."""
        every, count = as_range(event.every), UNLIMITED_COUNT
        if self._end < LAST:
            count = math.ceil(self._end * self._timestep / every[0])
        steps = np.rint(np.cumsum(draw(rng, every, count)) / self._timestep)
        newtons = draw(rng, as_range(event.impulse), count) / self._timestep
        angles = rng.uniform(0, 2 * np.pi, count)
        forces = np.stack([np.cos(angles), np.sin(angles), np.zeros(count)], axis=1)
        within = steps < self._end
        return steps[within].astype(np.int32), (newtons[:, None] * forces)[within]


class _Changing:
    """A `Change` in the current episodes of many simulations.

    Attributes:
        step: Physics steps since the reset at which it happens, (num_envs,).
        drawn: See `Timeline`.
    """

    def __init__(
        self, event: Change, stream: str, prefix: str, bodies: Bodies, num_envs: int
    ) -> None:
        self._bodies, self._stream, self._at = bodies, stream, as_range(event.at)
        self._factors = [
            (quantity, bodies.elements(quantity, name), bounds, np.ones(num_envs))
            for quantity, name, bounds in event.factors()
        ]
        names = [".".join(filter(None, (prefix, *each[:2]))) for each in event.factors()]
        self.step = np.zeros(num_envs, np.int64)
        self._seconds, self._happened = np.zeros(num_envs), np.zeros(num_envs)
        self.drawn = {
            f"{prefix}.at": Column(self._seconds),
            **{name: Column(each[3]) for name, each in zip(names, self._factors, strict=True)},
            f"{prefix}.happened": Column(self._happened),
        }

    def draw(self, index: int, episode: Episode, timestep: float) -> None:
        rng = episode.stream(self._stream)
        self.step[index] = min(round(float(draw(rng, self._at)) / timestep), LAST)
        self._seconds[index] = self.step[index] * timestep
        self._happened[index] = 0.0
        for _, _, bounds, factor in self._factors:
            factor[index] = draw(rng, bounds)

    def has_happened(self, index: int) -> bool:
        return bool(self._happened[index])

    def is_due(self, index: int, now: int) -> bool:
        return not self._happened[index] and bool(self.step[index] <= now)

    def happen(self, index: int) -> None:
        """Multiply the factors of a simulation."""
        for quantity, elements, _, factor in self._factors:
            self._bodies.factors[quantity][index, elements] *= factor[index]
        self._happened[index] = 1.0


def _body(model: Any, event: Push, key: str) -> int:
    """Return the index of the body that is pushed."""
    if event.body is None:
        return 1
    names = [model.body(index).name for index in range(1, model.nbody)]
    if event.body not in names:
        raise ValueError(f"{key}: the model has no body {event.body!r}; it has {names}")
    return 1 + names.index(event.body)
