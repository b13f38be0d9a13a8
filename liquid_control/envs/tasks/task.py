"""The interface of a task: functions of many simulations at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeAlias

import mujoco
import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

Array = NDArray[np.float64]
NoiseScale: TypeAlias = Annotated[float, Ge(0), Le(1000)]

STATE = {
    "qpos": mujoco.mjtState.mjSTATE_QPOS,
    "qvel": mujoco.mjtState.mjSTATE_QVEL,
    "ctrl": mujoco.mjtState.mjSTATE_CTRL,
}
"""Fields of MjData that every task can read; a task lists others in `Task.reads`."""


class Simulations:
    """Fields of MjData as attributes, each an array of all simulations, (simulations, ...).

    The arrays are not copied. As after mj_step, body positions and forces are those from which the
    last physics step was computed.

    Attributes:
        model: The MjModel. Where bodies are randomised, it belongs to no particular simulation.
        body_mass: The masses of bodies, (bodies,), or (simulations, bodies) where they are
            randomised.
    """

    def __init__(self, model: Any, fields: dict[str, Array]) -> None:
        self.model = model
        self.body_mass: Array = model.body_mass
        self._fields = fields
        self.__dict__ |= fields

    @classmethod
    def of(cls, model: Any, data: Any, reads: Iterable[str]) -> Simulations:
        """Return a single simulation, a view of an MjData."""
        views = {name: field(data, name)[None] for name in (*STATE, *reads)}
        return cls(model, views)

    def __getattr__(self, name: str) -> Array:
        # Called only for missing fields; the return type declares the existing ones.
        raise AttributeError(
            f"the task reads {name!r} and has {', '.join(self.__dict__.get('_fields', ()))}; "
            f"list it in the `reads` of the task"
        )

    @cached_property
    def bodies(self) -> dict[str, int]:
        """Indices of the bodies, by name."""
        return {self.model.body(body).name: body for body in range(self.model.nbody)}


class Earlier(Simulations):
    """Simulations as they were; fields are copied from rings of earlier values when first read.

    Args:
        present: The simulations as they are.
        past: Rings of the values of each field, (simulations, length, ...).
        rows: Where to read, (simulations,), as if simulations and length were one axis.
    """

    def __init__(
        self, present: Simulations, past: dict[str, Array], rows: NDArray[np.intp]
    ) -> None:
        self.model, self.body_mass = present.model, present.body_mass
        self._fields, self._rows = past, rows

    def __getattr__(self, name: str) -> Array:
        ring = self.__dict__.get("_fields", {}).get(name)
        if ring is None:
            return super().__getattr__(name)
        values: Array = ring.reshape(-1, *ring.shape[2:]).take(self._rows, axis=0)
        self.__dict__[name] = values
        return values


def field(data: Any, name: str) -> Array:
    """Return a field of an MjData without copying it; ValueError if tasks cannot read it."""
    array = getattr(data, name, None)
    if not isinstance(array, np.ndarray) or array.dtype != np.float64 or not array.size:
        raise ValueError(
            f"{name!r} is not a field of MjData that this task can read; use one such as 'xpos'"
        )
    return array


@dataclass(frozen=True)
class Task(ABC):
    """The initial states, observations, rewards and terminations of a robot.

    A task is a frozen dataclass whose fields are its arguments. Its methods compute all simulations
    at once and change nothing; a `Simulations` has fields of MjData such as `qpos`,
    (simulations, nq). A method may return a field or a view of it, which is copied.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    """Fields of MjData that the methods read in addition to qpos, qvel and ctrl, such as "xpos"."""

    layout: ClassVar[tuple[tuple[str, int], ...]] = ()
    """Names and sizes of the observation's blocks, for `ObserveOnly`: ("qpos", 4), ("qvel", 2)."""

    @abstractmethod
    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw the initial state of one episode.

        Args:
            rng: The generator of the simulation.
            qpos: A copy of the model's default positions, (nq,).
            qvel: A copy of the model's default velocities, (nv,).

        Returns:
            Positions and velocities, (nq,) and (nv,).
        """

    @abstractmethod
    def observation(self, sims: Simulations) -> Array:
        """Return the observations, (simulations, features)."""

    def before(self, sims: Simulations) -> Array:
        """Return the values before a step that `reward` needs, (simulations, ...)."""
        return np.empty(0)

    @abstractmethod
    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return the rewards of a step.

        Args:
            sims: The simulations after the step.
            before: The result of `before` prior to the step.
            action: The controls held, (simulations, actuators).
            seconds: The duration of the step, (simulations,).

        Returns:
            Rewards, (simulations,), as for a step of the nominal interval.
        """

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which simulations have reached a terminal state, (simulations,)."""
        return np.zeros(len(sims.qpos), dtype=bool)


@dataclass(frozen=True)
class NoisyStart(Task):
    """A task whose episodes start near the model's default state."""

    reset_noise_scale: NoiseScale = 0.1

    normal_velocities: ClassVar[bool] = False
    """Whether the noise of velocities is normal; otherwise it is uniform."""

    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Add uniform noise to positions, and noise to velocities."""
        scale = self.reset_noise_scale
        qpos = qpos + uniform(rng, scale, qpos)
        if self.normal_velocities:
            return qpos, qvel + scale * rng.standard_normal(qvel.shape)
        return qpos, qvel + uniform(rng, scale, qvel)


def uniform(rng: np.random.Generator, scale: float, like: Array) -> Array:
    """Draw noise between plus and minus `scale`, of the shape of `like`."""
    return rng.uniform(-scale, scale, like.shape)


def squares(values: NDArray[Any]) -> Array:
    """Return the sum of squares for each simulation, (simulations,).

    The dtype of the values is kept, as in Gymnasium, whose actions are single precision.
    """
    total: Array = np.add.reduce(np.square(values.reshape(len(values), -1)), axis=1)
    return total


def within(values: Array, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which values lie strictly between two bounds."""
    return (bounds[0] < values) & (values < bounds[1])
