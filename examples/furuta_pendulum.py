"""A user-defined task: balance 64 Furuta pendulums at once.

    python examples/furuta_pendulum.py
    liquid-control train my_recipe.yaml     # with `task: furuta_pendulum:FurutaPendulum-v0`
    liquid-control evaluate RUN --import furuta_pendulum

A task is a frozen dataclass. Its fields are arguments of `make` and `make_vec`; its functions see
all simulations at once, as arrays (simulations, ...) with the names of MjData.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from liquid_control import LiquidPPO, envs


@dataclass(frozen=True)
class FurutaPendulum(envs.Task):
    """Keep the rod upright by turning the arm that carries it."""

    noise: float = 0.1
    effort_cost: float = 0.05

    reads = ("site_xpos",)  # fields of MjData beside qpos, qvel and ctrl
    layout = (("qpos", 4), ("qvel", 2))  # what observe="positions" shows

    def start(self, rng, qpos, qvel):
        upright = np.add(qpos, (0, np.pi))
        return upright + rng.uniform(-self.noise, self.noise, qpos.shape), qvel

    def observation(self, sims):
        return np.concatenate((np.cos(sims.qpos), np.sin(sims.qpos), sims.qvel), axis=1)

    def reward(self, sims, before, action, seconds):
        return 1 - self.effort_cost * np.square(action).sum(axis=1)

    def terminated(self, sims):
        fallen = sims.site_xpos[:, 0, 2] < 0.31  # metres: the tip is below the arm
        return fallen | (np.abs(sims.qvel[:, 0]) > 40)  # radians per second: the motor's limit


envs.register(
    "FurutaPendulum-v0",
    FurutaPendulum,
    model=Path(__file__).with_suffix(".xml"),
    frame_skip=4,
    max_episode_steps=250,
)

if __name__ == "__main__":
    venv = envs.make_vec(
        "FurutaPendulum-v0", 64, observe="positions", interval=envs.Uniform(0.01, 0.04), seed=0
    )
    wiring = {"kind": "auto_ncp", "neurons": 32, "motor": 8}
    model = LiquidPPO(
        "LiquidPolicy",
        venv,
        learning_rate=1e-3,
        n_steps=128,
        batch_size=1024,
        sequence_length=64,
        gamma=0.98,
        policy_kwargs={"neurons": "cfc", "wiring": wiring},
        verbose=1,
    )
    model.learn(200_000)  # about a minute; then it stands for most of an episode, or all
