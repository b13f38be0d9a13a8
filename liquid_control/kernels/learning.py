"""The loss of PPO and the step of Adam in the compiled kernels, one call each."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from liquid_control.kernels.fused import IS_DOUBLE, addresses


class SurrogateOptions(NamedTuple):
    """Settings of the loss of PPO; `clip_range_vf` may be None."""

    clip_range: float
    clip_range_vf: float | None
    ent_coef: float
    vf_coef: float
    normalize_advantage: bool


def gaussian_surrogate(
    module: ModuleType, tensors: Sequence[Tensor], options: SurrogateOptions
) -> tuple[Tensor, list[Tensor]]:
    """Compute the loss of PPO for Gaussian actions, and its gradient.

    Args:
        module: the compiled kernels.
        tensors: mean (samples, actions), log_std (actions,), values (samples,), actions like mean,
            and log_prob, values, advantages and returns of the rollout (samples,).
        options: of the loss.

    Returns:
        loss, policy, value and entropy loss, KL divergence and share of clipped samples, (6,), and
        the gradients of the loss with respect to mean, log_std and values.
    """
    mean = tensors[0]
    samples, actions = mean.shape
    sizes = [samples * actions, actions, samples, samples * actions, *[samples] * 4]
    if [each.numel() for each in tensors] != sizes:
        raise ValueError(
            f"tensors of {sizes} numbers needed, got {[each.numel() for each in tensors]}"
        )
    tensors = [
        each if each.dtype is mean.dtype and each.is_contiguous() else each.to(mean).contiguous()
        for each in tensors
    ]
    gradients = list(map(torch.empty_like, tensors[:3]))
    losses = mean.new_empty(6)
    module.surrogate(
        IS_DOUBLE[mean.dtype],
        samples,
        actions,
        addresses(tensors),
        addresses([*gradients, losses]),
        options.clip_range,
        -1.0 if options.clip_range_vf is None else options.clip_range_vf,
        options.ent_coef,
        options.vf_coef,
        options.normalize_advantage,
    )
    return losses, gradients


AdamState = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]
"""Parameter, gradient, its two moments, number of steps, and share of the step of each entry."""


class Norms(NamedTuple):
    """Norms of the gradient before a step, and of the weights after it."""

    gradient: float
    weights: float


class AdamMemory(NamedTuple):
    """Where the states of parameters are in memory, as long as no tensor is moved."""

    is_double: bool
    sizes: list[int]
    addresses: list[int]

    @classmethod
    def of(cls, states: Sequence[AdamState]) -> AdamMemory:
        """Return the memory of states, contiguous and, except the number of steps, of one dtype.

        A missing share means one.
        """
        return cls(
            IS_DOUBLE[states[0][0].dtype],
            [state[0].numel() for state in states],
            addresses([tensor for state in states for tensor in state]),
        )


def clipped_adam(
    module: ModuleType,
    memory: AdamMemory,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    largest: float,
) -> Norms:
    """Scale a gradient to a norm of at most `largest`, and make a step if it is finite.

    Args:
        module: the compiled kernels.
        memory: of the parameters' states.
        lr: learning rate.
        betas: as in `torch.optim.Adam`.
        eps: likewise.
        largest: norm of the gradient. The gradient itself is unchanged.
    """
    return Norms(*module.clipped_adam(*memory, lr, *betas, eps, largest))
