"""HalfCheetah and Swimmer: forward as fast as possible; they cannot fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.simulations import Array, Simulations
from liquid_control.envs.tasks.task import Task, squares, uniform


@dataclass(frozen=True)
class _Runner(Task):
    """Rewards speed along x, less the squares of the controls."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    hidden: ClassVar[int]
    """Leading positions that tell where the robot is and not how it is posed."""

    def observation(self, sims: Simulations) -> Array:
        """Return positions, the place left out unless asked for, and velocities."""
        skipped = self.exclude_current_positions_from_observation * self.hidden
        return np.concatenate((sims.qpos[:, skipped:], sims.qvel), axis=1)

    def before(self, sims: Simulations) -> Array:
        """Return x."""
        return sims.qpos[:, 0]

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Judge the distance covered."""
        velocity = (sims.qpos[:, 0] - before) / seconds
        return self.forward_reward_weight * velocity - self.ctrl_cost_weight * squares(action)


@dataclass(frozen=True)
class HalfCheetah(_Runner):
    """Gymnasium's HalfCheetah-v5."""

    hidden = 1

    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw uniform positions and normal velocities."""
        qpos = qpos + uniform(rng, self.reset_noise_scale, qpos)
        return qpos, qvel + self.reset_noise_scale * rng.standard_normal(qvel.shape)


@dataclass(frozen=True)
class Swimmer(_Runner):
    """Gymnasium's Swimmer-v5."""

    ctrl_cost_weight: float = 1e-4

    hidden = 2

    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw uniform positions and velocities."""
        qpos = qpos + uniform(rng, self.reset_noise_scale, qpos)
        return qpos, qvel + uniform(rng, self.reset_noise_scale, qvel)
