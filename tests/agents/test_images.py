"""Agents that see images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import Logger

from liquid_control import LiquidPPO, LiquidSAC, SoftLiquidPolicy
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.export.description import ExportError
from liquid_control.export.policies import describe_policy
from liquid_control.policies import Controller
from tests.agents.tasks import mean_return

SIZE = 12
CLOCK = spaces.Box(0.0, np.inf, (1,))
PICTURE = spaces.Box(0, 255, (1, SIZE, SIZE), np.uint8)


class Look(gym.Env[Any, Any]):
    """A square is on the left or on the right, and the vector says which side counts as 1.

    Who sees only one of them gets a mean return of 0.5.
    """

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8),
            "observation": spaces.Box(-1.0, 1.0, (1,)),
            "elapsed_time": CLOCK,
        }
    )
    action_space = spaces.Discrete(2)
    nominal_interval = 0.1
    length = 8

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        return self._next(), {}

    def step(self, action: Any) -> Any:
        reward = float(action == self.answer) / self.length
        self.played += 1
        return self._next(), reward, self.played == self.length, False, {}

    def _next(self) -> Any:
        right, swapped = self.np_random.integers(2, size=2)
        self.answer = right ^ swapped
        image = np.zeros((SIZE, SIZE, 1), np.uint8)
        row, column = self.np_random.integers(SIZE - 3), self.np_random.integers(SIZE // 2 - 3)
        column += right * SIZE // 2
        image[row : row + 3, column : column + 3] = 255
        return {
            "image": image,
            "observation": np.float32([2 * swapped - 1]),
            "elapsed_time": np.float32([self.nominal_interval]),
        }


class Point(Look):
    """The same for continuous actions: the side is a number from -1 to 1."""

    action_space = spaces.Box(-1.0, 1.0, (1,))

    def step(self, action: Any) -> Any:
        miss = abs(action.item() - (2 * self.answer - 1)) / 2
        observation, _, *rest = super().step(0)
        return observation, (1 - miss) / self.length, *rest


POLICY = {
    "wiring": {"kind": "dense", "neurons": 16},
    "image_layers": [[8, 3, 2], [16, 3, 2]],
    "image_features": 16,
}


def build(env: Any, **options: Any) -> LiquidPPO:
    return LiquidPPO(
        "LiquidPolicy",
        make_vec_env(env, n_envs=8, seed=0),
        n_steps=32,
        batch_size=64,
        seed=0,
        device="cpu",
        policy_kwargs=POLICY,
        **options,
    )


def build_soft(env: Any = Point, policy_kwargs: Any = None, **options: Any) -> LiquidSAC:
    return LiquidSAC(
        "LiquidPolicy",
        make_vec_env(env, n_envs=8, seed=0),
        **{"learning_starts": 64, "batch_size": 64, "buffer_size": 4096, "seed": 0} | options,
        sequence_length=8,
        burn_in=0,
        gradient_steps=1,
        device="cpu",
        policy_kwargs={**POLICY, **(policy_kwargs or {})},
    )


@pytest.mark.parametrize("make", [partial(build, Look), build_soft])
def test_a_saved_agent_sees_the_same(make: Any, tmp_path: Path) -> None:
    """Environments return channels last, and SB3 puts them first, also in `predict`."""
    model = make().learn(256)
    task = Point if isinstance(model, LiquidSAC) else Look
    model.save(tmp_path / "agent.zip")
    loaded = type(model).load(tmp_path / "agent.zip", env=make_vec_env(task, n_envs=8, seed=3))
    env = make_vec_env(task, n_envs=8, seed=5)
    observation = env.reset()
    expected, state = model.predict(observation, deterministic=True)
    found, same = loaded.predict(observation, deterministic=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(same, state)
    loaded.learn(256)


@pytest.mark.parametrize("make", [partial(build, Look), build_soft])
def test_a_controller_takes_images_as_environments_return_them(make: Any) -> None:
    """Channels last, or first, as `predict` does."""
    policy = make().policy
    control = Controller(policy)
    seen, _ = Look().reset(seed=0)
    expected, _ = policy.predict(seen, deterministic=True)
    del seen["elapsed_time"]
    np.testing.assert_array_equal(control.step(seen, 0.0), expected)
    control.reset()
    first = {**seen, "image": seen["image"].transpose(2, 0, 1)}
    np.testing.assert_array_equal(control.step(first, 0.0), expected)


def test_pictures_alone_as_in_sb3() -> None:
    def picture(**options: Any) -> Any:
        return FakeImageEnv(screen_height=40, screen_width=36, n_channels=3, **options)

    env = make_vec_env(picture, n_envs=2)
    LiquidPPO("LiquidPolicy", env, n_steps=16, n_epochs=1).learn(32)

    soft = LiquidSAC(
        "LiquidPolicy",
        make_vec_env(partial(picture, discrete=False), n_envs=2),
        buffer_size=2000,
        learning_starts=32,
        gradient_steps=1,
    )
    before = soft.policy.critic.body.images.networks[0][0].weight.clone()
    soft.learn(64)
    assert (soft.policy.critic.body.images.networks[0][0].weight != before).any()


def test_a_checkpoint_holds_the_images_of_the_replay(tmp_path: Path) -> None:
    """So the next updates of a resumed agent are those of the agent that was saved."""
    model = build_soft().learn(256)
    manager = CheckpointManager(tmp_path)
    manager.save(model.num_timesteps, model.state_dict(training=True))
    with pytest.warns(UserWarning, match="Point"):  # whose state is unknown: its episode restarts
        resumed = LiquidSAC.resume(tmp_path, make_vec_env(Point, n_envs=8, seed=0))
    resumed.set_logger(Logger(None, []))
    updated = []
    for agent in (model, resumed):
        torch.manual_seed(5)
        agent.train(3, 64)
        updated.append(agent.policy.state_dict())
    for name, expected in updated[0].items():
        assert torch.equal(updated[1][name], expected), name


def test_where_images_are_not_supported_it_says_so() -> None:
    with pytest.raises(ExportError, match="observes images cannot be exported"):
        describe_policy(build(Look).policy)
    seen = spaces.Dict({"observation": CLOCK, "privileged": PICTURE})
    with pytest.raises(ValueError, match="LiquidPPO and LiquidSAC have an encoder for actors"):
        SoftLiquidPolicy(seen, Point.action_space, lambda _: 1e-3)
    with pytest.raises(ValueError, match="derivatives of images are not supported"):
        SoftLiquidPolicy(PICTURE, Point.action_space, lambda _: 1e-3, derivatives=[0.0])


@pytest.mark.slow
def test_it_learns_from_what_it_sees() -> None:
    model = build(Look, learning_rate=3e-3, n_epochs=4, ent_coef=0.01).learn(12_288)
    assert mean_return(model, Look) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"encoder": [16], "share_encoder": True}])
def test_a_soft_actor_learns_from_what_it_sees(options: Any) -> None:
    # By default a unit of entropy starts at a reward of 1, and a step is worth an eighth at most.
    settings = {"learning_rate": 3e-3, "batch_size": 256, "ent_coef": "auto_0.05"}
    model = build_soft(policy_kwargs=options, **settings).learn(12_288)
    assert mean_return(model, Point) > 0.9
