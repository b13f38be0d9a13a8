"""Our Gaussian against SB3's, of which it is a faster form."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
)
from torch.testing import assert_close

from liquid_control.policies.distributions import Gaussian, make_distribution

ROWS, ACTIONS = 7, 3


@pytest.mark.parametrize("quantity", ["log_prob", "entropy"])
def test_values_and_gradients_are_those_of_sb3(quantity: str) -> None:
    torch.manual_seed(0)
    mean = torch.randn(ROWS, ACTIONS, dtype=torch.float64, requires_grad=True)
    log_std = torch.randn(ACTIONS, dtype=torch.float64, requires_grad=True)
    actions, weight = torch.randn(2, ROWS, ACTIONS, dtype=torch.float64)
    found = []
    for kind in (Gaussian, DiagGaussianDistribution):
        distribution = kind(ACTIONS).proba_distribution(mean, log_std)
        asked = (actions,) if quantity == "log_prob" else ()
        rows = getattr(distribution, quantity)(*asked)
        assert rows.shape == (ROWS,)
        loss = (weight[:, 0] * rows).sum()
        found.append((rows, torch.autograd.grad(loss, (mean, log_std), materialize_grads=True)))
    assert_close(*found)


def test_samples_have_the_mean_and_the_deviation_and_the_mode_is_the_mean() -> None:
    torch.manual_seed(0)
    mean, log_std = torch.tensor([[-1.0, 0.0, 5.0]]), torch.tensor([-2.0, 0.0, 1.0])
    distribution = Gaussian(ACTIONS).proba_distribution(mean.expand(100_000, -1), log_std)
    deviation, centre = torch.std_mean(distribution.get_actions(), dim=0)
    assert_close(centre, mean[0], rtol=0, atol=0.05)
    assert_close(deviation, log_std.exp(), rtol=0.02, atol=0)
    assert_close(distribution.get_actions(deterministic=True)[:1], mean)


def test_boxes_are_gaussian_and_other_spaces_are_left_to_sb3() -> None:
    box = make_distribution(spaces.Box(-1.0, 1.0, (2, 3)))
    assert isinstance(box, Gaussian)
    assert box.action_dim == 6
    assert isinstance(make_distribution(spaces.Discrete(3)), CategoricalDistribution)
