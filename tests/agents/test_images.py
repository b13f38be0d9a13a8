"""Agents that see images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv

from liquid_control import LiquidPPO, LiquidSAC
from liquid_control.export.description import ExportError
from liquid_control.export.policies import describe_policy
from tests.agents.tasks import mean_return

SIZE = 12


class Look(gym.Env[Any, Any]):
    """A square is on the left or on the right, and the vector says which side counts as 1.

    Who sees only one of them gets a mean return of 0.5.
    """

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8),
            "observation": spaces.Box(-1.0, 1.0, (1,)),
            "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
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


def build(env: Any, **options: Any) -> LiquidPPO:
    return LiquidPPO(
        "LiquidPolicy",
        make_vec_env(env, n_envs=8, seed=0),
        n_steps=32,
        batch_size=64,
        seed=0,
        device="cpu",
        policy_kwargs={
            "wiring": {"kind": "dense", "neurons": 16},
            "image_layers": [[8, 3, 2], [16, 3, 2]],
            "image_features": 16,
        },
        **options,
    )


def test_a_saved_agent_sees_the_same(tmp_path: Path) -> None:
    """Environments return channels last, and SB3 puts them first, also in `predict`."""
    model = build(Look).learn(256)
    model.save(tmp_path / "agent.zip")
    loaded = LiquidPPO.load(tmp_path / "agent.zip", env=make_vec_env(Look, n_envs=8, seed=3))
    env = make_vec_env(Look, n_envs=8, seed=5)
    observation = env.reset()
    expected, state = model.predict(observation, deterministic=True)
    found, same = loaded.predict(observation, deterministic=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(same, state)
    loaded.learn(256)


def test_pictures_alone_as_in_sb3() -> None:
    def picture() -> Any:
        return FakeImageEnv(screen_height=40, screen_width=36, n_channels=3)

    env = make_vec_env(picture, n_envs=2)
    LiquidPPO("LiquidPolicy", env, n_steps=16, n_epochs=1).learn(32)


def test_where_images_are_not_supported_it_says_so() -> None:
    with pytest.raises(ValueError, match="LiquidPPO has an encoder for actors"):
        LiquidSAC("LiquidPolicy", FakeImageEnv(discrete=False))
    with pytest.raises(ExportError, match="observes images cannot be exported"):
        describe_policy(build(Look).policy)


@pytest.mark.slow
def test_it_learns_from_what_it_sees() -> None:
    model = build(Look, learning_rate=3e-3, n_epochs=4, ent_coef=0.01).learn(12_288)
    assert mean_return(model, Look) > 0.9
