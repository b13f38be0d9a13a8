"""Masks of the discrete actions that are allowed in a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from liquid_control.policies.observations import ACTION_MASK, OBSERVATION

OUT_OF_REACH = 1e8  # logits; larger than any output of a network


def mask_size(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> int:
    """Return the number of entries of an action mask, zero if observations carry none.

    They are as in sb3-contrib's MaskablePPO: one for each action of a Discrete, for each action of
    each part of a MultiDiscrete, and two, off and on, for each bit of a MultiBinary.

    Raises:
        ValueError: actions are continuous, or the mask has another size.
    """
    if not isinstance(observations, spaces.Dict) or ACTION_MASK not in observations.spaces:
        return 0
    size, space = choices(actions), observations[ACTION_MASK]
    if not isinstance(space, spaces.Box | spaces.MultiBinary) or space.shape != (size,):
        raise ValueError(
            f"{ACTION_MASK} must be MultiBinary({size}) or a Box of shape ({size},), with an entry "
            f"for each choice of {actions}, got {space}"
        )
    return size


def choices(actions: spaces.Space[Any]) -> int:
    """Return the number of entries of a mask of these actions.

    Raises:
        ValueError: actions are continuous.
    """
    sizes = _parts(actions)
    if not sizes:
        raise ValueError(
            f"an {ACTION_MASK} needs actions that are Discrete, MultiDiscrete or MultiBinary, got "
            f"{actions}; clip or scale continuous actions in the environment, and leave out the "
            "key, or the method for masks"
        )
    return sum(sizes)


def with_mask(
    observation: Any, mask: NDArray[Any] | None, space: spaces.Space[Any], size: int
) -> Any:
    """Return an observation with its mask, as the policy of a masked environment takes it.

    An environment with a method for its masks returns observations without the key: the agent adds
    it, and puts an array into the key `observation`.

    Args:
        observation: of one environment or of a batch.
        mask: (size,) or (batch, size); None for the observation's own mask, or for no mask.
        space: of the policy's observations.
        size: entries of a mask, zero if the policy was trained without one.

    Raises:
        ValueError: the policy was trained without masks, or the mask has another shape.
    """
    if not size:
        raise ValueError(
            "action_masks were given, but the policy was trained without; give the environment a "
            f"method action_masks(), or a Dict observation with a key {ACTION_MASK!r}, and train"
        )
    assert isinstance(space, spaces.Dict)
    if not isinstance(observation, Mapping) and space.spaces.keys() == {OBSERVATION, ACTION_MASK}:
        observation = {OBSERVATION: observation}
    if mask is None or not isinstance(observation, Mapping):
        return observation
    mask = np.asarray(mask)
    if mask.shape[-1:] != (size,) or mask.ndim > 2:
        raise ValueError(
            f"action_masks must be ({size},) or (batch, {size}), got {mask.shape}; an entry says "
            "whether an action is allowed"
        )
    return {**observation, ACTION_MASK: mask.astype(space[ACTION_MASK].dtype)}


def check_mask(mask: Tensor, actions: spaces.Space[Any]) -> None:
    """Raise a ValueError unless each choice of each row (batch, size) has an allowed action."""
    for part, each in enumerate(mask.split(_parts(actions), dim=-1)):
        empty = ~(each != 0).any(dim=-1)
        if empty.any():
            row = int(empty.nonzero()[0])
            raise ValueError(
                f"{ACTION_MASK} of row {row} of {len(mask)} allows no action of part {part} of "
                f"{actions}; end the episode, or allow one that does nothing"
            )


def mask_logits(logits: Tensor, mask: Tensor, actions: spaces.Space[Any]) -> Tensor:
    """Return logits (batch, parameters) that give only allowed actions a probability."""
    allowed = mask != 0
    if not isinstance(actions, spaces.MultiBinary):
        return torch.where(allowed, logits, -OUT_OF_REACH)
    off, on = allowed.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.where(on, torch.where(off, logits, OUT_OF_REACH), -OUT_OF_REACH)


def _parts(actions: spaces.Space[Any]) -> list[int]:
    """Return the number of entries for each choice; empty for continuous actions."""
    if isinstance(actions, spaces.Discrete):
        return [int(actions.n)]
    if isinstance(actions, spaces.MultiDiscrete):
        return [int(each) for each in actions.nvec.ravel()]
    if isinstance(actions, spaces.MultiBinary):
        return [2] * int(np.prod(actions.shape))
    return []
