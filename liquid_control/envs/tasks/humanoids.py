"""Humanoid, which walks, and HumanoidStandup, which gets up."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.simulations import Array, Simulations
from liquid_control.envs.tasks.task import Task, clipped, squares, uniform, within


@dataclass(frozen=True)
class _Humanoid(Task):
    """Starts near the default pose and observes all there is."""

    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    reads = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "xipos")

    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw uniform positions and velocities."""
        qpos = qpos + uniform(rng, self.reset_noise_scale, qpos)
        return qpos, qvel + uniform(rng, self.reset_noise_scale, qvel)

    def observation(self, sims: Simulations) -> Array:
        """Return joints, and of the bodies inertias, velocities, torques and contact forces."""
        parts = [sims.qpos[:, 2 * self.exclude_current_positions_from_observation :], sims.qvel]
        if self.include_cinert_in_observation:
            parts.append(sims.cinert[:, 1:])
        if self.include_cvel_in_observation:
            parts.append(sims.cvel[:, 1:])
        if self.include_qfrc_actuator_in_observation:
            parts.append(sims.qfrc_actuator[:, 6:])
        if self.include_cfrc_ext_in_observation:
            parts.append(sims.cfrc_ext[:, 1:])
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


@dataclass(frozen=True)
class Humanoid(_Humanoid):
    """Gymnasium's Humanoid-v5."""

    forward_reward_weight: float = 1.25
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (1.0, 2.0)

    def before(self, sims: Simulations) -> Array:
        """Return x of the centre of mass."""
        mass = sims.model.body_mass
        return sims.xipos[:, :, 0] @ mass / mass.sum()  # type: ignore[no-any-return]

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Judge the distance covered, the posture, controls and contacts."""
        velocity = (self.before(sims) - before) / seconds
        upright = self.healthy(sims) * self.healthy_reward
        controls = self.ctrl_cost_weight * squares(sims.ctrl)
        contacts = clipped(
            self.contact_cost_weight * squares(sims.cfrc_ext), self.contact_cost_range
        )
        return self.forward_reward_weight * velocity + upright - (controls + contacts)

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which of the robots have fallen."""
        return ~self.healthy(sims) & self.terminate_when_unhealthy

    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which torsos are at a height of standing, (simulations,)."""
        return within(sims.qpos[:, 2], self.healthy_z_range)


@dataclass(frozen=True)
class HumanoidStandup(_Humanoid):
    """Gymnasium's HumanoidStandup-v5."""

    uph_cost_weight: float = 1  # an argument of Gymnasium's task that has no effect there either
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: tuple[float, float] = (-inf, 10.0)

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Judge the height reached, controls and impacts."""
        height: Array = sims.qpos[:, 2] / sims.model.opt.timestep
        controls = self.ctrl_cost_weight * squares(sims.ctrl)
        impacts = clipped(self.impact_cost_weight * squares(sims.cfrc_ext), self.impact_cost_range)
        return height - controls - impacts + 1
