"""Effects of actuators on commands: delays, and rate limits.

An actuator is frozen data. `Actuation` holds the pending commands of one or many simulations. The
batched physics applies them in C (`_hold.c`), `Actuation.advance` in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.delay import Delay
from liquid_control.envs.episode import Column, Episode
from liquid_control.envs.parts import Part, number

Array: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class RateLimit(Part):
    """Limits the change of the actuators' output to `rate` units per second.

    The units are those of the simulation's controls, which are the actions in Gymnasium's tasks. An
    episode starts from zero, or the bound nearest to it. The limit acts at every physics step.

    Attributes:
        rate: Units per second, above 0.
    """

    kind = "rate_limit"
    rate: float

    def __post_init__(self) -> None:
        number(self, "rate", 0.0)
        if self.rate == 0:
            raise ValueError("rate must be above 0; at 0 the actuators would never move")


Actuator: TypeAlias = Delay | RateLimit
ACTUATORS: dict[str, type[Actuator]] = {each.kind: each for each in (Delay, RateLimit)}


class Actuation:
    """The actuators of many simulations, in order, and their pending commands.

    A delay and a limit that starts from rest give the same result in either order, bit for bit. So
    all delays are applied first, as one, and then the limits in their order.

    Args:
        actuators: The actuators.
        num_envs: Number of simulations.
        space: The space of the controls.
        timestep: Duration of a physics step in seconds.
        nominal: Physics steps of the nominal interval.

    Attributes:
        changes: The largest change of a command in a physics step, of each limit, (limits,).
        delay: Physics steps until a command takes effect, (num_envs,).
        commands: The last ones of each simulation, a ring, (num_envs, slots, controls).
        issued: Physics steps since the reset at which each was given, (num_envs, slots).
        latest: Number of commands in each simulation's episode, (num_envs,).
        current: The command in effect, (num_envs,), counted as `latest`; 0 is that of rest.
        levels: The output of each limit, (num_envs, limits, controls).
        drawn: Columns of values drawn for the current episodes, by name.
        memory: The arrays that later steps depend on.
    """

    def __init__(
        self,
        actuators: Sequence[Actuator],
        num_envs: int,
        space: gym.Space[Any],
        timestep: float,
        nominal: int,
    ) -> None:
        self._timestep = timestep
        self._delays: list[tuple[Delay, str, Array]] = []
        self.drawn: dict[str, Column] = {}
        longest = 0
        for index, actuator in enumerate(actuators):
            if isinstance(actuator, Delay):
                actuator.check(f"the delay actuators[{index}]", nominal * timestep, timestep)
                if most := actuator.most(timestep):
                    longest += most
                    stream = f"actuators.{actuator.kind}.{len(self._delays)}"
                    seconds = np.zeros(num_envs)
                    self.drawn[f"actuators.{index}.delay"] = Column(seconds)
                    self._delays.append((actuator, stream, seconds))
        limits = [each for each in actuators if isinstance(each, RateLimit)]
        self.is_idle = not longest and not limits
        self.changes = np.array([each.rate * timestep for each in limits])
        if self.is_idle:
            self.memory: dict[str, NDArray[Any]] = {}
            return
        if not isinstance(space, gym.spaces.Box):
            raise TypeError(f"actuators need a Box of actions, got {space}")
        self._rest = np.clip(0.0, space.low, space.high).astype(np.float64).ravel()
        slots, controls = longest + 2, self._rest.size
        self.delay = np.zeros(num_envs, np.int32)
        self.commands = np.zeros((num_envs, slots, controls))
        self.issued = np.zeros((num_envs, slots), np.int32)
        self.latest = np.zeros(num_envs, np.int32)
        self.current = np.zeros(num_envs, np.int32)
        self.levels = np.zeros((num_envs, len(limits), controls))
        self._first = np.arange(num_envs) * slots
        self.memory = {
            f"actuators.{name}": getattr(self, name)
            for name in ("commands", "issued", "latest", "current", "levels")
        }

    def draw(self, which: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Draw the delays of episodes that begin or resume in some simulations."""
        for position, (actuator, stream, seconds) in enumerate(self._delays):
            for index, episode in zip(which, episodes, strict=True):
                shift = actuator.draw(episode.stream(stream), self._timestep)
                self.delay[index] = shift + (self.delay[index] if position else 0)
                seconds[index] = shift * self._timestep

    def start(self, which: Counts) -> None:
        """Bring the actuators of some simulations to rest."""
        if not self.is_idle:
            self.commands[which], self.levels[which] = self._rest, self._rest
            self.issued[which], self.latest[which], self.current[which] = 0, 0, 0

    def command(self, now: Counts, actions: NDArray[Any]) -> None:
        """Give each simulation a command, `now` physics steps after its reset."""
        slots, controls = self.commands.shape[1:]
        row = self._first + (self.latest + 1) % slots
        self.commands.reshape(-1, controls)[row] = actions.reshape(len(actions), -1)
        self.issued.reshape(-1)[row] = now
        self.latest += 1

    def advance(self, index: int, now: int) -> Array:
        """Return the actuators' output of a simulation in a physics step, (controls,)."""
        slots, current = self.issued.shape[1], self.current.item(index)
        due = now - self.delay.item(index)
        while current < self.latest[index] and self.issued[index, (current + 1) % slots] <= due:
            current += 1
        self.current[index] = current
        control: Array = self.commands[index, current % slots]
        for level, change in zip(self.levels[index], self.changes, strict=True):
            level += np.clip(control - level, -change, change)
            control = level
        return control.copy()

    def check(self, state: Mapping[str, NDArray[Any]], tick: Counts, now: Counts) -> None:
        """Raise a ValueError if a memory is impossible for simulations at these times."""
        if self.is_idle:
            return
        latest, current = state["actuators.latest"], state["actuators.current"]
        issued = state["actuators.issued"]
        if not (
            (latest == tick).all()
            and (current >= 0).all()
            and (current <= latest).all()
            and (latest - current < issued.shape[1]).all()
            and (issued >= 0).all()
            and (issued <= now[:, None]).all()
        ):
            raise ValueError("the commands of the saved envs do not fit their episodes")
