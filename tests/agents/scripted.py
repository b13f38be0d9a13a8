"""Scripted episodes, and what the tests of LiquidPPO and LiquidSAC ask of agents alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

NOMINAL = 0.05
SPACE = spaces.Dict(
    {
        "observation": spaces.Box(-np.inf, np.inf, (2,)),
        "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
    }
)


@dataclass(frozen=True)
class Step:
    """What a scripted step leads to."""

    ratio: float  # elapsed time in nominal intervals
    reward: float
    ending: str = ""  # "terminated", "truncated", or nothing: the episode goes on
    broken: bool = False  # the observation is not a number


@dataclass
class Episode:
    """What was seen, done and led to in one of them."""

    observations: list[dict[str, np.ndarray]]
    actions: list[np.ndarray]
    steps: list[Step]


class Scripted(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """Plays the steps of a script, whatever the actions, and remembers its episodes.

    The first feature differs between all observations of all environments, the second is irregular.
    """

    observation_space = SPACE
    action_space = spaces.Box(-100.0, 100.0, (2,))
    nominal_interval = NOMINAL

    def __init__(self, script: list[Step], index: int = 0) -> None:
        self.script, self.index = script, index
        self.played = self.count = 0
        self.episodes: list[Episode] = []

    @classmethod
    def playing(cls, scripts: list[list[Step]]) -> DummyVecEnv:
        """An environment for each script."""
        return DummyVecEnv([lambda i=i, s=s: cls(s, i) for i, s in enumerate(scripts)])

    def _observe(self, ratio: float, broken: bool = False) -> dict[str, np.ndarray]:
        features = [
            np.nan if broken else 0.1 * self.count + 0.03 * self.index,
            np.sin(7.0 * self.count),
        ]
        self.count += 1
        self.episodes[-1].observations.append(
            {
                "elapsed_time": np.array([ratio * NOMINAL], np.float32),
                "observation": np.array(features, np.float32),
            }
        )
        return self.episodes[-1].observations[-1]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episodes.append(Episode([], [], []))
        return self._observe(1.0), {}

    def step(self, action: np.ndarray) -> Any:
        assert self.action_space.contains(action)
        now = self.script[self.played % len(self.script)]
        self.played += 1
        self.episodes[-1].actions.append(action.copy())
        self.episodes[-1].steps.append(now)
        observation = self._observe(now.ratio, now.broken)
        ended = (now.ending == "terminated", now.ending == "truncated")
        return observation, now.reward, *ended, {}


# In sequences of four: an episode that terminates within one, one truncated within, one that goes
# on; episodes that end where sequences end; and one long episode.
WITHIN = [
    *(Step(0.5, 1.0), Step(2.0, -1.0), Step(1.5, 3.0, "terminated")),
    *(Step(1.0, 2.0), Step(3.0, 0.5), Step(0.7, -2.0, "truncated")),
    *(Step(1.2, 1.0), Step(0.6, 1.5), Step(1.0, 2.0), Step(2.5, 1.0), Step(1, 1), Step(2, 4)),
]
ALIGNED = [
    *(Step(0.9, 1.0), Step(1.1, 1.0), Step(2.0, 1.0), Step(0.5, 5.0, "truncated")),
    *(Step(1.3, 1.0), Step(1.0, -1.0), Step(2.0, 2.0), Step(0.5, 5.0, "terminated")),
    *(Step(0.4, 1.0), Step(1.8, 2.0), Step(2.0, 3.0), Step(1.7, 5.0, "truncated")),
]
LONG = [Step(0.5 + 0.2 * t, float(t)) for t in range(12)]


class Tick(gym.Env[np.ndarray, Any]):
    """Plain observations of a sine; episodes of 8 steps; the reward is the first action."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.tick = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(np.asarray(action).astype(self.action_space.dtype))
        self.tick += 1
        return self._observe(), float(np.ravel(action)[0]), False, self.tick == 8, {}

    def _observe(self) -> np.ndarray:
        return np.sin([self.tick, 2.0 * self.tick]).astype(np.float32)


class Stop(BaseCallback):
    """Stops a training at one of its steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        return self.n_calls < self.step


def weights(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def acts(model: BaseAlgorithm, env: VecEnv, steps: int = 8) -> np.ndarray:
    """What the model does in the first steps."""
    seen, state, actions = env.reset(), None, []
    for t in range(steps):
        starts = np.full(env.num_envs, t == 0)
        action, state = model.predict(seen, state, starts, deterministic=True)
        actions.append(action)
        seen, *_ = env.step(action)
    return np.stack(actions)


def total_reward(model: BaseAlgorithm, env: gym.Env[Any, Any]) -> float:
    """Return of an episode that is played by hand."""
    (observation, _), state, total, ended = env.reset(), None, 0.0, False
    while not ended:
        action, state = model.predict(observation, state, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        ended = terminated or truncated
    return total


def learn_three_episodes(model: BaseAlgorithm, env: type[Tick], folder: Path) -> EvalCallback:
    """Learn from three episodes of each environment; the best weights so far go into a folder."""
    evaluation = EvalCallback(
        make_vec_env(env, n_envs=2),
        n_eval_episodes=2,
        eval_freq=10,
        best_model_save_path=str(folder),
        verbose=0,
    )
    model.learn(10_000, callback=[evaluation, StopTrainingOnMaxEpisodes(max_episodes=3)])
    return evaluation


def scalars(run: Path) -> set[str]:
    """Names of the numbers that a run wrote for TensorBoard, all of them finite."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    for tag in tags:
        assert all(np.isfinite(event.value) for event in events.Scalars(tag)), tag
    return tags
