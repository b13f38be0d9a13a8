"""Running moments, and the normalisation of observations by them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from liquid_control.policies.moments import ObservationNormalizer, RunningMoments
from tests.policies.conftest import TIMED, draw, make_policy


@pytest.mark.parametrize("parts", [[60], [1, 59], [20, 1, 0, 39], [2] * 30])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_moments_of_parts_equal_numpys_of_the_whole(parts: list[int], offset: float) -> None:
    rows = np.random.default_rng(0).normal(offset, 3.0, (60, 4))
    moments = RunningMoments(4)
    for part in torch.as_tensor(rows).split(parts):
        moments.update(part)
    assert_close(moments.mean.numpy(), rows.mean(axis=0))
    assert_close(moments.variance.numpy(), rows.var(axis=0))
    assert moments.count == 60


def test_leading_axes_are_all_rows() -> None:
    rows = torch.randn(5, 3, 2)
    one, other = RunningMoments(2), RunningMoments(2)
    one.update(rows)
    other.update(rows.flatten(0, 1))
    assert_close(one.state_dict(), other.state_dict())


def test_normalised_features_have_zero_mean_and_unit_variance_and_are_clipped() -> None:
    torch.manual_seed(0)
    rows = torch.randn(1000, 3) * torch.tensor([0.01, 1.0, 100.0]) + 5
    normalizer = ObservationNormalizer(3, clip=4.0)
    assert_close(normalizer(rows[:1]), rows[:1].clamp(-4, 4))
    normalizer.update(rows)
    variance, mean = torch.var_mean(normalizer(rows.double()), dim=0, correction=0)
    assert_close(mean, torch.zeros(3).double(), rtol=0, atol=1e-2)
    assert_close(variance, torch.ones(3).double(), rtol=2e-2, atol=0)
    assert_close(normalizer(rows + 1e6), torch.full_like(rows, 4.0))


def test_loaded_or_copied_moments_normalise_alike() -> None:
    normalizer, loaded = ObservationNormalizer(3), ObservationNormalizer(3)
    normalizer.update(100 * torch.randn(10, 3) + 5)
    loaded.load_state_dict(normalizer.state_dict())
    assert set(loaded.state_dict()) == {"mean", "variance", "count"}
    copied = copy.deepcopy(loaded)
    rows = torch.randn(4, 3)
    assert_close(loaded(rows), normalizer(rows), rtol=0, atol=0)
    copied.load_state_dict(RunningMoments(3).state_dict())
    assert_close(copied(rows), rows)
    assert_close(loaded(rows), normalizer(rows), rtol=0, atol=0)


def test_normalisation_is_no_path_for_training() -> None:
    normalizer = ObservationNormalizer(3)
    normalizer.update(torch.randn(10, 3, requires_grad=True))
    assert not list(normalizer.parameters())
    assert not normalizer.mean.requires_grad


def test_elapsed_time_is_never_normalised() -> None:
    """Observations are scaled, the neurons' elapsed time stays in seconds."""
    policy = make_policy(TIMED)
    seen = draw(TIMED, 1, 3)
    now = {key: value[0] for key, value in seen.items()}
    features, elapsed = policy.observe(policy.obs_to_tensor(now)[0])
    assert elapsed is not None
    np.testing.assert_array_equal(elapsed, now["elapsed_time"][:, 0])
    assert policy.normalizer is not None
    assert policy.normalizer.mean.shape == features.shape[1:] == (2 + 3,)

    times = []
    circuit = policy.actor_circuit
    inner = circuit.activity
    circuit.activity = lambda inputs, state, time, start: (  # type: ignore[method-assign]
        times.append(time) or inner(inputs, state, time, start)
    )
    policy.predict(now)
    np.testing.assert_array_equal(times[0][0], now["elapsed_time"][:, 0])


def test_moments_stay_in_double_precision_where_weights_are_converted() -> None:
    normalizer = ObservationNormalizer(3)
    normalizer.update(1e6 + torch.randn(50, 3, dtype=torch.float64))
    before = {name: each.clone() for name, each in normalizer.state_dict().items()}
    normalizer.half().float().double().float()
    for name, each in normalizer.state_dict().items():
        assert each.dtype is torch.float64
        assert each.equal(before[name])
    assert normalizer.shift.dtype is torch.float32
