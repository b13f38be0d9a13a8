"""The conditions of a task: its sensors, actuators, bodies and events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.actuators import ACTUATORS, Actuation, Actuator
from liquid_control.envs.bodies import Bodies, Drawing, Randomize
from liquid_control.envs.episode import Episode
from liquid_control.envs.events import EVENTS, Change, Event, Timeline
from liquid_control.envs.parts import part_from, parts_from
from liquid_control.envs.sensors import SENSORS, Counts, Sensing, Sensor

Privileged: TypeAlias = Literal["full", "drawn", "all"]
SensorsLike: TypeAlias = Sequence[Sensor | Mapping[str, Any]] | None
ActuatorsLike: TypeAlias = Sequence[Actuator | Mapping[str, Any]] | None
BodiesLike: TypeAlias = Randomize | Mapping[str, Any] | None
EventsLike: TypeAlias = Sequence[Event | Mapping[str, Any]] | None


@dataclass(frozen=True)
class Conditions:
    """The conditions that an environment adds to its task; see `conditions_from`."""

    sensors: tuple[Sensor, ...] = ()
    actuators: tuple[Actuator, ...] = ()
    bodies: Randomize | None = None
    events: tuple[Event, ...] = ()
    privileged: Privileged | None = None

    def __bool__(self) -> bool:
        """Whether there are any conditions."""
        return self != Conditions()

    @property
    def needs_model(self) -> bool:
        """Whether parts change values of a MuJoCo model, or forces in it."""
        return self.bodies is not None or bool(self.events)


def conditions_from(
    sensors: SensorsLike = None,
    actuators: ActuatorsLike = None,
    bodies: BodiesLike = None,
    events: EventsLike = None,
    privileged: Privileged | None = None,
) -> Conditions:
    """Build conditions from the values of a recipe, or from objects.

    Args:
        sensors: Applied to observations, in order: `Noise`, `Delay`, `Dropout`, `Quantize` and
            `Age`, or mappings such as {"kind": "noise", "std": 0.01}.
        actuators: Applied to commands, in order: `Delay` and `RateLimit`.
        bodies: A `Randomize`, or a mapping such as {"mass": [0.7, 1.3]}.
        events: Events within an episode: `Change` and `Push`.
        privileged: The content of an observation's key `privileged`, for critics and teachers:
            "full", the whole observation of the task, without sensors; "drawn", the numbers drawn
            for the episode, in the order of `info["drawn"]`; "all", both in this order. None omits
            the key.

    Raises:
        TypeError, ValueError: If a value is invalid; the error names its key.
    """
    if privileged not in (None, "full", "drawn", "all"):
        raise ValueError(
            f"privileged {privileged!r} is unknown; use 'full', 'drawn', 'all' or None"
        )
    return Conditions(
        parts_from(sensors, "sensors", SENSORS),
        parts_from(actuators, "actuators", ACTUATORS),
        None if bodies is None else part_from(bodies, "bodies", Randomize),
        parts_from(events, "events", EVENTS),
        privileged,
    )


class Situation:
    """Conditions of many simulations of a task, and their state.

    Args:
        conditions: The conditions.
        num_envs: Number of simulations.
        model: The MjModel, or None where a robot has none.
        size: Features of an observation.
        space: The action space.
        timestep: Duration of a physics step in seconds.
        nominal: Physics steps of the nominal interval.
        horizon: Physics steps in an episode, or None.

    Attributes:
        sensing: The sensors.
        actuation: The actuators.
        bodies: The factors of the model's values.
        timeline: The events.
        drawn: Columns of values drawn for the current episodes, by name.

    Raises:
        ValueError: If a part does not fit the task, or `privileged` asks for numbers and none are
            drawn.
    """

    def __init__(
        self,
        conditions: Conditions,
        num_envs: int,
        *,
        model: Any,
        size: int,
        space: gym.Space[Any],
        timestep: float,
        nominal: int,
        horizon: int | None,
    ) -> None:
        self.sensing = Sensing(conditions.sensors, num_envs, size, timestep, nominal)
        self.actuation = Actuation(conditions.actuators, num_envs, space, timestep, nominal)
        randomize = conditions.bodies or Randomize()
        changes = {
            f"events[{index}].": each
            for index, each in enumerate(conditions.events)
            if isinstance(each, Change)
        }
        self.bodies = Bodies(model, {"bodies.": randomize, **changes}, num_envs)
        self._drawing = Drawing(randomize, self.bodies, num_envs)
        self.timeline = Timeline(conditions.events, self.bodies, model, num_envs, timestep, horizon)
        self.drawn = {
            **self.sensing.drawn,
            **self.actuation.drawn,
            **self._drawing.drawn,
            **self.timeline.drawn,
        }
        if conditions.privileged == "drawn" and not self.drawn:
            raise ValueError(
                "privileged='drawn' has nothing to show: no sensor, actuator, body or event draws "
                "a number; use 'full' or None"
            )
        self._episodes = [Episode(0, 0)] * num_envs

    def seed(self, index: int) -> None:
        """Start a simulation's history anew, as its generator was seeded."""
        self._episodes[index] = Episode(0, 0)
        self.sensing.seed(index)

    def begin(self, which: Sequence[int], rngs: Sequence[np.random.Generator]) -> None:
        """Draw the conditions of the episodes that begin in some simulations.

        Args:
            which: Indices of the simulations.
            rngs: Their generators, before the task draws from them.
        """
        for index, rng in zip(which, rngs, strict=True):
            self._episodes[index] = Episode.of(rng, self._episodes[index].number + 1)
        self._draw(which, [0] * len(which))
        self.actuation.start(np.asarray(which))

    def _draw(self, which: Sequence[int], now: Sequence[int]) -> None:
        episodes = [self._episodes[index] for index in which]
        self.sensing.draw(which, episodes)
        self.actuation.draw(which, episodes)
        for index, episode, steps in zip(which, episodes, now, strict=True):
            self._drawing.draw(index, episode)
            self.timeline.draw(index, episode, steps)

    def info(self, index: int) -> dict[str, float]:
        """Return the values drawn for the episode of a simulation, by name."""
        return {name: column.item(index) for name, column in self.drawn.items()}

    def numbers(self, which: Counts) -> NDArray[np.float64]:
        """Return the values drawn for the episodes of some simulations, (which, names)."""
        columns = [column.of(which) for column in self.drawn.values()]
        return np.stack(columns, axis=1) if columns else np.empty((len(which), 0))

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state that later steps depend on, for `load_state_dict`, not copied."""
        episodes = np.stack([episode.to_array() for episode in self._episodes])
        return {"episodes": episodes} | self.sensing.memory | self.actuation.memory

    def load_state_dict(self, state: Mapping[str, NDArray[Any]], now: Counts) -> None:
        """Restore a state that `check` has accepted, `now` physics steps after the resets."""
        self._episodes = [Episode.from_array(row) for row in state["episodes"]]
        self._draw(range(len(now)), now.tolist())
        for name, array in (self.sensing.memory | self.actuation.memory).items():
            array[...] = state[name]

    def check(self, state: Mapping[str, NDArray[Any]], tick: Counts, now: Counts) -> None:
        """Reject a saved state that these conditions cannot reach.

        Args:
            state: Of the same conditions, with the shapes and types of `state_dict`.
            tick: Control steps since the resets, (num_envs,).
            now: Physics steps since the resets, (num_envs,).

        Raises:
            ValueError: If the state cannot be theirs.
        """
        if not (state["episodes"][:, 2] >= 1).all():
            raise ValueError("the saved envs have episodes that never began")
        self.sensing.check(state, now)
        self.actuation.check(state, tick, now)
