"""Time-aware advantages and return normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from torch.testing import assert_close

from liquid_control.agents.returns import ReturnNormalizer, gae, per_step


def test_gae_against_a_table_worked_out_by_hand() -> None:
    """Gamma = lambda = 1/2; steps of 1, 2 and 1 intervals; columns: on, terminated, truncated.

    Discounts are 1/2, 1/4, 1/2 and traces 1/4, 1/16, 1/4 where the episode goes on. First column:
    deltas 1 + 2/2 - 1 = 1, 0 + 4/4 - 2 = -1 and 2 + 8/2 - 4 = 2, so that the advantages are 2,
    -1 + 2/16 = -0.875 and 1 - 0.875/4 = 0.78125. Second: the middle step pays 3 and terminates,
    delta 3 - 2 = 1. Third: it is cut off where the value is 8, delta 8/4 - 2 = 0.
    """
    rewards = torch.tensor([[1.0, 1, 1], [0, 3, 0], [2, 2, 2]])
    values = torch.tensor([[1.0, 1, 1], [2, 2, 2], [4, 4, 4]])
    next_values = torch.tensor([[2.0, 2, 2], [4, 0, 8], [8, 8, 8]])
    durations = torch.tensor([[1.0], [2], [1]]).expand(3, 3)
    discounts = per_step(0.5, durations)
    traces = discounts * per_step(0.5, durations)
    traces[1, 1:] = 0
    expected = torch.tensor([[0.78125, 1.25, 1.0], [-0.875, 1.0, 0.0], [2.0, 2.0, 2.0]])
    assert_close(gae(rewards, values, next_values, discounts, traces), expected)


def test_gae_equals_sb3_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(0)
    steps, envs, gamma, lam = 12, 3, 0.97, 0.9
    space = spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(steps, space, space, gamma=gamma, gae_lambda=lam, n_envs=envs)
    rewards, values = rng.normal(size=(2, steps, envs)).astype(np.float32)
    starts = rng.random((steps + 1, envs)) < 0.3
    for t in range(steps):
        buffer.add(
            np.zeros((envs, 1)),
            np.zeros((envs, 1)),
            rewards[t],
            starts[t].astype(np.float32),
            torch.as_tensor(values[t]),
            torch.zeros(envs),
        )
    last = torch.randn(envs)
    buffer.compute_returns_and_advantage(last, starts[-1])

    ended = torch.as_tensor(starts[1:])
    discounts = torch.where(ended, 0.0, gamma)
    following = torch.cat([torch.as_tensor(values[1:]), last[None]])
    ours = gae(
        torch.as_tensor(rewards), torch.as_tensor(values), following, discounts, discounts * lam
    )
    assert_close(ours.numpy(), buffer.advantages, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("splits", [2, 5])
def test_splitting_a_step_in_time_keeps_the_discount(splits: int) -> None:
    parts = per_step(0.9, torch.full((splits,), 1 / splits, dtype=torch.float64))
    assert_close(parts.prod(), torch.tensor(0.9, dtype=torch.float64))


def test_returns_are_normalised_to_unit_variance_over_rollouts() -> None:
    torch.manual_seed(0)
    normalizer = ReturnNormalizer()
    rewards = 50 * torch.randn(400, 4)
    starts = torch.rand(400, 4) < 0.05
    starts[200, 0] = True  # where the second rollout begins
    discounts = 0.5 + 0.5 * torch.rand(400, 4)
    expected = []
    running = torch.zeros(4)
    for t in range(400):
        running = running * ~starts[t] * discounts[t] + rewards[t]
        expected.append(running)
    for half in (slice(0, 200), slice(200, 400)):
        scaled = normalizer(rewards[half], discounts[half], starts[half])
    variance = torch.stack(expected).double().var(correction=0)
    assert_close(normalizer.variance[0], variance)
    assert_close(scaled, rewards[200:] / variance.sqrt().float(), rtol=1e-5, atol=1e-6)
