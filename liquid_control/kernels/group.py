"""Acting steps of a policy for several robots, in one call of the kernels each."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from liquid_control.kernels.fused import addresses
from liquid_control.kernels.learner import BodyMemory, NetworkMemory


class Acted(NamedTuple):
    """The actions of several robots.

    Attributes:
        actions: (batch, actions), sampled.
        bounded: the same, clipped to the bounds of the actions.
        state: (batch, size) of the circuit after the step.
    """

    actions: Tensor
    bounded: Tensor
    state: Tensor


class GroupActor:
    """The acting part of a policy as long as its parameters stay where they are.

    Args:
        module: the compiled kernels.
        body: the acting circuit and its encoder, in single precision.
        head: the action head.
        normalizer: shift and scale (features,) of features, or None twice.
        log_std: (actions,), the log-deviation of actions.
        state_size: of the circuit.
        width: number of all features, of which the actor's come first.
        **settings: those of `GroupSettings` in `group.h`.
    """

    def __init__(
        self,
        module: ModuleType,
        body: BodyMemory,
        head: NetworkMemory,
        *,
        normalizer: tuple[Tensor, Tensor] | tuple[None, None],
        log_std: Tensor,
        state_size: int,
        width: int,
        **settings: Any,
    ) -> None:
        where = addresses(normalizer), log_std.data_ptr()
        self._actor = module.GroupActor(body, head, *where, **settings)
        self._width = width
        self._actions, self._state_size = len(log_std), state_size

    def act(
        self, features: Tensor, elapsed_time: Tensor, state: Tensor, episode_start: Tensor
    ) -> Acted | None:
        """Sample actions, with noise from PyTorch's generator.

        Args:
            features: (batch, features), raw.
            elapsed_time: (batch,) seconds.
            state: (batch, size), the circuit's in the first columns.
            episode_start: (batch,) of bool, true where the state resets first.

        Returns:
            None if a feature or an action is not finite, an elapsed time is out of bounds, or a
            shape does not fit the others or the policy.
        """
        batch, shapes = len(features), (elapsed_time.shape, episode_start.shape, state.shape[:1])
        if any(shape != (batch,) for shape in shapes) or not self._fits(features, state):
            return None
        noise = torch.randn(batch, self._actions, dtype=torch.float32, device="cpu")
        after = state.new_empty(batch, self._state_size)
        acted = Acted(torch.empty_like(noise), torch.empty_like(noise), after)
        given = [each.contiguous() for each in (features, elapsed_time, episode_start, state)]
        shape = batch, features.shape[1], state.shape[1]
        tensors = addresses((*given, noise, *acted))
        return acted if self._actor.act(shape, tensors, torch.get_num_threads()) else None

    def _fits(self, features: Tensor, state: Tensor) -> bool:
        """Whether rows hold the numbers that the kernels read from them."""
        return features.shape[1] == self._width and state.shape[1] >= self._state_size
