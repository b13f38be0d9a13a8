"""HalfCheetah, Swimmer, Hopper, Walker2d and Ant, which are rewarded for moving forward."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.tasks.task import (
    Array,
    NoiseScale,
    NoisyStart,
    Simulations,
    squares,
    within,
)


@dataclass(frozen=True)
class _Runner(NoisyStart):
    """Rewards velocity along x, minus the squares of the controls."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    exclude_current_positions_from_observation: bool = True

    global_positions: ClassVar[int] = 1
    """Number of leading positions that locate the robot and do not describe its pose."""

    def visible_positions(self, sims: Simulations) -> Array:
        """Return positions; those that locate the robot are excluded unless requested."""
        return sims.qpos[
            :, self.exclude_current_positions_from_observation * self.global_positions :
        ]

    def observation(self, sims: Simulations) -> Array:
        """Return positions and velocities."""
        return np.concatenate((self.visible_positions(sims), sims.qvel), axis=1)

    def before(self, sims: Simulations) -> Array:
        """Return x."""
        return sims.qpos[:, 0]

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return the reward for velocity, minus the cost of controls."""
        velocity = (self.before(sims) - before) / seconds
        return self.forward_reward_weight * velocity - self.ctrl_cost_weight * squares(action)


@dataclass(frozen=True)
class HalfCheetah(_Runner):
    """Gymnasium's HalfCheetah-v5."""

    normal_velocities = True


@dataclass(frozen=True)
class Swimmer(_Runner):
    """Gymnasium's Swimmer-v5."""

    ctrl_cost_weight: float = 1e-4

    global_positions = 2


@dataclass(frozen=True)
class _Walker(_Runner):
    """Rewards velocity along x and being healthy, minus the squares of the controls."""

    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    reset_noise_scale: NoiseScale = 5e-3

    @abstractmethod
    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which robots are upright, (simulations,)."""

    def observation(self, sims: Simulations) -> Array:
        """Return positions and velocities, these clipped to 10."""
        return np.concatenate((self.visible_positions(sims), sims.qvel.clip(-10, 10)), axis=1)

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return the reward for velocity and health, minus the cost of controls."""
        velocity = (self.before(sims) - before) / seconds
        upright = self.healthy(sims) * self.healthy_reward
        cost = self.ctrl_cost_weight * squares(action)
        return self.forward_reward_weight * velocity + upright - cost

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which robots are unhealthy."""
        return ~self.healthy(sims) & self.terminate_when_unhealthy


@dataclass(frozen=True)
class Hopper(_Walker):
    """Gymnasium's Hopper-v5."""

    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    healthy_z_range: tuple[float, float] = (0.7, inf)
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)

    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which robots are upright and have a state within its range."""
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
        """Return which robots are upright."""
        return within(sims.qpos[:, 1], self.healthy_z_range) & within(
            sims.qpos[:, 2], self.healthy_angle_range
        )


@dataclass(frozen=True)
class Ant(_Walker):
    """Gymnasium's Ant-v5."""

    forward_reward_weight: float = 1
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    main_body: int | str = 1
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: NoiseScale = 0.1
    include_cfrc_ext_in_observation: bool = True

    reads = ("xpos", "cfrc_ext")
    normal_velocities = True
    global_positions = 2

    def observation(self, sims: Simulations) -> Array:
        """Return positions, velocities and contact forces."""
        parts = [self.visible_positions(sims), sims.qvel]
        if self.include_cfrc_ext_in_observation:
            parts.append(self.contact_forces(sims)[:, 1:].reshape(len(sims.qpos), -1))
        return np.concatenate(parts, axis=1)

    def before(self, sims: Simulations) -> Array:
        """Return x of the main body; ValueError if the model has no such body."""
        body = self.main_body
        if isinstance(body, str):
            body = sims.bodies.get(body, -1)
        if not 0 <= body < sims.model.nbody:
            raise ValueError(f"main_body {self.main_body!r} is not one of {', '.join(sims.bodies)}")
        return sims.xpos[:, body, 0]

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return the reward for velocity and health, minus the costs of controls and contacts."""
        velocity = (self.before(sims) - before) / seconds
        rewards = velocity * self.forward_reward_weight + self.healthy(sims) * self.healthy_reward
        contacts = self.contact_cost_weight * squares(self.contact_forces(sims))
        return rewards - (self.ctrl_cost_weight * squares(action) + contacts)

    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which torsos are at a healthy height."""
        low, high = self.healthy_z_range
        finite = np.isfinite(sims.qpos).all(axis=1) & np.isfinite(sims.qvel).all(axis=1)
        return finite & (low <= sims.qpos[:, 2]) & (sims.qpos[:, 2] <= high)

    def contact_forces(self, sims: Simulations) -> Array:
        """Return clipped forces and torques on every body, (simulations, bodies, 6)."""
        return sims.cfrc_ext.clip(*self.contact_force_range)
