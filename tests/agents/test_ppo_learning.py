"""Tiny tasks that only a policy with a memory, or with a clock, can solve."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from liquid_control import LiquidPPO


class Recall(gym.Env[np.ndarray, np.int64]):
    """The cue is shown once, at the start; three steps later the action must repeat it.

    Who has forgotten it gets a mean return of 0.5.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)
    length = 4

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        self.cue = int(self.np_random.integers(2))
        return np.array([2 * self.cue - 1, 0], np.float32), {}

    def step(self, action: np.int64) -> Any:
        self.played += 1
        ended = self.played == self.length
        observation = np.array([0, self.played / self.length], np.float32)
        return observation, float(ended and action == self.cue), ended, False, {}


class Clock(gym.Env[dict[str, np.ndarray], np.int64]):
    """The action must tell whether half or twice the nominal interval has passed.

    Who does not hear the elapsed time gets a mean return of 0.5.
    """

    observation_space = spaces.Dict(
        {"observation": spaces.Box(-1.0, 1.0, (1,)), "elapsed_time": spaces.Box(0.0, 1.0, (1,))}
    )
    action_space = spaces.Discrete(2)
    nominal_interval = 0.1
    length = 8

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        return self._observe(), {}

    def step(self, action: np.int64) -> Any:
        reward = float(action == self.long) / self.length
        self.played += 1
        return self._observe(), reward, self.played == self.length, False, {}

    def _observe(self) -> dict[str, np.ndarray]:
        self.long = int(self.np_random.integers(2))
        elapsed = self.nominal_interval * (2.0 if self.long else 0.5)
        return {
            "observation": np.zeros(1, np.float32),
            "elapsed_time": np.array([elapsed], np.float32),
        }


def train(task: type[gym.Env[Any, Any]], neurons: str, timesteps: int, **options: Any) -> LiquidPPO:
    options = {"n_steps": 16, "batch_size": 128} | options
    model = LiquidPPO(
        "LiquidPolicy",
        make_vec_env(task, n_envs=16, seed=0),
        learning_rate=1e-2,
        n_epochs=4,
        seed=0,
        device="cpu",
        policy_kwargs={
            "neurons": neurons,
            "wiring": {"kind": "dense", "neurons": 16},
            "critic": "shared",
        },
        **options,
    )
    return model.learn(timesteps)


def mean_return(model: Any, task: type[gym.Env[Any, Any]]) -> float:
    mean, _ = evaluate_policy(model, make_vec_env(task, n_envs=16, seed=99), n_eval_episodes=64)
    assert isinstance(mean, float)
    return mean


class Forgetful:
    """A trained agent whose state is wiped before every step."""

    def __init__(self, model: LiquidPPO) -> None:
        self.model = model

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> Any:
        return self.model.predict(observation, None, episode_start, deterministic)


@pytest.mark.parametrize(
    ("neurons", "timesteps"),
    [("cfc", 3072), ("lstm", 3072), pytest.param("ltc", 24_576, marks=pytest.mark.slow)],
)
def test_a_cue_is_remembered(neurons: str, timesteps: int) -> None:
    # The only reward comes last: with less foresight, an LTC learns it with some seeds alone.
    model = train(Recall, neurons, timesteps, gamma=1.0, gae_lambda=1.0, ent_coef=0.02)
    assert mean_return(model, Recall) > 0.95
    assert mean_return(Forgetful(model), Recall) < 0.75


def test_a_cue_is_remembered_across_sequences() -> None:
    """Episodes of four steps in sequences of six: every other sequence starts from a memory."""
    model = train(Recall, "cfc", 6144, n_steps=18, sequence_length=6, batch_size=96)
    assert mean_return(model, Recall) > 0.95


@pytest.mark.parametrize("neurons", ["cfc", "lstm"])
def test_elapsed_time_is_heard(neurons: str) -> None:
    assert mean_return(train(Clock, neurons, 6144), Clock) > 0.9
