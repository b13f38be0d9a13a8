"""Builds tasks by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
from gymnasium.utils import seeding
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from liquid_control.envs.intervals import IntervalLike
from liquid_control.envs.observe_only import Observe, ObserveOnly
from liquid_control.envs.variable_rate import VariableRate

# Said of Gymnasium's own half_cheetah.xml, which no user of it can change.
_KNOWN_WARNING = "compiler attribute 'settotalmass' is deprecated"


def make(
    task: str,
    *,
    observe: Observe = "full",
    interval: IntervalLike = None,
    seed: int | None = None,
    render_mode: str | None = None,
    **task_kwargs: Any,
) -> gym.Env[dict[str, Any], Any]:
    """Build a MuJoCo task whose control rate may vary.

    Args:
        task: Gymnasium's name of it, such as "HalfCheetah-v5".
        observe: "full", "positions", "velocities" or indices, see `ObserveOnly`.
        interval: An Interval, seconds, a mapping (see `interval_from`), or None for nominal.
        seed: Seeds the first episode as `reset(seed=seed)` would, and the action space.
        render_mode: Gymnasium's, such as "rgb_array".
        **task_kwargs: Arguments of the task's constructor, and `max_episode_steps`.

    Returns:
        An env as `VariableRate` describes it.

    Raises:
        ValueError: If the task, the part to observe or the interval is impossible.
        TypeError: If the task is no MuJoCo task or does not know one of its arguments.
    """
    if render_mode is not None:
        task_kwargs["render_mode"] = render_mode
    try:
        with _without_known_warning():
            env: gym.Env[Any, Any] = gym.make(task, disable_env_checker=True, **task_kwargs)
    except gym.error.UnregisteredEnv as error:
        raise ValueError(f"unknown task {task!r}: {error}") from error
    if observe != "full":
        env = ObserveOnly(env, observe)
    env = VariableRate(env, interval)
    if seed is not None:
        env.unwrapped.np_random = seeding.np_random(seed)[0]
        env.action_space.seed(seed)
    return env


def make_vec(
    task: str,
    num_envs: int,
    *,
    observe: Observe = "full",
    interval: IntervalLike = None,
    seed: int | None = None,
    **task_kwargs: Any,
) -> VecEnv:
    """Build several independent envs of a task as one Stable-Baselines3 VecEnv.

    Args:
        task: As in `make`, and so are the others.
        num_envs: How many, at least one.
        observe: The part of the observation to show.
        interval: The rule that draws control intervals.
        seed: Env i is seeded with seed + i.
        **task_kwargs: Arguments of the task's constructor.

    Returns:
        A VecEnv of monitored envs; `get_attr("nominal_interval")` reaches through.

    Raises:
        ValueError, TypeError: As in `make`, and if num_envs is no positive integer.
    """
    if not isinstance(num_envs, int) or isinstance(num_envs, bool):
        raise TypeError(f"num_envs must be an integer, got {num_envs!r}")
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    build = partial(make, task, observe=observe, interval=interval, **task_kwargs)

    def monitored(index: int) -> gym.Env[Any, Any]:
        return Monitor(build(seed=None if seed is None else seed + index))

    return DummyVecEnv([partial(monitored, index) for index in range(num_envs)])


@contextmanager
def _without_known_warning() -> Iterator[None]:
    """Swallow the one warning that loading Gymnasium's HalfCheetah gives, and its log file.

    MuJoCo has one handler per process. Its own prints and writes MUJOCO_LOG.TXT into the working
    directory; here other warnings become Python's, unless the user has set a handler.
    """
    messages: list[str] = []
    handler = mujoco.get_mju_user_warning()
    # An exception cannot pass through MuJoCo, so the messages are judged afterwards.
    mujoco.set_mju_user_warning(messages.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)
    for message in messages:
        if message.startswith(_KNOWN_WARNING):
            continue
        if handler is not None:
            handler(message)
        else:
            warnings.warn(message, RuntimeWarning, stacklevel=4)
