"""LiquidSAC on tasks that only an agent with a memory, or with a clock, can solve."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from liquid_control import LiquidSAC


class Recall(gym.Env[np.ndarray, np.ndarray]):
    """The cue is shown once, at the start; three steps later the action must repeat it.

    Who remembers gets a return of 1, who has forgotten the cue a mean return of 0 at best.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Box(-1.0, 1.0, (1,))
    length = 4

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        self.cue = 2.0 * self.np_random.integers(2) - 1
        return np.array([self.cue, 0], np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        self.played += 1
        ended = self.played == self.length
        observation = np.array([0, self.played / self.length], np.float32)
        return observation, ended * (1 - abs(float(action[0]) - self.cue)), ended, False, {}


class Clock(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """The action must tell whether half or twice the nominal interval has passed.

    Who hears the elapsed time gets a return of 8, who does not a mean return of 0 at best.
    """

    observation_space = spaces.Dict(
        {"observation": spaces.Box(-1.0, 1.0, (1,)), "elapsed_time": spaces.Box(0.0, 1.0, (1,))}
    )
    action_space = spaces.Box(-1.0, 1.0, (1,))
    nominal_interval = 0.1
    length = 8

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> Any:
        reward = 1 - abs(float(action[0]) - self.sign)
        self.played += 1
        return self._observe(), reward, self.played == self.length, False, {}

    def _observe(self) -> dict[str, np.ndarray]:
        self.sign = 2.0 * self.np_random.integers(2) - 1
        elapsed = self.nominal_interval * 2.0**self.sign
        return {
            "observation": np.zeros(1, np.float32),
            "elapsed_time": np.array([elapsed], np.float32),
        }


class Forgetful:
    """A trained agent whose state is wiped before every step."""

    def __init__(self, model: LiquidSAC) -> None:
        self.model = model

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> Any:
        return self.model.predict(observation, None, episode_start, deterministic)


def train(task: type[gym.Env[Any, Any]], timesteps: int, **options: Any) -> LiquidSAC:
    options = {"neurons": "cfc", "wiring": {"kind": "dense", "neurons": 16}} | options
    model = LiquidSAC(
        "LiquidPolicy",
        make_vec_env(task, n_envs=16, seed=0),
        learning_rate=3e-3,
        buffer_size=20_000,
        learning_starts=256,
        batch_size=256,
        sequence_length=4,
        burn_in=2,
        ent_coef=0.02,
        tau=0.02,
        seed=0,
        device="cpu",
        policy_kwargs={"critic_layers": [32], **options},
    )
    return model.learn(timesteps)


def mean_return(model: Any, task: type[gym.Env[Any, Any]]) -> float:
    mean, _ = evaluate_policy(model, make_vec_env(task, n_envs=16, seed=99), n_eval_episodes=64)
    assert isinstance(mean, float)
    return mean


@pytest.mark.parametrize("neurons", ["cfc", "lstm"])
def test_a_cue_is_remembered(neurons: str) -> None:
    model = train(Recall, 8192, neurons=neurons)
    assert mean_return(model, Recall) > 0.8
    assert mean_return(Forgetful(model), Recall) < 0.4


@pytest.mark.parametrize("neurons", ["cfc", "lstm"])
def test_elapsed_time_is_heard(neurons: str) -> None:
    assert mean_return(train(Clock, 4096, neurons=neurons), Clock) > 4


def without_velocity() -> gym.Env[np.ndarray, np.ndarray]:
    return TransformObservation(gym.make("Pendulum-v1"), lambda o: o[:2], spaces.Box(-1, 1, (2,)))


@pytest.mark.slow
def test_a_pendulum_is_swung_up_without_seeing_its_velocity() -> None:
    model = LiquidSAC(
        "LiquidPolicy",
        make_vec_env(without_velocity, n_envs=4, seed=0),
        learning_rate=1e-3,
        buffer_size=50_000,
        learning_starts=1000,
        batch_size=512,
        sequence_length=16,
        burn_in=8,
        gradient_steps=2,
        gamma=0.98,
        seed=0,
        device="cpu",
        policy_kwargs={"wiring": {"kind": "auto_ncp", "neurons": 32}},
    ).learn(30_000)
    mean, _ = evaluate_policy(
        model, make_vec_env(without_velocity, n_envs=10, seed=99), n_eval_episodes=20
    )
    assert mean > -200
