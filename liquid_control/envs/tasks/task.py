"""What a task is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.simulations import Array, Simulations


@dataclass(frozen=True)
class Task(ABC):
    """What a robot observes, what it is rewarded for, and when it has failed.

    Write a frozen dataclass whose fields are the arguments of the task. Its functions work on many
    simulations at once and change nothing; a `Simulations` has fields of MjData such as `qpos`,
    (simulations, nq). They may return a part of one as it is, which is copied.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    """Fields of MjData that the functions read beside qpos, qvel and ctrl, such as "xpos"."""

    layout: ClassVar[tuple[tuple[str, int], ...]] = ()
    """Names and sizes of the observation's blocks, for `ObserveOnly`: ("qpos", 4), ("qvel", 2)."""

    @abstractmethod
    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw the start of one episode from the model's defaults.

        Args:
            rng: The generator of the simulation.
            qpos: A copy of the default positions, (nq,).
            qvel: A copy of the default velocities, (nv,).

        Returns:
            Positions and velocities, (nq,) and (nv,).
        """

    @abstractmethod
    def observation(self, sims: Simulations) -> Array:
        """Return what the robots observe, (simulations, features)."""

    def before(self, sims: Simulations) -> Array:
        """Return what `reward` compares with, as it is before a step, (simulations, ...)."""
        return np.empty(0)

    @abstractmethod
    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Judge a step.

        Args:
            sims: The simulations after it.
            before: What `before` returned ahead of it.
            action: The controls held, (simulations, actuators).
            seconds: How long they were held, (simulations,).

        Returns:
            Rewards, (simulations,), as for a step of the nominal interval.
        """

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which of the robots have failed or are done, (simulations,)."""
        return np.zeros(len(sims.qpos), dtype=bool)


def uniform(rng: np.random.Generator, scale: float, like: Array) -> Array:
    """Draw noise between plus and minus `scale` of the shape of another array."""
    return rng.uniform(-scale, scale, like.shape)


def squares(values: NDArray[Any]) -> Array:
    """Return the sum of squares for each simulation, (simulations,).

    It is computed in the type of the values, as in Gymnasium, where actions are single precision.
    """
    total: Array = np.add.reduce(np.square(values.reshape(len(values), -1)), axis=1)
    return total


def within(values: Array, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which values lie strictly between two bounds."""
    return (bounds[0] < values) & (values < bounds[1])


def clipped(values: Array, bounds: tuple[float, float]) -> Array:
    """Return values, those beyond the bounds moved onto them."""
    return values.clip(bounds[0], bounds[1])
