"""Reacher and Pusher: an arm that reaches for a target, or pushes an object to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.tasks.task import Array, Simulations, Task, squares, uniform


def position(sims: Simulations, body: str) -> Array:
    """Return the position of a body, (simulations, 3)."""
    return sims.xpos[:, sims.bodies[body]]


def displacement(sims: Simulations, start: str, end: str) -> Array:
    """Return the vector from one body to another, (simulations, 3)."""
    return position(sims, end) - position(sims, start)


def distance(sims: Simulations, start: str, end: str) -> Array:
    """Return the distance between two bodies, (simulations,)."""
    length: Array = np.linalg.norm(displacement(sims, start, end), axis=1)
    return length


@dataclass(frozen=True)
class Reacher(Task):
    """Gymnasium's Reacher-v5."""

    reward_dist_weight: float = 1
    reward_control_weight: float = 1

    reads = ("xpos",)

    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw the arm's joints, and a target that it can reach."""
        qpos = uniform(rng, 0.1, qpos) + qpos
        target = rng.uniform(-0.2, 0.2, 2)
        while np.linalg.norm(target) >= 0.2:
            target = rng.uniform(-0.2, 0.2, 2)
        qpos[-2:] = target
        qvel = qvel + uniform(rng, 0.005, qvel)
        qvel[-2:] = 0
        return qpos, qvel

    def observation(self, sims: Simulations) -> Array:
        """Return the joints, the target, and the displacement from it to the fingertip."""
        angles, target = sims.qpos[:, :2], sims.qpos[:, 2:]
        offset = displacement(sims, "target", "fingertip")[:, :2]
        joints = np.cos(angles), np.sin(angles)
        return np.concatenate((*joints, target, sims.qvel[:, :2], offset), axis=1)

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return the negative distance to the target, minus the cost of controls."""
        remaining = distance(sims, "target", "fingertip")
        return -remaining * self.reward_dist_weight - squares(action) * self.reward_control_weight


@dataclass(frozen=True)
class Pusher(Task):
    """Gymnasium's Pusher-v5."""

    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1
    reward_control_weight: float = 0.1

    reads = ("xpos",)

    def start(self, rng: np.random.Generator, qpos: Array, qvel: Array) -> tuple[Array, Array]:
        """Draw the object's position away from the goal, and small velocities of the arm."""

        def draw() -> Array:
            return np.array([rng.uniform(-0.3, 0), rng.uniform(-0.2, 0.2)])

        cylinder = draw()
        while np.linalg.norm(cylinder) <= 0.17:
            cylinder = draw()
        qpos[-4:-2] = cylinder
        qpos[-2:] = 0
        qvel = qvel + uniform(rng, 0.005, qvel)
        qvel[-4:] = 0
        return qpos, qvel

    def observation(self, sims: Simulations) -> Array:
        """Return the arm's joints, and the positions of hand, object and goal."""
        places = [position(sims, body) for body in ("tips_arm", "object", "goal")]
        return np.concatenate((sims.qpos[:, :7], sims.qvel[:, :7], *places), axis=1)

    def reward(
        self, sims: Simulations, before: Array, action: NDArray[Any], seconds: Array
    ) -> Array:
        """Return negative distances, hand to object and object to goal, minus control cost."""
        near = -distance(sims, "tips_arm", "object") * self.reward_near_weight
        far = -distance(sims, "goal", "object") * self.reward_dist_weight
        return far - squares(action) * self.reward_control_weight + near
