"""Build envs from the names of tasks."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
from gymnasium.utils import seeding
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from liquid_control.envs.batched import BatchedVecEnv, task_of
from liquid_control.envs.conditioned import Conditioned
from liquid_control.envs.conditions import (
    ActuatorsLike,
    BodiesLike,
    EventsLike,
    Privileged,
    SensorsLike,
    conditions_from,
)
from liquid_control.envs.counts import count
from liquid_control.envs.intervals import IntervalLike
from liquid_control.envs.observe_only import Observe, ObserveOnly
from liquid_control.envs.variable_rate import VariableRate, has_rate

logger = logging.getLogger(__name__)

MOST_SERIAL = 1024  # envs with separate models, each of which takes megabytes

# MuJoCo warns about Gymnasium's own half_cheetah.xml, which users cannot change.
_KNOWN_WARNING = "compiler attribute 'settotalmass' is deprecated"


def make(
    task: str,
    *,
    observe: Observe = "full",
    interval: IntervalLike = None,
    allow_any_interval: bool = False,
    sensors: SensorsLike = None,
    actuators: ActuatorsLike = None,
    bodies: BodiesLike = None,
    events: EventsLike = None,
    privileged: Privileged | None = None,
    wrappers: Sequence[Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]] = (),
    seed: int | None = None,
    render_mode: str | None = None,
    **task_kwargs: Any,
) -> gym.Env[dict[str, Any], Any]:
    """Build a MuJoCo task, or a custom robot, with a variable control rate.

    A custom robot follows the protocol of `StepFor`. Any other env keeps its own rate and its
    observation without elapsed time.

    Args:
        task: The task's name in Gymnasium, such as "HalfCheetah-v5".
        observe: "full", "positions", "velocities" or indices, see `ObserveOnly`.
        interval: An Interval, seconds, a mapping (see `interval_from`), or None for nominal.
        allow_any_interval: Accept intervals that are more than 100 times longer or shorter than the
            nominal one.
        sensors: Applied to observations; this and the next four are described in
            `conditions_from`. Without them the env is the unmodified task.
        actuators: Applied to actions.
        bodies: How the robot's body differs from the model.
        events: Events within an episode.
        privileged: Additional observations for critics and teachers.
        wrappers: Applied to the env in order: Gymnasium's wrappers, or any function from an env to
            an env.
        seed: Seeds the first episode, as `reset(seed=seed)` does, and the action space.
        render_mode: Gymnasium's render mode, such as "rgb_array".
        **task_kwargs: Arguments of the task's constructor, and `max_episode_steps`; -1 stands for
            episodes without an end.

    Returns:
        An env wrapped in `VariableRate`, and in `Conditioned` where there are conditions.

    Raises:
        ValueError: If the task, the part to observe, the interval or the seed is invalid.
        TypeError: If the task does not accept an argument, or an interval is given for an env
            that is not a MuJoCo task.
    """
    if seed is not None:
        seed = count("seed", seed, least=0)
    if render_mode is not None:
        task_kwargs["render_mode"] = render_mode
    env = _task(task, task_kwargs)
    if not (isinstance(observe, str) and observe == "full"):
        env = ObserveOnly(env, observe)
    conditions = conditions_from(sensors, actuators, bodies, events, privileged)
    if has_rate(env) or interval is not None or conditions:
        env = VariableRate(env, interval, allow_any_interval=allow_any_interval)
    if conditions:
        env = Conditioned(env, conditions)
    for wrapper in _checked(wrappers):
        env = wrapper(env)
        if not isinstance(env, gym.Env):
            raise TypeError(f"a wrapper must return an env; {wrapper} returned {env!r}")
    if seed is not None:
        env.unwrapped.np_random, env.unwrapped._np_random_seed = seeding.np_random(seed)
        env.action_space.seed(seed)
    return env


def make_vec(
    task: str,
    num_envs: int,
    *,
    observe: Observe = "full",
    interval: IntervalLike = None,
    allow_any_interval: bool = False,
    sensors: SensorsLike = None,
    actuators: ActuatorsLike = None,
    bodies: BodiesLike = None,
    events: EventsLike = None,
    privileged: Privileged | None = None,
    wrappers: Sequence[Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]] = (),
    seed: int | None = None,
    threads: int | None = None,
    **task_kwargs: Any,
) -> VecEnv:
    """Build several independent envs of a task as one Stable-Baselines3 VecEnv.

    Gymnasium's MuJoCo v5 tasks, and those of `register`, become a `BatchedVecEnv`. Any other task
    is stepped env by env in a `SerialVecEnv`; its attribute `reason` and the log give the reason.

    Args:
        task: As in `make`.
        num_envs: Number of envs, at least one.
        observe: As in `make`.
        interval: As in `make`.
        allow_any_interval: As in `make`.
        sensors: As in `make`. Every env draws its own numbers, however the envs are stepped.
        actuators: As in `make`.
        bodies: As in `make`.
        events: As in `make`.
        privileged: As in `make`.
        wrappers: As in `make`. Envs with wrappers are stepped one by one.
        seed: Env i is seeded with seed + i.
        threads: Threads that simulate; None uses one for each processor, 0 steps env by env.
        **task_kwargs: As in `make`.

    Returns:
        A VecEnv of monitored envs; MuJoCo tasks have the attribute `nominal_interval`.

    Raises:
        ValueError, TypeError: As in `make`, and if `num_envs` is not a positive integer, at most
            1024 for a SerialVecEnv, or `threads` or `seed` not a non-negative one.
    """
    num_envs = count("num_envs", num_envs, least=1)
    if threads is not None:
        threads = count("threads", threads, least=0)
    if seed is not None:
        seed = count("seed", seed, least=0)
    build = partial(
        make,
        task,
        observe=observe,
        interval=interval,
        allow_any_interval=allow_any_interval,
        sensors=sensors,
        actuators=actuators,
        bodies=bodies,
        events=events,
        privileged=privileged,
        wrappers=wrappers,
        **task_kwargs,
    )

    def monitored(index: int) -> gym.Env[Any, Any]:
        return Monitor(build(seed=None if seed is None else seed + index))

    env = monitored(0)
    batchable = task_of(env) if threads != 0 else "threads=0"
    if isinstance(batchable, str):
        asked_for = logging.INFO if threads == 0 else logging.WARNING
        if num_envs > MOST_SERIAL:
            raise ValueError(
                f"num_envs must be at most {MOST_SERIAL} where envs are stepped one by one "
                f"({batchable}), got {num_envs}"
            )
        logger.log(asked_for, "%s: %d envs, stepped one by one: %s", task, num_envs, batchable)
        others = [partial(monitored, index) for index in range(1, num_envs)]
        return SerialVecEnv([lambda: env, *others], batchable)
    threads = min(threads or _processors(), num_envs)
    logger.info("%s: %d envs, stepped together on %d threads", task, num_envs, threads)
    return BatchedVecEnv(env, batchable, num_envs, threads=threads, seed=seed)


class SerialVecEnv(DummyVecEnv):
    """SB3's DummyVecEnv, with the reason for its use.

    Attributes:
        reason: Why the envs are not stepped together.
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env[Any, Any]]], reason: str) -> None:
        super().__init__(env_fns)
        self.reason = reason


def _task(name: str, arguments: Mapping[str, Any]) -> gym.Env[Any, Any]:
    try:
        with _without_known_warning():
            return gym.make(name, disable_env_checker=True, **arguments)
    except gym.error.Error as error:
        if type(error) is gym.error.Error or isinstance(error, gym.error.UnregisteredEnv):
            raise ValueError(f"unknown task {name!r}: {error}") from error
        raise


def _processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _without_known_warning() -> Iterator[None]:
    """Suppress the warning that loading Gymnasium's HalfCheetah causes, and its log file.

    MuJoCo has one handler per process. The default prints and writes MUJOCO_LOG.TXT to the working
    directory; here other messages become Python warnings, unless the user has set a handler.
    """
    messages: list[str] = []
    handler = mujoco.get_mju_user_warning()
    # Exceptions cannot pass through MuJoCo, so messages are collected and handled afterwards.
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


def _checked(wrappers: Any) -> list[Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]]:
    """Return wrappers as a list; raise a TypeError unless each can be called."""
    if callable(wrappers) or isinstance(wrappers, str) or not isinstance(wrappers, Iterable):
        raise TypeError(f"wrappers must be a list of functions or classes, got {wrappers!r}")
    found = list(wrappers)
    for wrapper in found:
        if not callable(wrapper):
            raise TypeError(f"wrappers must be functions or classes, got {wrapper!r}")
    return found
