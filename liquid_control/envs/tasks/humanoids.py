"""Humanoid, which walks, and HumanoidStandup, which gets up."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

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
class _Humanoid(NoisyStart):
    """Observes joints, inertias, velocities, torques and contact forces."""

    ctrl_cost_weight: float = 0.1
    reset_noise_scale: NoiseScale = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    reads = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "xipos")

    def observation(self, sims: Simulations) -> Array:
        """Return the state of the joints, and inertias, velocities and forces of the bodies."""
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
        mass, x = sims.body_mass, sims.xipos[:, :, 0]
        weighted: Array = x @ mass if mass.ndim == 1 else (x * mass).sum(axis=1)
        return weighted / mass.sum(axis=-1)  # type: ignore[no-any-return]

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return the reward for velocity and health, minus the costs of controls and contacts."""
        velocity = (self.before(sims) - before) / seconds
        upright = self.healthy(sims) * self.healthy_reward
        controls = self.ctrl_cost_weight * squares(sims.ctrl)
        contacts = self.contact_cost_weight * squares(sims.cfrc_ext)
        contacts = contacts.clip(*self.contact_cost_range)
        return self.forward_reward_weight * velocity + upright - (controls + contacts)

    def terminated(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which robots are unhealthy."""
        return ~self.healthy(sims) & self.terminate_when_unhealthy

    def healthy(self, sims: Simulations) -> NDArray[np.bool_]:
        """Return which torsos are at a healthy height, (simulations,)."""
        return within(sims.qpos[:, 2], self.healthy_z_range)


@dataclass(frozen=True)
class HumanoidStandup(_Humanoid):
    """Gymnasium's HumanoidStandup-v5."""

    uph_cost_weight: float = 1  # has no effect, as in Gymnasium
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: tuple[float, float] = (-inf, 10.0)

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return the reward for height, minus the costs of controls and impacts."""
        height: Array = sims.qpos[:, 2] / sims.model.opt.timestep
        controls = self.ctrl_cost_weight * squares(sims.ctrl)
        impacts: Array = self.impact_cost_weight * squares(sims.cfrc_ext)
        impacts = impacts.clip(*self.impact_cost_range)
        return height - controls - impacts + 1
