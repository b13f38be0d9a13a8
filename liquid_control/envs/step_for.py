"""Custom robots: plain Gymnasium envs that can step for any duration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import Any, Protocol, SupportsFloat, TypeAlias

import gymnasium as gym
from numpy.typing import NDArray

from liquid_control.envs.substeps import FURTHEST

Step: TypeAlias = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]


class Hook(Protocol):
    """Calls between the physics steps of a control step; `Conditioned` is one."""

    def commands(self, action: Any, substeps: int) -> Iterator[Any]:
        """Yield the actuators' output in each physics step."""

    def record(self, observation: Any) -> None:
        """Note the observation after a physics step."""


class StepFor(gym.Wrapper[Any, Any, Any, Any]):
    """Gives a plain env the interface that `VariableRate` requires of a robot.

    A custom env needs

        nominal_interval: float        # seconds that step() lasts
        def step_for(self, action, seconds): ...    # like step(), for the given seconds

    or, instead of `step_for`, the part that `step_for` would repeat:

        timestep: float                # seconds that substep() lasts
        def substep(self, action): ...

    Both return the same tuple as `step`. The reward is integrated over the time of the call: the
    rewards of consecutive calls add up to that of one call for the whole time. Intervals are
    multiples of `timestep`, which is optional with `step_for`: by default it is a hundredth of the
    nominal interval. `envs.check_env` checks all this.

    Args:
        env: The env, without wrappers.

    Attributes:
        frame_skip: Physics steps that the next step lasts.
        taken: Physics steps that the last step lasted: fewer if the episode ended within them.
        hook: Called between physics steps, or None.
        last: The last observation, without wrappers.

    Raises:
        TypeError, ValueError: If the env does not follow the protocol.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        robot: Any = env
        nominal = _seconds(robot, "nominal_interval")
        self._is_whole = callable(getattr(robot, "step_for", None))
        if not self._is_whole and not callable(getattr(robot, "substep", None)):
            raise TypeError(
                f"{type(robot).__name__} has a nominal_interval and neither step_for(action, "
                f"seconds) nor substep(action); see envs.StepFor"
            )
        if self._is_whole and getattr(robot, "timestep", None) is None:
            self.timestep = nominal / FURTHEST
        else:
            self.timestep = _seconds(robot, "timestep")
        self.nominal_substeps = round(nominal / self.timestep)
        if not math.isclose(self.nominal_substeps * self.timestep, nominal, rel_tol=1e-6):
            raise ValueError(
                f"nominal_interval {nominal:g} s of {type(robot).__name__} is not a multiple of "
                f"its timestep {self.timestep:g} s; change one of them"
            )
        self.dt = nominal
        self.frame_skip = self.taken = self.nominal_substeps
        self.hook: Hook | None = None
        self.last: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the env."""
        self.last, info = self.env.reset(seed=seed, options=options)
        return self.last, info

    def step(self, action: Any) -> Step:
        """Hold an action for `frame_skip` physics steps."""
        if self.hook is not None:
            return self._one_by_one(self.hook.commands(action, self.frame_skip), self.hook)
        if not self._is_whole:
            return self._one_by_one([action] * self.frame_skip, None)
        self.taken = self.frame_skip
        return self._noted(self._hold(action, self.frame_skip))

    def _one_by_one(self, commands: Any, hook: Hook | None) -> Step:
        total = 0.0
        for taken, command in enumerate(commands, start=1):
            observation, reward, terminated, truncated, info = self._hold(command, 1)
            total += float(reward)
            self.taken = taken
            if hook is not None:
                hook.record(observation)
            if terminated or truncated:
                break
        return self._noted((observation, total, terminated, truncated, info))

    def _hold(self, action: Any, substeps: int) -> Step:
        robot: Any = self.env
        step: Step
        if self._is_whole:
            step = robot.step_for(action, substeps * self.timestep)
        else:
            step = robot.substep(action)
        return step

    def _noted(self, step: Step) -> Step:
        self.last = step[0]
        return step


def follows_protocol(env: gym.Env[Any, Any]) -> bool:
    """Return whether an env, without wrappers, declares that it can step for any duration."""
    return any(callable(getattr(env, name, None)) for name in ("step_for", "substep"))


def with_step_for(env: gym.Env[Any, Any]) -> tuple[gym.Env[Any, Any], StepFor]:
    """Put a StepFor around the innermost env of a stack; return the stack and the StepFor."""
    layer: gym.Env[Any, Any] = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, StepFor):
            return env, layer
        if not isinstance(layer.env, gym.Wrapper):
            layer.env = inner = StepFor(layer.env)
            return env, inner
        layer = layer.env
    outer = StepFor(env)
    return outer, outer


def flat(action: NDArray[Any], like: Any) -> Any:
    """Return the actuators' output in the shape and type of an action."""
    return action.reshape(like.shape).astype(like.dtype)


def _seconds(robot: Any, name: str) -> float:
    value = getattr(robot, name, None)
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(
            f"{type(robot).__name__}.{name} must be a number of seconds, got {value!r}; see "
            f"envs.StepFor"
        )
    seconds = float(value)
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"{type(robot).__name__}.{name} must be a finite number of seconds above 0, got {value}"
        )
    return seconds
