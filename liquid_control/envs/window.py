"""A vectorized wrapper that stacks the last observations, for agents without a state."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from liquid_control.envs.counts import count

Observations = dict[str, NDArray[Any]]


class VecWindow(VecEnvWrapper):
    """Stacks the last `length` observations of each env, the newest last.

    The observation becomes a Dict of windows: one for each key of the env's Dict, or `observation`
    if it is not a Dict, and `episode_start`, (length,), which is 1 at the first observation of an
    episode. A window longer than the episode repeats its first observation with `episode_start` 1,
    so that a circuit that resets there starts from the beginning of the episode. A terminal
    observation is the window that ends with it. Discrete observations are counted from 0, since
    SB3 knows no other start.

    `VecNormalize` goes around this wrapper; its `norm_obs_keys` must exclude `elapsed_time` and
    `episode_start`.

    Args:
        env: A VecEnv, or one env, which is wrapped in a Monitor as SB3 does.
        length: Observations in a window, at least one.

    Raises:
        TypeError: If the length is not an integer, or an observation is an image or of an
            unsupported space.
        ValueError: If the length is not positive, or the env already has the key `episode_start`.
    """

    def __init__(self, env: VecEnv | gym.Env[Any, Any], length: int) -> None:
        length = count("length", length, least=1)
        venv = env if isinstance(env, VecEnv) else _vectorized(env)
        space = venv.observation_space
        parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
        if "episode_start" in parts:
            raise ValueError(
                "the observation already has a key 'episode_start'; rename it, or wrap the env "
                "in VecWindow once"
            )
        windows = {key: _repeated(key, part, length) for key, part in parts.items()}
        windows["episode_start"] = spaces.MultiBinary(length)
        super().__init__(venv, spaces.Dict(windows))
        self.length = length
        self._windows: Observations = {}
        self._offsets = {key: part.start for key, part in parts.items() if hasattr(part, "start")}

    def reset(self) -> Observations:
        """Reset the envs and fill every window with the first observation."""
        starts = np.ones(self.num_envs, np.int8)
        frames = self._frames(self.venv.reset(), starts)
        self._windows = {key: frame.repeat(self.length, axis=1) for key, frame in frames.items()}
        return self._shown(self._windows)

    def step_wait(self) -> VecEnvStepReturn:
        """Step the envs and append the observations to the windows."""
        observations, rewards, dones, infos = self.venv.step_wait()
        frames = self._frames(observations, dones.astype(np.int8))
        past = {key: window[:, 1:] for key, window in self._windows.items()}
        for index in np.flatnonzero(dones):
            last = self._frames(infos[index]["terminal_observation"], np.zeros(1, np.int8))
            ended = {key: old[index : index + 1] for key, old in past.items()}
            windows = self._shown(_joined(ended, last))
            infos[index]["terminal_observation"] = {key: of[0] for key, of in windows.items()}
        self._windows = _joined(past, frames)
        for key, window in self._windows.items():
            window[dones] = frames[key][dones]
        return self._shown(self._windows), rewards, dones, infos

    def state_dict(self) -> Observations:
        """Return the windows, (envs, length, numbers) each."""
        return {key: window.copy() for key, window in self._windows.items()}

    def load_state_dict(self, state: Observations) -> None:
        """Restore the windows that `state_dict` returned; the envs have been reset before.

        Raises:
            ValueError: If they do not fit these envs; nothing is changed then.
        """
        mine = {key: (window.shape, window.dtype) for key, window in self._windows.items()}
        theirs = {key: (window.shape, window.dtype) for key, window in state.items()}
        if mine != theirs or not all(np.isfinite(window).all() for window in state.values()):
            raise ValueError(f"the saved windows are {theirs}, and these are {mine}, all finite")
        self._windows = {key: window.copy() for key, window in state.items()}

    def _frames(self, observations: Any, starts: NDArray[np.int8]) -> Observations:
        """Flatten one observation of each env, (envs, 1, features)."""
        if not isinstance(observations, dict):
            observations = {"observation": observations}
        counted = {key: observations[key] - offset for key, offset in self._offsets.items()}
        parts = {**observations, **counted, "episode_start": starts}
        return {key: np.reshape(part, (len(starts), 1, -1)) for key, part in parts.items()}

    def _shown(self, windows: Observations) -> Observations:
        """Reshape windows (envs, length, features) to the observation space."""
        space = self.observation_space
        assert isinstance(space, spaces.Dict)
        return {key: of.reshape(len(of), *(space[key].shape or ())) for key, of in windows.items()}


def _vectorized(env: gym.Env[Any, Any]) -> VecEnv:
    """Wrap one env as SB3's algorithms do."""
    monitored = env if is_wrapped(env, Monitor) else Monitor(env)
    return DummyVecEnv([lambda: monitored])


def _joined(past: Observations, frames: Observations) -> Observations:
    return {key: np.concatenate((past[key], frames[key]), axis=1) for key in frames}


def _repeated(key: str, space: spaces.Space[Any], length: int) -> spaces.Space[Any]:
    """Return the space of `length` observations of `space`, time-major if it has axes."""
    if isinstance(space, spaces.Box) and not is_image_space(space):
        low, high = (np.repeat(bound[None], length, axis=0) for bound in (space.low, space.high))
        return spaces.Box(low, high, dtype=space.dtype.type)
    if isinstance(space, spaces.Discrete):
        return spaces.MultiDiscrete(np.full(length, space.n))
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        return spaces.MultiDiscrete(np.tile(space.nvec, length))  # SB3 supports only one axis
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary((length, *space.shape))
    raise TypeError(
        f"VecWindow takes vectors and discrete observations, but {key!r} is {space}; "
        "extract features in an observation wrapper"
    )
