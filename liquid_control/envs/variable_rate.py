"""A wrapper that varies the control rate of a MuJoCo task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from liquid_control.envs.intervals import Chosen, IntervalLike, interval_from
from liquid_control.envs.names import action_names, observation_names
from liquid_control.envs.step_for import StepFor, follows_protocol, with_step_for
from liquid_control.envs.substeps import (
    LONGEST_EPISODE,
    check_chosen,
    check_interval,
    check_schedule,
    chosen_substeps,
    draw_substeps,
    to_substeps,
)

TimedObservation = dict[str, Any]


class VariableRate(gym.Wrapper[TimedObservation, Any, Any, Any], RecordConstructorArgs):
    """Holds each action for an interval drawn from the env's generator.

    The observation becomes a Dict of `observation` (the task's own, or its parts if it is a Dict)
    and `elapsed_time`, (1,) float32 seconds since the previous observation; at the first
    observation of an episode it is the nominal interval. A step's reward is the task's reward times
    interval / nominal; the reward of a custom robot is not scaled, see `StepFor`. `info` also
    contains `elapsed_time` and `physical_time`, the seconds since the reset. Films at a fixed
    interval last as long as the episode: `metadata["render_fps"]` is one over the interval.

    An episode truncates after the same physical time at every rate, max_episode_steps nominal
    intervals; its last interval is shortened for this. The limit is taken from the `TimeLimit`
    inside, which is removed because it counts steps. A `TimeLimit` around this wrapper counts
    steps again, regardless of their duration.

    All intervals of an episode are drawn at its reset, after the task has drawn its initial state.
    The nominal interval draws nothing, and the task equals Gymnasium's bit for bit. An episode
    without a limit repeats its first 4096 intervals. With `Chosen`, an action has an additional
    entry, from -1 to 1, and nothing is drawn.

    Args:
        env: Any stack of wrappers around a Gymnasium MujocoEnv whose step simulates
            `self.frame_skip` physics steps, as all of Gymnasium's do; or around an env that follows
            the protocol of `StepFor`; or one of gymnasium-robotics' mazes.
        interval: An Interval, seconds, a mapping (see `interval_from`), or None for nominal. It is
            rounded to whole physics steps, the bounds of a range inward, with a warning.
        allow_any_interval: Accept intervals that are more than 100 times longer or shorter than the
            nominal one. Beyond 10 times there is a warning.

    Attributes:
        nominal_interval: The task's own control interval, in seconds.
        nominal_substeps: The same in physics steps.
        timestep: The duration of a physics step, in seconds.
        horizon: The physical time in seconds after which an episode truncates, or None.
        horizon_substeps: The same in physics steps.
        interval: The Interval.
        chosen: The interval, if it is `Chosen`, else None.
        robot: The MujocoEnv or `StepFor` that simulates.

    Raises:
        TypeError: If the env is none of these.
        ValueError: If an interval is rejected, see `check_interval`, or the env is already wrapped
            in VariableRate, or has a longer time limit than `LONGEST_EPISODE`.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        interval: IntervalLike = None,
        *,
        allow_any_interval: bool = False,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, interval=interval, allow_any_interval=allow_any_interval
        )
        if any(isinstance(layer, VariableRate) for layer in layers(env)):
            raise ValueError("this env is already wrapped in VariableRate; wrap it once")
        env, max_episode_steps = _without_time_limits(env)
        env, task = _stepped(env)
        super().__init__(env)

        self.interval = interval_from(interval)
        self.chosen = self.interval if isinstance(self.interval, Chosen) else None
        if self.chosen is not None:
            self.action_space = _with_interval(env.action_space)
        self.nominal_interval = float(task.dt)
        self.robot = task
        self._rewards_are_integrated = isinstance(task, StepFor)
        self.timestep = float(
            task.timestep if isinstance(task, StepFor) else task.model.opt.timestep
        )
        self.nominal_substeps = int(task.frame_skip)
        self.allow_any_interval = allow_any_interval
        check_interval(
            self.interval,
            self.nominal_interval,
            self.timestep,
            allow_any_interval=allow_any_interval,
        )

        if max_episode_steps is not None and max_episode_steps > LONGEST_EPISODE:
            raise ValueError(
                f"max_episode_steps must be at most {LONGEST_EPISODE:,}, got "
                f"{max_episode_steps:,}; -1 stands for episodes without an end"
            )
        self._max_episode_steps = max_episode_steps
        self.horizon_substeps = (
            None if max_episode_steps is None else max_episode_steps * self.nominal_substeps
        )
        self.horizon = (
            None if self.horizon_substeps is None else self.horizon_substeps * self.timestep
        )
        shortest, longest = to_substeps(self.interval.bounds(self.nominal_interval), self.timestep)
        if shortest == longest and "render_fps" in self.metadata:
            fps = max(round(1 / (shortest * self.timestep)), 1)
            self.metadata = {**self.metadata, "render_fps": fps}
        space: Any = env.observation_space
        self._is_dict = isinstance(space, gym.spaces.Dict)
        if self._is_dict and "elapsed_time" in space.spaces:
            raise ValueError(
                "the observation already has a key 'elapsed_time', which VariableRate adds; rename "
                "or remove it"
            )
        parts = dict(space.spaces) if self._is_dict else {"observation": space}
        parts["elapsed_time"] = gym.spaces.Box(0.0, np.inf, shape=(1,), dtype=np.float32)
        self.observation_space = gym.spaces.Dict(parts)
        self._schedule: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._elapsed_time: NDArray[np.float32] = np.empty((0, 1), dtype=np.float32)
        self._tick = 0
        self._substeps_since_reset = 0
        self._is_started = False

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The specification for `gymnasium.make`, including the limit of the episode."""
        spec = super().spec
        if spec is not None:
            spec.max_episode_steps = self._max_episode_steps
        return spec

    @property
    def substeps_since_reset(self) -> int:
        """Physics steps since the start of the episode."""
        return self._substeps_since_reset

    @property
    def observation_names(self) -> tuple[str, ...]:
        """A name for each entry of the observation except the elapsed time; see `envs.names`."""
        return observation_names(self.env)

    @property
    def action_names(self) -> tuple[str, ...]:
        """A name for each entry of an action; see `envs.names`."""
        names = action_names(self.env)
        return names if self.chosen is None else (*names, "interval")

    def controls(self, action: Any) -> Any:
        """Return an action without the entry that chooses the interval."""
        return action if self.chosen is None else np.asarray(action)[..., :-1]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[TimedObservation, dict[str, Any]]:
        """Reset the task and draw the intervals of the episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        if self.chosen is None:
            self._schedule = draw_substeps(
                self.interval,
                self.unwrapped.np_random,
                self.nominal_interval,
                self.timestep,
                self.horizon_substeps,
            )
        self._is_started = True
        self._elapsed_time = (self._schedule[:, None] * self.timestep).astype(np.float32)
        self._tick = 0
        self._substeps_since_reset = 0
        info["elapsed_time"] = self.nominal_interval
        info["physical_time"] = 0.0
        elapsed_time = np.array([self.nominal_interval], dtype=np.float32)
        return self._timed(observation, elapsed_time), info

    def step(
        self, action: Any
    ) -> tuple[TimedObservation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Hold the action for the next interval.

        Raises ResetNeeded before the first reset and after the horizon.
        """
        tick, cost = self._tick, 0.0
        if self.chosen is not None:
            substeps, cost = self._choose(self.chosen, action), self.chosen.cost
            action = self.controls(action)
        else:
            if tick == len(self._schedule):
                tick = self._start_over()
            substeps = self._schedule.item(tick)
        self.robot.frame_skip = substeps
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        finally:
            # Renderers and users read the task's dt between steps as its nominal interval.
            self.robot.frame_skip = self.nominal_substeps
        if isinstance(self.robot, StepFor):
            substeps = self.robot.taken  # fewer if the episode ended within the interval
        if self.chosen is not None or isinstance(self.robot, StepFor):
            elapsed_time = np.array([substeps * self.timestep], np.float32)
        else:  # each row of the array is returned once, so that no copy is needed
            elapsed_time = self._elapsed_time[tick]
        self._tick = tick + 1
        self._substeps_since_reset += substeps
        info["elapsed_time"] = substeps * self.timestep
        info["physical_time"] = self._substeps_since_reset * self.timestep
        share = 1.0 if self._rewards_are_integrated else substeps / self.nominal_substeps
        return (
            self._timed(observation, elapsed_time),
            float(reward) * share - cost,
            terminated,
            truncated or self._substeps_since_reset == self.horizon_substeps,
            info,
        )

    def state_dict(self) -> dict[str, NDArray[np.int64]]:
        """Return the schedule of the current episode, and the position in it."""
        return {
            "schedule": self._schedule.copy(),
            "tick": np.array(self._tick),
            "substeps_since_reset": np.array(self._substeps_since_reset),
        }

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Restore the schedule that `state_dict` returned.

        Raises:
            ValueError: If it is not a schedule of this env; nothing is changed then.
        """
        names = ("schedule", "tick", "substeps_since_reset")
        axes = {name: (array.ndim, array.dtype.kind) for name, array in state.items()}
        if axes != dict(zip(names, ((1, "i"), (0, "i"), (0, "i")), strict=True)):
            raise ValueError(f"the saved schedule must be integers {names}, got {axes}")
        schedule, tick, elapsed = state["schedule"], *(state[name].item() for name in names[1:])
        horizon, nominal = self.horizon_substeps, self.nominal_substeps
        if self.chosen is not None:
            check_chosen(tick, elapsed, horizon)
        else:
            check_schedule(schedule, tick, elapsed, horizon, nominal)
        self._is_started = True
        self._schedule = schedule.astype(np.int64)
        self._elapsed_time = (self._schedule[:, None] * self.timestep).astype(np.float32)
        self._tick, self._substeps_since_reset = tick, elapsed

    def _choose(self, chosen: Chosen, action: Any) -> int:
        """Return the physics steps that an action chooses.

        Raises:
            ResetNeeded: Before the first reset and after the horizon.
            ValueError: If the action has another shape, or its last entry is not a number.
        """
        if not self._is_started or self._substeps_since_reset == self.horizon_substeps:
            raise ResetNeeded("no episode is under way; call reset() before step()")
        action = np.asarray(action)
        if action.shape != self.action_space.shape or not np.isfinite(action[-1]):
            raise ValueError(
                f"an action has shape {self.action_space.shape}, and its last entry chooses the "
                f"interval, from -1 to 1; got {action}"
            )
        elapsed = np.array([self._substeps_since_reset])
        nominal, timestep, horizon = self.nominal_interval, self.timestep, self.horizon_substeps
        substeps = chosen_substeps(chosen, action[-1:], nominal, timestep, elapsed, horizon)
        return int(substeps.item())

    def _timed(self, observation: Any, elapsed_time: NDArray[np.float32]) -> TimedObservation:
        """Return an observation with its elapsed time."""
        parts = observation if self._is_dict else {"observation": observation}
        return {**parts, "elapsed_time": elapsed_time}

    def _start_over(self) -> int:
        """Restart the schedule of an episode without a limit, and return its first index."""
        if self.horizon_substeps is not None or not len(self._schedule):
            raise ResetNeeded("no episode is under way; call reset() before step()")
        self._elapsed_time = self._elapsed_time.copy()
        return 0


def _stepped(env: gym.Env[Any, Any]) -> tuple[gym.Env[Any, Any], MujocoEnv | StepFor]:
    """Return a stack of wrappers, and its simulator; see `VariableRate`."""
    robot = env.unwrapped
    if (simulator := _simulator(robot)) is not None:
        return env, simulator
    if follows_protocol(robot):
        return with_step_for(env)
    raise TypeError(
        f"VariableRate needs a Gymnasium MujocoEnv, as it sets frame_skip, or an env with "
        f"nominal_interval and step_for(action, seconds), see envs.StepFor; got "
        f"{type(robot).__name__}"
    )


def _simulator(robot: Any) -> MujocoEnv | None:
    """Return the MujocoEnv of a task: itself, or an attribute of gymnasium-robotics' mazes."""
    for simulator in (robot, *(getattr(robot, name, None) for name in ("point_env", "ant_env"))):
        if isinstance(simulator, MujocoEnv):
            return simulator
    return None


def has_rate(env: gym.Env[Any, Any]) -> bool:
    """Return whether an env can be wrapped in VariableRate."""
    return _simulator(env.unwrapped) is not None or follows_protocol(env.unwrapped)


def _with_interval(space: gym.Space[Any]) -> gym.spaces.Box:
    """Return a space of actions with an additional entry, which chooses the interval."""
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise TypeError(f"Chosen adds an entry to actions, which must be a vector; got {space}")
    low, high = (np.append(bound, end) for bound, end in ((space.low, -1), (space.high, 1)))
    dtype = space.dtype.type
    return gym.spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype)


def layers(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    """Iterate from the outermost wrapper to the task."""
    yield env
    while isinstance(env, gym.Wrapper):
        env = env.env
        yield env


def _without_time_limits(env: gym.Env[Any, Any]) -> tuple[gym.Env[Any, Any], int | None]:
    """Remove every TimeLimit from a stack of wrappers; return the stack and the smallest limit."""
    limits: list[int] = []
    while isinstance(env, TimeLimit):
        limits.append(env._max_episode_steps)
        env = env.env
    for layer in layers(env):
        while isinstance(layer, gym.Wrapper) and isinstance(layer.env, TimeLimit):
            limits.append(layer.env._max_episode_steps)
            layer.env = layer.env.env
    return env, min(limits, default=None)
