"""Envs of random observations of every kind, and short episodes of random lengths."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

NOMINAL = 0.05
PARTS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-5.0, 5.0, (2, 3)),
    "double": spaces.Box(-5.0, 5.0, (2,), np.float64),
    "mode": spaces.Discrete(5),
    "modes": spaces.MultiDiscrete([3, 4]),
    "flags": spaces.MultiBinary(2),
    "elapsed_time": spaces.Box(0.02, 0.1, (1,)),
}


class Noise(gym.Env[Any, Any]):
    """Random observations and rewards; episodes of 1 to `longest` steps end or are cut off."""

    nominal_interval = NOMINAL

    def __init__(
        self,
        parts: dict[str, spaces.Space[Any]] | None = None,
        longest: int = 9,
        discrete: bool = False,
    ) -> None:
        self.observation_space = spaces.Dict(deepcopy(PARTS if parts is None else parts))
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1.0, 1.0, (2,))
        self.longest = longest

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = int(self.np_random.integers(1, self.longest + 1))
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        over, cut_off = self.left == 0, bool(self.np_random.integers(2))
        reward = float(self.np_random.normal())
        return self._observe(), reward, over and not cut_off, over and cut_off, {}

    def _observe(self) -> dict[str, Any]:
        return self.observation_space.sample()


def noise(num_envs: int, seed: int = 0, **options: Any) -> VecEnv:
    """Many of them, which do the same whenever the seed and the actions are the same."""
    venv = DummyVecEnv([lambda: Noise(**options) for _ in range(num_envs)])
    venv.seed(seed)
    return venv
