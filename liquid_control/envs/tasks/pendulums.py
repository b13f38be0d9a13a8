"""InvertedPendulum and InvertedDoublePendulum: a cart that balances one or two poles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.tasks.task import Array, NoiseScale, NoisyStart, Simulations


@dataclass(frozen=True)
class InvertedPendulum(NoisyStart):
    """Gymnasium's InvertedPendulum-v5."""

    reset_noise_scale: NoiseScale = 0.01

    def observation(self, sims: Simulations) -> Array:
        """Return positions and velocities."""
        return np.concatenate((sims.qpos, sims.qvel), axis=1)

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return 1 while the pole is upright."""
        return (~self.terminated(sims)).astype(np.float64)

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which poles lean by more than 0.2 rad."""
        finite = np.isfinite(self.observation(sims)).all(axis=1)
        return ~finite | (np.abs(sims.qpos[:, 1]) > 0.2)


@dataclass(frozen=True)
class InvertedDoublePendulum(NoisyStart):
    """Gymnasium's InvertedDoublePendulum-v5."""

    healthy_reward: float = 10.0

    reads = ("site_xpos", "qfrc_constraint")
    normal_velocities = True

    def observation(self, sims: Simulations) -> Array:
        """Return the cart's position, the poles' angles, velocities, and the force on the cart."""
        cart, angles = sims.qpos[:, :1], sims.qpos[:, 1:]
        joints = np.sin(angles), np.cos(angles), sims.qvel.clip(-10, 10)
        return np.concatenate((cart, *joints, sims.qfrc_constraint[:, :1].clip(-10, 10)), axis=1)

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return the reward for health, minus the tip's distance from its target and velocities."""
        x, y = sims.site_xpos[:, 0, 0], sims.site_xpos[:, 0, 2]
        first, second = sims.qvel[:, 1], sims.qvel[:, 2]
        distance = 0.01 * x**2 + (y - 2) ** 2
        velocity = 1e-3 * first**2 + 5e-3 * second**2
        return self.healthy_reward * ~self.terminated(sims) - distance - velocity

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which tips are at or below a height of 1 m."""
        return sims.site_xpos[:, 0, 2] <= 1
