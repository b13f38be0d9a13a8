"""Split SB3's observations into features and elapsed time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_flattened_obs_dim,
    is_image_space,
    preprocess_obs,
)
from torch import Tensor

ELAPSED_TIME = "elapsed_time"
OBSERVATION = "observation"
"""Key of an observation that was an array before other keys were added."""
PRIVILEGED = "privileged"
"""Key of a Dict observation for critics only; its features come after the others."""
ACTION_MASK = "action_mask"
"""Key of a Dict observation that marks the allowed discrete actions; see `masks`."""
OTHER_NAMES = {"dt", "deltat", "deltatime", "timedelta", "timespan", "timespans", "elapsed"}
SPACES = spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete
FURTHEST = 100
"""Factor above or below the nominal interval beyond which elapsed times are rejected.

`envs/substeps.py` rejects control intervals beyond the same factor."""
_RELATIVE_ERROR = 1e-6  # of elapsed times, which are in single precision

Observation = Tensor | dict[str, Tensor]


def feature_count(space: spaces.Space[Any], *, images: bool = False) -> int:
    """Return the number of a space's flat features, privileged ones included, without time.

    Warns if a feature has a name that denotes the elapsed time elsewhere, such as `dt`.

    Args:
        space: of single observations.
        images: whether it may contain images.

    Raises:
        ValueError: the space contains images although it may not, other spaces than `SPACES`, or no
            features, or elapsed_time is not one number.
    """
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    if carries_time(space):
        del parts[ELAPSED_TIME]
    elif names := [key for key in parts if key.lower().replace("_", "") in OTHER_NAMES]:
        warnings.warn(
            f"the observation {names[0]!r} is a feature like the others; if it is the time since "
            f"the previous observation, name it {ELAPSED_TIME!r}, in seconds, to drive the neurons",
            stacklevel=2,
        )
    for key, part in parts.items():
        if is_image_space(part) and (not images or key == PRIVILEGED):
            raise ValueError(
                f"observation {key or 'space'!r} is an image {part.shape}, and circuits take "
                "vectors; LiquidPPO and LiquidSAC have an encoder for actors' images, and "
                "elsewhere an observation wrapper has to extract features"
            )
        if not isinstance(part, SPACES) or (
            isinstance(part, spaces.MultiDiscrete) and part.nvec.ndim > 1
        ):
            raise ValueError(
                f"observation {key or 'space'!r} is a {part}, and Box, Discrete, MultiBinary and "
                "MultiDiscrete of one axis are supported, or a Dict of them; flatten it in an "
                "observation wrapper"
            )
    if empty := [key for key, part in parts.items() if not get_flattened_obs_dim(part)]:
        raise ValueError(f"observation {empty[0] or 'space'!r} has no numbers; leave it out")
    if not parts.keys() - {PRIVILEGED}:
        hidden = " and privileged" if parts else ""
        raise ValueError(f"the observation space has only elapsed_time{hidden}; add an observation")
    return sum(int(get_flattened_obs_dim(part)) for part in parts.values())  # of NumPy, from SB3


def privileged_count(space: spaces.Space[Any]) -> int:
    """Return the size of a space's privileged features."""
    if not isinstance(space, spaces.Dict) or PRIVILEGED not in space.spaces:
        return 0
    return int(get_flattened_obs_dim(space[PRIVILEGED]))


def image_spaces(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    """Return the images of an observation by their keys, in the order of its features."""
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    return {key: part for key, part in parts.items() if is_image_space(part)}


def acting_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space of actors' observations, without the key `privileged`."""
    return _without(PRIVILEGED, space)


def without_mask(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space of observations without the key `action_mask`."""
    return _without(ACTION_MASK, space)


def _without(name: str, space: spaces.Space[Any]) -> spaces.Space[Any]:
    if not isinstance(space, spaces.Dict) or name not in space.spaces:
        return space
    parts = [(key, part) for key, part in space.spaces.items() if key != name]
    return spaces.Dict(parts)  # Gymnasium would sort the keys of a dict


def acting_observation(observation: Any) -> Any:
    """Return an observation without the key `privileged`."""
    if not isinstance(observation, Mapping) or PRIVILEGED not in observation:
        return observation
    return {key: part for key, part in observation.items() if key != PRIVILEGED}


def carries_time(space: spaces.Space[Any]) -> bool:
    """Return whether observations of this space carry the elapsed time."""
    if not isinstance(space, spaces.Dict) or ELAPSED_TIME not in space.spaces:
        return False
    shape = space[ELAPSED_TIME].shape
    if shape is None or math.prod(shape) != 1:
        raise ValueError(
            f"elapsed_time must be one number of seconds, got a space of shape {shape}; "
            "VecFrameStack stacks the time too: circuits remember without it, and envs.VecWindow "
            "serves SB3's agents"
        )
    return True


def check_structure(observation: Any, space: spaces.Space[Any]) -> None:
    """Raise a ValueError unless an observation has the structure that a space describes."""
    if isinstance(observation, tuple):
        raise ValueError(
            "predict takes an observation, got a tuple; a Gymnasium env's reset returns "
            "(observation, info), a VecEnv's only the observation"
        )
    given = list(observation) if isinstance(observation, Mapping) else None
    expected = list(space.spaces) if isinstance(space, spaces.Dict) else None
    if _apart_from_mask(given) != _apart_from_mask(expected):
        takes, got = (
            "an array" if keys is None else f"a dict of {', '.join(keys)}"
            for keys in (expected, given)
        )
        raise ValueError(f"predict takes observations of the environment, {takes}; got {got}")


def _apart_from_mask(keys: list[str] | None) -> set[str] | None:
    return None if keys is None else {*keys} - {ACTION_MASK}


class Splitter:
    """Splits batches of observations into features and elapsed time.

    The parts of a Dict are joined in the order of the space, images after vectors, then
    `privileged` and `action_mask`.

    Args:
        space: of a single observation.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self._spaces = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
        self._is_dict, self._is_timed = isinstance(space, spaces.Dict), carries_time(space)
        images = {name for name, part in self._spaces.items() if is_image_space(part)}
        own = [each for each in self._spaces if each not in (ELAPSED_TIME, PRIVILEGED, ACTION_MASK)]
        self._names = sorted(own, key=lambda name: name in images)
        boxes = {name for name, part in self._spaces.items() if isinstance(part, spaces.Box)}
        self._vectors = boxes - images

    def __call__(self, observation: Observation, nominal_interval: float) -> tuple[Tensor, Tensor]:
        """Return features (batch, features) and elapsed time (batch,) in seconds.

        Args:
            observation: as SB3 converts it to tensors; the key `privileged` may be missing, and
                without `action_mask` every action is allowed.
            nominal_interval: seconds; the elapsed time of observations that do not carry it.
        """
        if not self._is_dict:
            assert isinstance(observation, Tensor)
            features = self._flat("", observation)
            return features, features.new_full((len(features),), nominal_interval)
        assert isinstance(observation, dict)
        parts = [self._flat(name, observation[name]) for name in self._names]
        if PRIVILEGED in observation:
            parts.append(self._flat(PRIVILEGED, observation[PRIVILEGED]))
        if ACTION_MASK in self._spaces:
            parts.append(self._mask(observation, len(parts[0])))
        features = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if self._is_timed:
            return features, observation[ELAPSED_TIME].float().flatten()
        return features, features.new_full((len(features),), nominal_interval)

    def _mask(self, observation: dict[str, Tensor], batch: int) -> Tensor:
        if ACTION_MASK in observation:
            return self._flat(ACTION_MASK, observation[ACTION_MASK])
        size = get_flattened_obs_dim(self._spaces[ACTION_MASK])
        return next(iter(observation.values())).new_ones(batch, size, dtype=torch.float32)

    def _flat(self, name: str, part: Tensor) -> Tensor:
        if name not in self._vectors:
            space = self._spaces[name]
            if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
                part = part - torch.as_tensor(space.start, device=part.device)
            processed = preprocess_obs(part, space)
            assert isinstance(processed, Tensor)
            part = processed
        part = part.float()
        return part if part.dim() == 2 else part.unsqueeze(-1).flatten(1)  # also of a number


def bounds_of_elapsed_time(
    nominal_interval: float, *, allow_any_interval: bool = False
) -> tuple[float, float]:
    """Return the seconds between which elapsed times are accepted; see `check_elapsed_time`."""
    if allow_any_interval:
        return 0.0, math.inf
    factor = FURTHEST * (1 + _RELATIVE_ERROR)
    return nominal_interval / factor, nominal_interval * factor


def check_elapsed_time(
    elapsed_time: Tensor, nominal_interval: float, *, allow_any_interval: bool = False
) -> None:
    """Reject elapsed times that no task's control interval can have.

    Args:
        elapsed_time: any shape, seconds.
        nominal_interval: seconds.
        allow_any_interval: accept every positive, finite number.

    Raises:
        ValueError: one is zero, negative or not finite, or more than `FURTHEST` times longer or
            shorter than the nominal interval.
    """
    if not elapsed_time.numel():
        return
    low, high = bounds_of_elapsed_time(nominal_interval, allow_any_interval=allow_any_interval)
    shortest, longest = (bound.item() for bound in torch.aminmax(elapsed_time))
    if low < shortest and longest < high:  # false for NaN
        return
    times = elapsed_time.flatten().tolist()
    index = next(index for index, seconds in enumerate(times) if not low < seconds < high)
    bounds = "positive and finite"
    if not allow_any_interval:
        bounds = (
            f"from 1/{FURTHEST} to {FURTHEST} times the nominal interval of "
            f"{nominal_interval:.6g} seconds"
        )
    raise ValueError(
        f"elapsed_time is in seconds and {bounds}; got {times[index]:.6g} at index {index} of "
        f"{len(times)}. Never normalise it: VecNormalize(env, norm_obs_keys=['observation']). If "
        "the task is that much slower or faster, set its nominal_interval in policy_kwargs, or "
        "allow_any_interval=True"
    )
