"""Hopper and Walker2d: forward without falling."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.simulations import Array, Simulations
from liquid_control.envs.tasks.task import Task, squares, uniform, within


@dataclass(frozen=True)
class _Walker(Task):
    """Rewards speed along x and being healthy, less the squares of the controls."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

    @abstractmethod
    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which of the robots are upright, (simulations,)."""

    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw uniform positions and velocities."""
        qpos = qpos + uniform(rng, self.reset_noise_scale, qpos)
        return qpos, qvel + uniform(rng, self.reset_noise_scale, qvel)

    def observation(self, sims: Simulations) -> Array:
        """Return positions, x left out unless asked for, and velocities up to 10."""
        skipped = int(self.exclude_current_positions_from_observation)
        return np.concatenate((sims.qpos[:, skipped:], sims.qvel.clip(-10, 10)), axis=1)

    def before(self, sims: Simulations) -> Array:
        """Return x."""
        return sims.qpos[:, 0]

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Judge the distance covered and the posture."""
        velocity = (sims.qpos[:, 0] - before) / seconds
        upright = self.healthy(sims) * self.healthy_reward
        cost = self.ctrl_cost_weight * squares(action)
        return self.forward_reward_weight * velocity + upright - cost

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which of the robots have fallen."""
        return ~self.healthy(sims) & self.terminate_when_unhealthy


@dataclass(frozen=True)
class Hopper(_Walker):
    """Gymnasium's Hopper-v5."""

    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    healthy_z_range: tuple[float, float] = (0.7, inf)
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)

    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which of the robots are upright and move within reason."""
        return (
            within(sims.qpos[:, 2:], self.healthy_state_range).all(axis=1)
            & within(sims.qvel, self.healthy_state_range).all(axis=1)
            & within(sims.qpos[:, 1], self.healthy_z_range)
            & within(sims.qpos[:, 2], self.healthy_angle_range)
        )


@dataclass(frozen=True)
class Walker2d(_Walker):
    """Gymnasium's Walker2d-v5."""

    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)

    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which of the robots are upright."""
        return within(sims.qpos[:, 1], self.healthy_z_range) & within(
            sims.qpos[:, 2], self.healthy_angle_range
        )
