"""Episodes consist of whole physics steps and end exactly at their horizon."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liquid_control.envs import (
    DroppedFrames,
    Endpoints,
    Fixed,
    Interval,
    Jitter,
    PerEpisode,
    Trace,
    Uniform,
)
from liquid_control.envs.substeps import check_interval, draw_substeps, to_substeps

TIMESTEP, NOMINAL = 0.01, 0.05


@given(st.integers(1, 10_000), st.floats(-0.499, 0.499), st.sampled_from([0.002, 0.003, 0.01]))
def test_seconds_round_to_the_nearest_step(steps: int, offset: float, timestep: float) -> None:
    assert to_substeps((steps + offset) * timestep, timestep) == steps


def test_a_step_never_vanishes_nor_overflows() -> None:
    assert to_substeps([1e-9, np.inf], TIMESTEP).tolist() == [1, 2**31 - 1]


@given(
    st.one_of(
        st.floats(0.01, 100.0).map(Fixed),
        st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)).map(lambda r: Uniform(*sorted(r))),
        st.floats(0.0, 0.999).map(DroppedFrames),
        st.just(Jitter(1.0, 0.8)),
    ),
    st.integers(1, 3000),
    st.integers(0, 2**32),
)
def test_an_episode_adds_up_to_its_horizon(interval: Interval, horizon: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    substeps = draw_substeps(interval, rng, NOMINAL, TIMESTEP, horizon)
    low, high = (int(to_substeps(bound, TIMESTEP)) for bound in interval.bounds(NOMINAL))
    assert substeps.sum() == horizon
    assert (substeps[:-1] >= low).all()
    assert (substeps <= high).all()
    assert substeps[-1] >= 1


def test_intervals_shorter_than_a_physics_step_raise(tmp_path) -> None:
    (tmp_path / "trace.csv").write_text("0.0\n0.1\n0.104\n")
    for interval in (
        Fixed(0.004),
        PerEpisode(Uniform(0.004, 0.1)),
        Trace(str(tmp_path / "trace.csv")),
    ):
        with pytest.raises(ValueError, match=r"interval 0\.004 s is shorter than one physics step"):
            check_interval(interval, NOMINAL, TIMESTEP)
    with pytest.raises(ValueError, match=r"of 0\.01 s; use at least 0\.01"):
        check_interval(Jitter(limit=0.9), NOMINAL, TIMESTEP)


def test_rounding_a_requested_interval_warns() -> None:
    with pytest.warns(UserWarning, match=r"0\.023 s is not a multiple .* 0\.02 s is used"):
        check_interval(Fixed(0.023), NOMINAL, TIMESTEP)
    with pytest.warns(UserWarning, match=r"0\.048 s is not a multiple .* 0\.05 s is used"):
        check_interval(PerEpisode(Endpoints(0.01, 0.048)), NOMINAL, TIMESTEP)


@pytest.mark.parametrize(
    "interval", [Fixed(), Fixed(0.03), Fixed(0.1 * 3), Uniform(0.023, 0.048), DroppedFrames(0.1)]
)
def test_rounding_a_drawn_interval_does_not_warn(interval: Interval) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_interval(interval, NOMINAL, TIMESTEP)
