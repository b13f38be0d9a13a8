"""A check of envs: elapsed time, units, and integration of the reward over time."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env as check_gymnasium
from numpy.typing import NDArray

from liquid_control.envs.factory import make
from liquid_control.envs.intervals import Fixed, Uniform
from liquid_control.envs.step_for import StepFor
from liquid_control.envs.variable_rate import VariableRate, has_rate, layers

_LONG = 10.0  # seconds; no robot is controlled at a longer interval


def check_env(env: str | gym.Env[Any, Any], *, tolerance: float = 0.1) -> None:
    """Check that an env can be controlled at any rate, and raise an error otherwise.

    It has to pass Gymnasium's `check_env`, and follow the protocol of `StepFor` or be a MujocoEnv.
    Then episodes with the same seed and actions are compared at several rates. A control step of
    the nominal interval has to give, within `tolerance`, the same observation, relative to its
    change, and the same reward as steps of single physics steps with the same action.

    Args:
        env: The name of a task, or an env; it is reset, and its own rate and time limits are
            restored.
        tolerance: A share of the change of an observation, and of a reward.

    Raises:
        TypeError: If the env does not follow the protocol.
        ValueError: If it does, and time, observations or rewards do not fit each other, or
            `tolerance` is not positive.
        AssertionError: If Gymnasium's check fails.
    """
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be a positive share, such as 0.1, got {tolerance}")
    if not isinstance(env, str | gym.Env):
        raise TypeError(f"env must be the name of a task or a gymnasium.Env, got {env!r}")
    stack = make(env) if isinstance(env, str) else env
    robot = stack.unwrapped
    if not has_rate(robot):
        raise TypeError(
            f"{type(robot).__name__} has no nominal_interval with step_for(action, seconds) or "
            f"substep(action), and is not a MujocoEnv; see envs.StepFor"
        )
    rate = next((layer for layer in layers(stack) if isinstance(layer, VariableRate)), None)
    within = [(layer, layer.env) for layer in layers(stack) if isinstance(layer, gym.Wrapper)]
    rate = rate or VariableRate(stack)  # which takes time limits out of the stack
    kept = rate.interval
    try:
        check_gymnasium(robot, skip_render_check=True)
        if rate.chosen is not None:
            raise ValueError("check the env with an interval other than Chosen, such as None")
        _check(rate, type(robot).__name__, tolerance)
    finally:
        rate.interval = kept
        for layer, inner in within:
            layer.env = inner


def _check(rate: VariableRate, name: str, tolerance: float) -> None:
    nominal, timestep = rate.nominal_interval, rate.timestep
    if nominal > _LONG:
        raise ValueError(
            f"nominal_interval of {name} is {nominal:g} seconds; it is in seconds, not milliseconds"
        )
    actions = _actions(rate)
    whole = _Episode(rate, Fixed(nominal), actions, 1)
    again = _Episode(rate, Fixed(nominal), actions, 1)
    if whole.difference(again) > 0:
        raise ValueError(
            f"{name} differs between two episodes with the same seed and actions; draw all random "
            f"numbers from self.np_random, and reset everything in reset()"
        )
    if not (whole.observations != whole.observations[0]).any():
        raise ValueError(
            f"the observations of {name} do not change in {whole.times[-1]:g} s of random actions; "
            f"step_for(action, seconds) gets seconds, not milliseconds or numbers of steps"
        )
    if isinstance(rate.robot, StepFor):
        _check_step(rate, whole, actions, name, tolerance)
    parts = _Episode(rate, Fixed(timestep), actions, rate.nominal_substeps)
    if not np.allclose(whole.times, parts.times):
        raise ValueError(
            f"{name} lasts {parts.times[-1]} s in physics steps, not {whole.times[-1]}"
        )
    if (error := whole.difference(parts)) > tolerance:
        raise ValueError(
            f"the observations of {name} differ by {error:.0%} of their change between a step of "
            f"{nominal:g} s and steps of {timestep:g} s; an action must be held for the requested "
            f"seconds, in a simulation of small steps"
        )
    scale = max(np.abs(whole.rewards).max(), np.abs(parts.rewards).max())
    if scale and (error := np.abs(whole.rewards - parts.rewards).max() / scale) > tolerance:
        raise ValueError(
            f"the rewards of {name} differ by {error:.0%} between a step of {nominal:g} s and "
            f"steps of {timestep:g} s, which give {parts.rewards[0]:.4g} for {whole.rewards[0]:.4g}"
            f"; a reward must be integrated over the seconds of the step"
        )
    _check_elapsed_time(rate, name)


def _check_step(
    rate: VariableRate, whole: _Episode, actions: Any, name: str, tolerance: float
) -> None:
    """Check that `step` is a control step of the nominal interval."""
    robot: Any = rate.unwrapped
    observations, rewards = [_vector(robot.reset(seed=0)[0])], []
    for action, _ in zip(actions, whole.rewards, strict=False):
        observation, reward, *_ = robot.step(action)
        observations.append(_vector(observation))
        rewards.append(float(reward))
    if np.shape(observations) == whole.observations.shape:  # no wrapper changes them
        change = np.abs(whole.observations - whole.observations[0]).max()
        if (error := np.abs(whole.observations - observations).max() / change) > tolerance:
            raise ValueError(
                f"the observations of {name}.step differ by {error:.0%} of their change from those "
                f"of a control step of its nominal_interval, {rate.nominal_interval:g} s; "
                "step(action) lasts nominal_interval"
            )
    scale = np.abs([*whole.rewards, *rewards]).max()
    if scale and (error := np.abs(whole.rewards - rewards).max() / scale) > tolerance:
        raise ValueError(
            f"the rewards of {name}.step differ by {error:.0%} from those of a control step of its "
            f"nominal_interval, {rate.nominal_interval:g} s: {rewards[0]:.4g} for "
            f"{whole.rewards[0]:.4g}; step(action) lasts nominal_interval"
        )


def _check_elapsed_time(rate: VariableRate, name: str) -> None:
    """Check the elapsed time at rates that vary, through `step`."""
    nominal = rate.nominal_interval
    rate.interval = Uniform(nominal, 3 * nominal)
    observation, info = rate.reset(seed=0)
    before = 0.0
    for action in _actions(rate):
        observation, _, terminated, truncated, info = rate.step(action)
        if terminated or truncated:
            return
        elapsed = info["physical_time"] - before
        before = info["physical_time"]
        if not np.allclose((observation["elapsed_time"][0], info["elapsed_time"]), elapsed):
            raise ValueError(
                f"{name} reports {info['elapsed_time']} s after {elapsed} s; leave the keys "
                f"elapsed_time and physical_time of its info to VariableRate"
            )
        if not rate.observation_space.contains(observation):
            raise ValueError(f"an observation of {name} is not in its space: {observation}")


class _Episode:
    """The beginning of an episode.

    Attributes:
        observations: At the reset and after each action, (actions + 1, features).
        rewards: Of each action, (actions,).
        times: Seconds since the reset after each action, (actions,).
    """

    def __init__(self, rate: VariableRate, interval: Fixed, actions: Any, pieces: int) -> None:
        rate.interval = interval
        observation, info = rate.reset(seed=0)
        observations = [_vector(observation)]
        rewards: list[float] = []
        times: list[float] = []
        for action in actions:
            total, ended = 0.0, False
            for _ in range(pieces):
                observation, reward, terminated, truncated, info = rate.step(action)
                total += float(reward)
                ended = terminated or truncated
                if ended:
                    break
            if ended and rewards:  # the last step may be shorter when split
                break
            observations.append(_vector(observation))
            rewards.append(total)
            times.append(info["physical_time"])
        self.observations, self.rewards = np.array(observations), np.array(rewards)
        self.times = np.array(times)

    def difference(self, other: _Episode) -> float:
        """Return the largest difference of observations, as a share of the largest change."""
        count = min(len(self.rewards), len(other.rewards))
        for episode in (self, other):
            episode.observations = episode.observations[: count + 1]
            episode.rewards, episode.times = episode.rewards[:count], episode.times[:count]
        change = np.abs(self.observations - self.observations[0]).max()
        apart = np.abs(self.observations - other.observations).max()
        return float(apart / change) if change else float(apart)


def _actions(rate: VariableRate) -> list[Any]:
    rate.action_space.seed(0)
    return [rate.action_space.sample() for _ in range(3)]


def _vector(observation: Any) -> NDArray[np.float64]:
    given = observation if isinstance(observation, dict) else {"observation": observation}
    parts = [np.ravel(part) for key, part in given.items() if key != "elapsed_time"]
    return np.concatenate(parts).astype(np.float64)
