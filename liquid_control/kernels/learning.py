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

    def numbers(self) -> tuple[float, float, float, float, bool]:
        """Return the settings as the kernels take them."""
        without = -1.0 if self.clip_range_vf is None else self.clip_range_vf
        return self.clip_range, without, self.ent_coef, self.vf_coef, self.normalize_advantage


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
        options.numbers(),
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


AdamRates = tuple[float, float, float, float, float]
"""Learning rate, both betas and eps of `torch.optim.Adam`, and the largest norm of a gradient."""


def clipped_adam(module: ModuleType, memory: AdamMemory, rates: AdamRates) -> Norms:
    """Scale a gradient to its largest norm if it exceeds it, and make a step if it is finite.

    Args:
        module: the compiled kernels.
        memory: of the parameters' states.
        rates: of the step.
    """
    return Norms(*module.clipped_adam(*memory, rates))
