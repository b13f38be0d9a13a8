"""Query an environment's control interval."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, MaxAndSkipObservation, RepeatAction
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from liquid_control.policies.observations import ACTION_MASK, ELAPSED_TIME, carries_time

KEPT = {
    ELAPSED_TIME: "elapsed_time must stay in seconds",
    ACTION_MASK: "action_mask must stay zeros and ones",
}
"""Keys of observations that are not normalised, and why."""


def nominal_interval(env: VecEnv) -> float:
    """Return the seconds between two observations at the task's own rate.

    This is the environment's attribute `nominal_interval` (wrappers of `liquid_control.envs`) or
    `dt` (Gymnasium's tasks), or else 1.0, with a warning if observations carry an elapsed time.
    Where they do, `dt` counts only beside a `frame_skip`, as in MuJoCo tasks: elsewhere it may be a
    physics step.

    Raises:
        ValueError: `nominal_interval` is not a positive number.
    """
    beside = "frame_skip" if carries_time(env.observation_space) else "dt"
    for name, other in (("nominal_interval", "nominal_interval"), ("dt", beside)):
        if env.has_attr(name) and env.has_attr(other):  # get_attr of none ends a subprocess
            value = env.get_attr(name, indices=[0])[0]
            if _is_interval(value):
                return float(value)
            if name != "dt":
                raise ValueError(
                    f"nominal_interval of the environment must be seconds above 0, got {value!r}"
                )
    if carries_time(env.observation_space):
        warnings.warn(
            "observations carry elapsed_time, but the environment has no nominal_interval; using "
            "1 second. Give it an attribute nominal_interval, in seconds, or set it in "
            "policy_kwargs",
            stacklevel=3,
        )
    return 1.0


def _is_interval(value: Any) -> bool:
    """Return whether a value, which may mean something else, can be an interval in seconds."""
    try:
        return 0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False


def seconds_of_steps(
    infos: Sequence[Mapping[str, Any]], *, carry_time: bool
) -> NDArray[np.float32]:
    """Return the duration of each environment's last step, NaN if unreported.

    If observations carry an elapsed time, `info["elapsed_time"]` is the seconds since the last
    control step, by which a step is discounted. The elapsed time that a policy observes differs if
    observations are lost, see `envs.Dropout`.

    Args:
        infos: one for each environment.
        carry_time: whether observations carry an elapsed time.

    Raises:
        ValueError: an info has more than one number there.
    """
    if not carry_time:
        return np.full(len(infos), np.nan, np.float32)
    seconds = np.array([info.get(ELAPSED_TIME, np.nan) for info in infos], np.float32)
    if seconds.size != len(infos):
        raise ValueError(
            f"info['elapsed_time'] must be one number of seconds, got arrays of {seconds.shape[1:]}"
        )
    return seconds.reshape(-1)


def with_intervals(policy_kwargs: Mapping[str, Any], env: VecEnv) -> dict[str, Any]:
    """Complete a policy's arguments with the environment's intervals.

    These are `nominal_interval`, and `allow_any_interval` if the environment allows it.
    """
    completed = dict(policy_kwargs)
    if "nominal_interval" not in completed:
        completed["nominal_interval"] = nominal_interval(env)
    name = "allow_any_interval"
    if env.has_attr(name) and env.get_attr(name, indices=[0])[0]:
        completed.setdefault(name, True)
    return completed


def with_kept_keys(env: VecEnv) -> VecEnv:
    """Return the environment, if no VecNormalize in it normalises a key of `KEPT`.

    Raises:
        ValueError: one does.
    """
    layer = env
    while isinstance(layer, VecEnvWrapper) and isinstance(layer.observation_space, spaces.Dict):
        if isinstance(layer, VecNormalize) and layer.norm_obs:
            parts = list(layer.observation_space.spaces)
            keys = parts if layer.norm_obs_keys is None else layer.norm_obs_keys
            for key, reason in KEPT.items():
                if key in keys:
                    others = [each for each in parts if each not in KEPT]
                    raise ValueError(
                        f"VecNormalize normalises {keys}, but {reason}; use VecNormalize(env, "
                        f"norm_obs_keys={others}), or none, since the agent normalises "
                        "observations itself"
                    )
        layer = layer.venv
    _warn_of_wrong_time(env)
    return env


def _warn_of_wrong_time(env: VecEnv) -> None:
    """Warn if a wrapper of Gymnasium makes the elapsed time a feature, or another one."""
    layer: Any = next(iter(getattr(env.unwrapped, "envs", ())), None)
    while isinstance(layer, gym.Wrapper):
        name = type(layer).__name__
        if carries_time(layer.env.observation_space):
            if isinstance(layer, FlattenObservation):
                warnings.warn(
                    f"{name} makes elapsed_time a feature like the others, so that neurons and "
                    "discounts take every step as one nominal interval; take it off, since agents "
                    "accept a dict of observations",
                    stacklevel=4,
                )
            if isinstance(layer, RepeatAction | MaxAndSkipObservation):
                warnings.warn(
                    f"{name} makes several steps of one, and elapsed_time is that of the last of "
                    "them; take it off, and hold actions for longer by an interval in seconds",
                    stacklevel=4,
                )
        layer = layer.env
