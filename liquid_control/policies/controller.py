"""A trained policy in the control loop of one robot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import is_image_space, maybe_transpose
from torch import Tensor

from liquid_control.policies.acting import Acted
from liquid_control.policies.observations import ELAPSED_TIME, bounds_of_elapsed_time, carries_time
from liquid_control.policies.stateful import StatefulPolicy


class Controller:
    """Acts on one robot: holds the recurrent state, and measures the elapsed time.

        controller = liquid_control.load_controller(RUN)
        while True:
            action = controller.step(observation, time.monotonic())

    Actions are the most likely ones, in the shape and the bounds of the action space. If the
    observations of the training carried no elapsed time, the policy knows only one rate, and each
    step lasts one nominal interval.

    Args:
        policy: of an agent, such as `model.policy`.

    Attributes:
        nominal_interval: seconds; the elapsed time of the first step of an episode.
        observation_space: of the observations for `step`: the policy's without `elapsed_time` and
            `privileged`; a Dict with a single remaining key becomes that key's space.
        action_space: of the actions that `step` returns.

    Raises:
        TypeError: the policy is not from this package, or runs in sb3-contrib's RecurrentPPO.
    """

    def __init__(self, policy: StatefulPolicy) -> None:
        if not isinstance(policy, StatefulPolicy):
            raise TypeError(
                "a Controller takes a LiquidPolicy or a SoftLiquidPolicy, such as model.policy, "
                f"got {type(policy).__name__}"
            )
        policy.set_training_mode(False)
        self._policy, self._device = policy, policy.device
        self.nominal_interval = policy.nominal_interval
        self.action_space = policy.action_space
        self.observation_space: spaces.Space[Any] = policy.observation_space
        self._parts: dict[str, spaces.Space[Any]] = {}
        if isinstance(policy.observation_space, spaces.Dict):
            self._parts = dict(policy.acting_space.spaces)  # type: ignore[attr-defined]
            self._parts.pop(ELAPSED_TIME, None)
            self.observation_space = spaces.Dict([*self._parts.items()])  # in order
            if len(self._parts) == 1:
                (self.observation_space,) = self._parts.values()
        self._timed = carries_time(policy.observation_space)
        self.reset()

    def reset(self) -> None:
        """Start a new episode with the next step."""
        self._state: NDArray[Any] = self._policy.initial_actor_state(1).cpu().numpy()
        self._action: NDArray[Any] | None = None
        self._now = self._observed = -math.inf  # of the last step, and of the last observation

    def step(self, observation: Any, now: float, *, arrived: bool = True) -> NDArray[Any]:
        """Return the action to hold until the next step.

        The elapsed time is the time since the previous observation. If the sensors delivered
        nothing, `observation` is None: the previous action is returned again, the state does not
        change, and the next observation has the whole time since the previous one, as in training
        with `envs.DroppedFrames`.

        Args:
            observation: in `observation_space`, as in training, or with the channels of images
                last; or None.
            now: seconds of a clock that never runs backwards, such as `time.monotonic()`, at which
                it was measured.
            arrived: False if the sensors delivered nothing and `observation` is a replacement, the
                previous one or zeros, as in training with `envs.Dropout`. The state is updated,
                and the elapsed time grows until an observation arrives.

        Raises:
            ValueError: the observation has another structure or shape, or is not finite; the time
                is not finite, not after that of the previous step, or further from the nominal
                interval than the policy allows; there is no action yet to hold; or the action is
                not finite. The controller is unchanged then.
        """
        if not now > self._now or not math.isfinite(now):
            raise ValueError(
                f"the time of a step must be after that of the previous one, {self._now} s, got "
                f"{now} s; pass time.monotonic(), and reset() before another episode"
            )
        if observation is None:
            if self._action is None:
                raise ValueError("there is no action to hold yet; begin with an observation")
            self._now = now
            return self._action.copy()
        first = self._action is None
        if first and not arrived:
            raise ValueError("nothing has arrived yet; begin with an observation that has")
        elapsed = self.nominal_interval if first or not self._timed else now - self._observed
        acted = self._act_fused(observation, elapsed, first) or self._act(
            observation, elapsed, first
        )
        self._now = now
        if arrived:
            self._observed = now
        self._action, self._state = acted
        return self._action.copy()

    def _act_fused(self, observation: Any, elapsed: float, first: bool) -> Acted | None:
        """Act in one call of the kernels; None where PyTorch acts or raises."""
        actor = self._policy.fused_actor()
        if actor is None:
            return None
        parts = [observation]
        if isinstance(observation, dict):
            if observation.keys() != self._parts.keys():
                return None
            parts = [observation[name] for name in self._parts]
        return actor.act(parts, elapsed, None if first else self._state, True)

    def _act(self, observation: Any, elapsed: float, first: bool) -> Acted:
        """Act in PyTorch, or raise a ValueError with the reason."""
        tensors = self._tensors(observation)
        if self._timed:
            assert isinstance(tensors, dict)
            low, high = bounds_of_elapsed_time(
                self.nominal_interval, allow_any_interval=self._policy.options.allow_any_interval
            )
            if not low < elapsed < high:
                raise ValueError(
                    f"{elapsed:.6g} s have passed since the previous observation, and the policy "
                    f"acts after {low:.3g} to {high:.3g} s; call reset() after a pause"
                )
            tensors[ELAPSED_TIME] = torch.tensor([[elapsed]], device=self._device)
        with torch.no_grad():
            before = torch.from_numpy(self._state).to(self._device)
            start = before.new_full((1,), float(first))
            previous = self._policy.previous_of(before, start)
            features, elapsed_time = self._policy.observe(tensors, *previous)
            chosen, state = self._policy(features, elapsed_time, before, start, True)
        action: NDArray[Any] = self._policy.for_env(chosen).squeeze(axis=0)
        if not np.isfinite(action).all():
            raise ValueError(f"the action {action} is not finite; the observation is too large")
        return action, state.cpu().numpy()

    def _tensors(self, observation: Any) -> Tensor | dict[str, Tensor]:
        """Convert an observation to a batch of one."""
        if not self._parts:
            return self._tensor("the observation", observation, self.observation_space)
        if not isinstance(observation, dict) and len(self._parts) == 1:
            observation = dict.fromkeys(self._parts, observation)
        if not isinstance(observation, dict) or observation.keys() != self._parts.keys():
            got = ", ".join(observation) if isinstance(observation, dict) else "an array"
            raise ValueError(
                f"the observation must be a dict of {', '.join(self._parts)}, got {got}; the "
                "controller adds the elapsed time"
            )
        return {
            name: self._tensor(name, observation[name], part) for name, part in self._parts.items()
        }

    def _tensor(self, name: str, value: Any, space: spaces.Space[Any]) -> Tensor:
        array = np.asarray(value)
        if is_image_space(space) and array.ndim == 3:
            array = maybe_transpose(array, space)
        if array.dtype.kind not in "biuf" or array.shape != space.shape:
            raise ValueError(
                f"{name} must be numbers of shape {space.shape}, got {array.dtype} of shape "
                f"{array.shape}"
            )
        with np.errstate(over="ignore"):  # to infinity, which is rejected
            finite = np.isfinite(array).all() and np.isfinite(array.astype(np.float32)).all()
        if not finite:
            raise ValueError(f"{name} is not finite: {array}; pass None if there is no measurement")
        if not isinstance(space, spaces.Box) and not space.contains(array):
            raise ValueError(f"{name} must be in {space}, got {array}")
        return torch.as_tensor(array.astype(space.dtype)[None], device=self._device)
