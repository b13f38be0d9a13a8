"""Episodes consist of whole physics steps and end exactly at their horizon."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given
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
from liquid_control.envs.substeps import (
    FURTHEST,
    UNUSUAL,
    check_interval,
    draw_substeps,
    substep_bounds,
    to_substeps,
)
from liquid_control.policies import observations

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
    shortest, longest = interval.bounds(NOMINAL)
    assume(not interval.is_range or longest - shortest > TIMESTEP)
    substeps = draw_substeps(interval, rng, NOMINAL, TIMESTEP, horizon)
    low, high = substep_bounds(interval, NOMINAL, TIMESTEP)
    if interval.is_range:
        assert shortest <= low * TIMESTEP * (1 + 1e-6)
        assert high * TIMESTEP <= longest * (1 + 1e-6)
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
    with pytest.warns(UserWarning, match=r"0\.01 to 0\.048 s are .* 0\.01 to 0\.04 s"):
        check_interval(PerEpisode(Endpoints(0.01, 0.048)), NOMINAL, TIMESTEP)
    with pytest.warns(UserWarning, match=r"0\.025 to 0\.1 s are .* 0\.03 to 0\.1 s"):
        check_interval(Uniform(0.025, 0.1), NOMINAL, TIMESTEP)


@pytest.mark.parametrize(
    "interval",
    [Fixed(), Fixed(0.03), Fixed(0.1 * 3), Uniform(0.02, 0.1 * 3), DroppedFrames(0.1), Jitter(0.2)],
)
def test_whole_physics_steps_do_not_warn(interval: Interval) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_interval(interval, 0.08, TIMESTEP)


def test_recorded_intervals_round_to_the_nearest_step_in_silence(tmp_path) -> None:
    (tmp_path / "trace.csv").write_text("0.0\n0.021\n0.050\n")
    trace = Trace(str(tmp_path / "trace.csv"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_interval(trace, NOMINAL, TIMESTEP)
    assert substep_bounds(trace, NOMINAL, TIMESTEP) == (2, 3)


def test_a_range_without_a_physics_step_is_refused() -> None:
    message = r"no multiple .* of 0\.01 s .* from 0\.021 to 0\.028 s; widen it, to 0\.02 or 0\.03 s"
    with pytest.raises(ValueError, match=message):
        check_interval(PerEpisode(Uniform(0.021, 0.028)), NOMINAL, TIMESTEP)


# In seconds and, by mistake, in milliseconds or hertz; relative to a nominal interval of 0.05 s.
@pytest.mark.parametrize("interval", [Uniform(25, 100), Fixed(50), PerEpisode(Fixed(20.0))])
def test_intervals_in_milliseconds_are_refused_unless_they_are_meant(interval: Interval) -> None:
    with pytest.raises(ValueError, match="intervals are in seconds, not milliseconds"):
        check_interval(interval, NOMINAL, TIMESTEP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_interval(interval, NOMINAL, TIMESTEP, allow_any_interval=True)


@pytest.mark.parametrize("scale", [1.0, -1.0], ids=["longer", "shorter"])
def test_intervals_are_unusual_before_they_are_refused(scale: float) -> None:
    def check(factor: float) -> None:
        check_interval(Fixed(20 * factor**scale), 20.0, TIMESTEP)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(UNUSUAL)
    for factor in (UNUSUAL * 1.25, FURTHEST):
        with pytest.warns(UserWarning, match="seconds is .* times the nominal one of 20 seconds"):
            check(factor)
    with pytest.raises(ValueError, match="allow_any_interval=True"):
        check(FURTHEST * 1.25)


def test_policies_refuse_elapsed_times_beyond_the_same_factor() -> None:
    assert observations.FURTHEST == FURTHEST


def test_no_interval_of_an_episode_is_too_short_for_a_policy() -> None:
    """Not even the last one, of a task with more physics steps than `FURTHEST` in an interval."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        substeps = draw_substeps(Uniform(0.1, 1.0), rng, 0.5, 0.002, 2500)
        assert substeps.sum() == 2500
        assert substeps.min() >= 250 / FURTHEST


def test_outages_are_not_longer_than_a_policy_accepts() -> None:
    rng = np.random.default_rng(0)
    substeps = draw_substeps(DroppedFrames(0.999), rng, NOMINAL, TIMESTEP, None)
    assert substeps.max() == FURTHEST * 5
