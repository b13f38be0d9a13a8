"""The loss of proximal policy optimisation, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from liquid_control.kernels.learning import SurrogateOptions, gaussian_surrogate
from liquid_control.policies import LiquidPolicy
from liquid_control.policies.distributions import Gaussian
from liquid_control.policies.fused import FusedPolicy
from liquid_control.storage.sequences import Minibatch


class Losses(NamedTuple):
    """The loss, its parts, and how far the policy has moved; all without gradients."""

    loss: Tensor
    policy_gradient_loss: Tensor
    value_loss: Tensor
    entropy_loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


def surrogate(
    policy: LiquidPolicy,
    fused: FusedPolicy | None,
    minibatch: Minibatch,
    options: SurrogateOptions,
) -> tuple[Losses, Callable[[], None]]:
    """Compute the clipped surrogate loss (Schulman et al. 2017, eq. 9).

    Args:
        policy: to train.
        fused: its fused passes, or None for autograd.
        minibatch: to learn from; its extra columns are the inputs of the fused passes, or missing.
        options: of the loss.

    Returns:
        losses, and a function that sets the gradients of the policy's parameters.
    """
    sequences = minibatch.features, minibatch.elapsed_time, minibatch.state, minibatch.episode_start
    if fused is None:
        values, log_prob, entropy, _ = policy.evaluate_actions(*sequences, minibatch.actions)
        loss, losses = _surrogate(values, log_prob, entropy, minibatch, options)

        def backward() -> None:
            policy.optimizer.zero_grad()
            loss.backward()

        return losses, backward

    parameters, values = fused.evaluate(*sequences, minibatch.extra)
    if policy.log_std is not None and type(policy.distribution) is Gaussian:
        results, (d_parameters, d_log_std, d_values) = gaussian_surrogate(
            fused.module,
            (
                parameters,
                policy.log_std,
                values,
                minibatch.actions.flatten(0, 1),
                minibatch.log_prob,
                minibatch.values,
                minibatch.advantages,
                minibatch.returns,
            ),
            options,
        )
        gradients = d_parameters, d_values, d_log_std
        return Losses(*results.unbind()), lambda: fused.backward(*gradients)

    parameters.requires_grad_(), values.requires_grad_()
    mask = policy.mask_of(minibatch.features.flatten(0, 1))
    distribution = policy.distribution_with(parameters, mask)
    log_prob = distribution.log_prob(minibatch.actions.flatten(0, 1)).view_as(minibatch.values)
    entropy = distribution.entropy()
    loss, losses = _surrogate(values.view_as(log_prob), log_prob, entropy, minibatch, options)
    d_parameters, d_values = torch.autograd.grad(loss, (parameters, values))
    return losses, lambda: fused.backward(d_parameters.contiguous(), d_values.contiguous())


def _surrogate(
    values: Tensor,
    log_prob: Tensor,
    entropy: Tensor | None,
    minibatch: Minibatch,
    options: SurrogateOptions,
) -> tuple[Tensor, Losses]:
    """Return the loss with its gradient, and the losses without."""
    advantages = minibatch.advantages
    if options.normalize_advantage and advantages.numel() > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_ratio = log_prob - minibatch.log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - options.clip_range, 1 + options.clip_range)
    policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()

    if (change := options.clip_range_vf) is not None:
        values = minibatch.values + (values - minibatch.values).clamp(-change, change)
    value_loss = mse_loss(minibatch.returns, values)
    entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
    loss = policy_loss + options.ent_coef * entropy_loss + options.vf_coef * value_loss
    with torch.no_grad():
        losses = Losses(
            loss.detach(),
            policy_loss.detach(),
            value_loss.detach(),
            entropy_loss.detach(),
            approx_kl=(ratio - 1 - log_ratio).mean(),  # Schulman's estimator k3
            clip_fraction=((ratio - 1).abs() > options.clip_range).float().mean(),
        )
    return loss, losses
