"""Tiny tasks that need memory or elapsed time."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy


class Recall(gym.Env[np.ndarray, Any]):
    """The cue is shown once, at the start; three steps later the action must repeat it.

    Who has forgotten it gets a mean return of 0.5.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    length = 4

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        self.cue = int(self.np_random.integers(2))
        return np.array([2 * self.cue - 1, 0], np.float32), {}

    def step(self, action: Any) -> Any:
        self.played += 1
        ended = self.played == self.length
        observation = np.array([0, self.played / self.length], np.float32)
        return observation, ended * self.score(action, self.cue), ended, False, {}

    def score(self, action: Any, answer: int) -> float:
        return float(action == answer)


class Clock(gym.Env[dict[str, np.ndarray], Any]):
    """The action must report whether half or twice the nominal interval has passed.

    Without the elapsed time the mean return is 0.5.
    """

    observation_space = spaces.Dict(
        {"observation": spaces.Box(-1.0, 1.0, (1,)), "elapsed_time": spaces.Box(0.0, 1.0, (1,))}
    )
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    nominal_interval = 0.1
    length = 8

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        reward = self.score(action, self.long)
        self.played += 1
        return self._observe(), reward, self.played == self.length, False, {}

    def _observe(self) -> dict[str, np.ndarray]:
        self.long = int(self.np_random.integers(2))
        elapsed = self.nominal_interval * (2.0 if self.long else 0.5)
        return {
            "observation": np.zeros(1, np.float32),
            "elapsed_time": np.array([elapsed], np.float32),
        }

    def score(self, action: Any, answer: int) -> float:
        return float(action == answer) / self.length


class Graded:
    """Makes the action a number that should be -1 or 1: the nearer, the better.

    Who knows the answers gets a return of 1 for each, who does not a mean return of 0 at best.
    """

    action_space = spaces.Box(-1.0, 1.0, (1,))

    def score(self, action: np.ndarray, answer: int) -> float:
        return 1 - abs(float(action[0]) - (2 * answer - 1))


class GradedRecall(Graded, Recall): ...


class GradedClock(Graded, Clock): ...


class Forgetful:
    """A trained agent whose state is wiped before every step."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> Any:
        return self.model.predict(observation, None, episode_start, deterministic)


def mean_return(model: Any, task: type[gym.Env[Any, Any]]) -> float:
    mean, _ = evaluate_policy(model, make_vec_env(task, n_envs=16, seed=99), n_eval_episodes=64)
    assert isinstance(mean, float)
    return mean
