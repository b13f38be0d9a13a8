"""Ant: four legs, forward without falling over or stamping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.simulations import Array, Simulations
from liquid_control.envs.tasks.task import Task, clipped, squares, uniform


@dataclass(frozen=True)
class Ant(Task):
    """Gymnasium's Ant-v5."""

    forward_reward_weight: float = 1
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    main_body: int | str = 1
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    reads = ("xpos", "cfrc_ext")

    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw uniform positions and normal velocities."""
        qpos = qpos + uniform(rng, self.reset_noise_scale, qpos)
        return qpos, qvel + self.reset_noise_scale * rng.standard_normal(qvel.shape)

    def observation(self, sims: Simulations) -> Array:
        """Return positions, x and y left out unless asked for, velocities and contact forces."""
        skipped = 2 * self.exclude_current_positions_from_observation
        parts = [sims.qpos[:, skipped:], sims.qvel]
        if self.include_cfrc_ext_in_observation:
            parts.append(self.contact_forces(sims)[:, 1:].reshape(len(sims.qpos), -1))
        return np.concatenate(parts, axis=1)

    def before(self, sims: Simulations) -> Array:
        """Return x of the main body."""
        return sims.xpos[:, self.body(sims), 0]

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Judge the distance covered, the posture, controls and contacts."""
        velocity = (sims.xpos[:, self.body(sims), 0] - before) / seconds
        rewards = velocity * self.forward_reward_weight + self.healthy(sims) * self.healthy_reward
        contacts = self.contact_cost_weight * squares(self.contact_forces(sims))
        return rewards - (self.ctrl_cost_weight * squares(action) + contacts)

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which of the robots have fallen over."""
        return ~self.healthy(sims) & self.terminate_when_unhealthy

    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which torsos are at a height of standing, (simulations,)."""
        low, high = self.healthy_z_range
        finite = np.isfinite(sims.qpos).all(axis=1) & np.isfinite(sims.qvel).all(axis=1)
        return finite & (low <= sims.qpos[:, 2]) & (sims.qpos[:, 2] <= high)

    def contact_forces(self, sims: Simulations) -> Array:
        """Return forces and torques on every body, (simulations, bodies, 6), within bounds."""
        return clipped(sims.cfrc_ext, self.contact_force_range)

    def body(self, sims: Simulations) -> int:
        """Return the number of the body whose speed counts."""
        return self.main_body if isinstance(self.main_body, int) else sims.bodies[self.main_body]
