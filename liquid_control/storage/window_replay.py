"""A replay buffer that stores one observation per step, and builds windows when sampled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from liquid_control.policies.extractor import EPISODE_START, check_windows

Observations = dict[str, NDArray[Any]]


class WindowReplayBuffer(DictReplayBuffer):
    """SB3's replay buffer for observations of `envs.VecWindow`, which stores each observation once.

    It stores the newest observation of each window. Samples are equal to the windows that were
    added, bit for bit, with two exceptions: the oldest transitions of a full buffer, and those that
    do not continue the previous one, as after `load_replay_buffer` during an episode. There the
    windows start with the first observation that is stored.

    Args:
        buffer_size: transitions of all envs together.
        observation_space: of windows.
        action_space: as in SB3, and so are the others; `optimize_memory_usage` must be False.
        device: of the samples.
        n_envs: parallel envs.
        optimize_memory_usage: see `action_space`.
        handle_timeout_termination: do not treat a time limit as termination.

    Raises:
        TypeError: the observations are not windows.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
    ) -> None:
        windows, self.length = check_windows(observation_space, type(self).__name__)
        self.window_shapes: dict[str, tuple[int, ...]] = get_obs_shape(windows)  # type: ignore[assignment]
        newest: dict[str, spaces.Space[Any]] = {}  # SB3 takes shapes and dtypes of it
        for key, shape in self.window_shapes.items():
            dtype: Any = windows[key].dtype
            newest[key] = spaces.Box(0, 1, (math.prod(shape) // self.length,), dtype.type)
        super().__init__(
            buffer_size,
            spaces.Dict(newest),
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            handle_timeout_termination,
        )

    def add(  # type: ignore[override]
        self,
        obs: Observations,
        next_obs: Observations,
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store a transition of each env; `obs` and `next_obs` are windows (n_envs, ...)."""
        newest = self._newest(obs)
        newest[EPISODE_START][~self._follow(newest)] = 1
        super().add(newest, self._newest(next_obs), action, reward, done, infos)
        if self.full:
            self.observations[EPISODE_START][self.pos] = 1  # all before it is overwritten

    def _newest(self, windows: Observations) -> Observations:
        """Return a copy of the newest observation of each window, (n_envs, numbers)."""
        return {
            key: windows[key].reshape(self.n_envs, self.length, -1)[:, -1].astype(stored.dtype)
            for key, stored in self.observations.items()
        }

    def _follow(self, newest: Observations) -> NDArray[np.bool_]:
        """Return whether each env's observation continues its last transition, (n_envs,)."""
        if self.size() == 0:
            return np.zeros(self.n_envs, np.bool_)
        follow = np.ones(self.n_envs, np.bool_)
        for key, stored in self.next_observations.items():
            follow &= (stored[self.pos - 1] == newest[key]).all(axis=1)
        return follow

    def _get_samples(  # type: ignore[override]
        self, batch_inds: NDArray[np.intp], env: VecNormalize | None = None
    ) -> DictReplayBufferSamples:
        envs = np.random.randint(self.n_envs, size=len(batch_inds))  # noqa: NPY002  # SB3 seeds it
        chosen = batch_inds, envs
        past = self._steps(batch_inds, envs), envs[:, None]
        windows = {key: stored[past] for key, stored in self.observations.items()}
        next_windows = {
            key: np.concatenate((windows[key][:, 1:], stored[chosen][:, None]), axis=1)
            for key, stored in self.next_observations.items()
        }
        ended = self.dones[chosen] * (1 - self.timeouts[chosen])
        rewards = self._normalize_reward(self.rewards[chosen].reshape(-1, 1), env)
        return DictReplayBufferSamples(
            observations=self._to_windows(windows, env),
            actions=self.to_torch(self.actions[chosen]),
            next_observations=self._to_windows(next_windows, env),
            dones=self.to_torch(ended).reshape(-1, 1),
            rewards=self.to_torch(rewards),
        )

    def _steps(self, last: NDArray[np.intp], envs: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the steps (batch, length) of windows, padded with the first of the episode."""
        back = np.arange(self.length)  # from the newest to the oldest
        steps = (last[:, None] - back) % self.buffer_size
        starts = self.observations[EPISODE_START][steps, envs[:, None], 0] == 1
        reach = np.where(starts.any(axis=1), starts.argmax(axis=1), self.length - 1)
        reached = np.minimum(back, reach[:, None])
        return np.take_along_axis(steps, reached, axis=1)[:, ::-1]

    def _to_windows(self, parts: Observations, env: VecNormalize | None) -> dict[str, torch.Tensor]:
        """Return normalised windows as tensors, in the shapes of their space."""
        shaped = {key: of.reshape(len(of), *self.window_shapes[key]) for key, of in parts.items()}
        windows = self._normalize_obs(shaped, env)
        assert isinstance(windows, dict)
        return _Windows({key: self.to_torch(of) for key, of in windows.items()})


class _Windows(dict[str, torch.Tensor]):
    """A Dict observation for `torch.cat`, by which CrossQ joins observations and the next ones."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is not torch.cat:
            return NotImplemented
        (parts, *rest), options = args, kwargs or {}
        return cls(
            {key: torch.cat([part[key] for part in parts], *rest, **options) for key in parts[0]}
        )
