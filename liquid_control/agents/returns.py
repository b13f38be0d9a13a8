"""Discounted returns and advantages for steps of different durations."""

from __future__ import annotations

import torch
from torch import Tensor

from liquid_control.policies.moments import RunningMoments


def per_step(rate: float, elapsed: Tensor) -> Tensor:
    """Return the discount of steps of `elapsed` nominal intervals, at `rate` per interval."""
    return torch.as_tensor(rate, dtype=elapsed.dtype, device=elapsed.device) ** elapsed


def accumulate(values: Tensor, factors: Tensor, start: Tensor) -> Tensor:
    """Return y_t = values_t + factors_t y_{t-1}, (time, batch); `start` (batch,) is y_{-1}."""
    sums = []
    for value, factor in zip(values.unbind(0), factors.unbind(0), strict=True):
        start = torch.addcmul(value, factor, start)
        sums.append(start)
    return torch.stack(sums)


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    discounts: Tensor,
    traces: Tensor,
) -> Tensor:
    """Return generalised advantage estimates with a separate discount for each step.

    A_t = delta_t + traces_t A_{t+1}, delta_t = rewards_t + discounts_t next_values_t - values_t
    (Schulman et al. 2016, eq. 16, with gamma and lambda raised to the time that a step takes).

    Args:
        rewards: (time, batch), of the step that leaves state t.
        values: (time, batch), of state t.
        next_values: (time, batch), of the state that the step led to, before any reset; zero where
            the episode terminated.
        discounts: (time, batch).
        traces: (time, batch), discount times lambda, zero where an episode ended in any way.

    Returns:
        Advantages (time, batch).
    """
    deltas = rewards + discounts * next_values - values
    return accumulate(deltas.flip(0), traces.flip(0), torch.zeros_like(deltas[0])).flip(0)


class ReturnNormalizer(RunningMoments):
    """Scales rewards so that the discounted return has unit variance at any control rate.

    Args:
        clip: largest normalised reward.
        epsilon: added to the variance.
    """

    def __init__(self, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__(1)
        self.clip = clip
        self.epsilon = epsilon
        self.discounted: Tensor | None = None  # (batch,), returns of the current episodes so far

    @torch.no_grad()
    def forward(self, rewards: Tensor, discounts: Tensor, starts: Tensor) -> Tensor:
        """Update the variance with a rollout's returns, and return its scaled rewards.

        Args:
            rewards: (time, batch).
            discounts: (time, batch), of each step.
            starts: (time, batch), true where the step is the first of its episode.
        """
        if self.discounted is None or self.discounted.shape != rewards.shape[1:]:
            self.discounted = torch.zeros_like(rewards[0])
        returns = accumulate(rewards, torch.where(starts, 0.0, discounts), self.discounted)
        self.discounted = returns[-1]
        self.update(returns.unsqueeze(-1))
        scale = torch.rsqrt(self.variance + self.epsilon).to(rewards.dtype)
        return (rewards * scale).clamp(-self.clip, self.clip)
