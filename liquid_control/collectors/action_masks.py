"""Action masks from a method of the environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from liquid_control.collectors.worker_env import WorkerVecEnv
from liquid_control.policies.masks import choices
from liquid_control.policies.observations import ACTION_MASK, OBSERVATION

METHOD = "action_masks"
"""The method of an environment, as in sb3-contrib's MaskablePPO."""


class VecActionMasks(VecEnvWrapper):
    """Adds the key `action_mask` to the observations, from the environments' `action_masks()`.

    An observation that is not a Dict becomes the key `observation`.

    Raises:
        ValueError: actions are continuous, or a mask has another shape than the actions or holds
            something else than finite numbers.
    """

    def __init__(self, venv: VecEnv) -> None:
        self._size = choices(venv.action_space)
        space = venv.observation_space
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {OBSERVATION: space}
        self._is_dict = isinstance(space, spaces.Dict)
        parts[ACTION_MASK] = spaces.MultiBinary(self._size)
        super().__init__(venv, spaces.Dict(parts))

    def reset(self) -> VecEnvObs:
        """Reset the environments, and add the masks of the first step."""
        observation: VecEnvObs = self._masked(self.venv.reset(), self._masks())
        return observation

    def step_wait(self) -> VecEnvStepReturn:
        """Add the masks of the next step; the last observation of an episode allows everything."""
        observation, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones):
            last = infos[index]["terminal_observation"]
            everything = np.ones(self._size, np.int8)
            infos[index]["terminal_observation"] = self._masked(last, everything)
        return self._masked(observation, self._masks()), rewards, dones, infos

    def _masks(self) -> NDArray[np.int8]:
        masks = [np.asarray(mask).ravel() for mask in self.venv.env_method(METHOD)]
        for mask in masks:
            if mask.shape != (self._size,):
                raise ValueError(
                    f"{METHOD}() must return {self._size} numbers, one for each choice of "
                    f"{self.action_space}, got shape {mask.shape}"
                )
            if mask.dtype.kind not in "biuf" or not np.isfinite(mask).all():
                raise ValueError(
                    f"{METHOD}() must return booleans, or zeros and ones, got {mask.tolist()}"
                )
        return np.stack(masks).astype(bool).astype(np.int8)

    def _masked(self, observation: Any, mask: NDArray[np.int8]) -> Any:
        parts = dict(observation) if self._is_dict else {OBSERVATION: observation}
        return {**parts, ACTION_MASK: mask}


def with_action_masks(env: VecEnv) -> VecEnv:
    """Return the environments with masks in their observations, if they have a method for them.

    Raises:
        ValueError: they are on workers, or as in `VecActionMasks`.
    """
    space = env.observation_space
    has_key = isinstance(space, spaces.Dict) and ACTION_MASK in space.spaces
    if has_key or not env.has_attr(METHOD):
        return env
    if isinstance(env, WorkerVecEnv):
        raise ValueError(
            f"{METHOD}() is not supported on workers; put the mask into the observations, as the "
            f"key {ACTION_MASK!r} of a Dict"
        )
    return VecActionMasks(env)
