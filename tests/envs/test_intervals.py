"""Intervals lie within bounds, depend only on the generator, and survive JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    LogUniform,
    PerEpisode,
    Trace,
    Uniform,
    interval_from,
)

NOMINAL = 0.05

seconds = st.floats(1e-3, 10.0)
ranges = st.tuples(seconds, seconds).map(sorted)
shares = st.floats(0.0, 0.99)
drawn = st.one_of(
    st.builds(Fixed, st.none() | seconds),
    ranges.map(lambda r: Uniform(*r)),
    ranges.map(lambda r: LogUniform(*r)),
    st.builds(lambda r, middle: Endpoints(*r, middle), ranges, shares),
    st.builds(Jitter, st.floats(0.0, 3.0), shares),
    st.builds(DroppedFrames, shares),
)
intervals = drawn | drawn.map(PerEpisode)
seeds = st.integers(0, 2**32)


def schedule(interval: Interval, seed: int = 0, count: int = 64) -> np.ndarray:
    return interval.schedule(np.random.default_rng(seed), count, NOMINAL)


def write(path: Path, *lines: object) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


@given(intervals, seeds)
def test_schedules_stay_within_their_bounds(interval: Interval, seed: int) -> None:
    low, high = interval.bounds(NOMINAL)
    lengths = schedule(interval, seed)
    assert lengths.shape == (64,)
    assert lengths.dtype == np.float64
    assert (lengths >= low).all()
    assert (lengths <= high).all()


@given(intervals, seeds)
def test_the_generator_alone_decides_the_schedule(interval: Interval, seed: int) -> None:
    np.testing.assert_array_equal(schedule(interval, seed), schedule(interval, seed))


@given(intervals)
def test_intervals_survive_json(interval: Interval) -> None:
    again = interval_from(json.loads(json.dumps(interval.to_dict())))
    assert again == interval
    assert hash(again) == hash(interval)


@pytest.mark.parametrize(
    "interval",
    [
        Uniform(0.01, 0.1),
        LogUniform(0.01, 0.1),
        Endpoints(0.01, 0.1),
        Jitter(),
        DroppedFrames(0.5),
        PerEpisode(Uniform(0.01, 0.1)),
    ],
    ids=lambda interval: interval.kind,
)
def test_different_seeds_give_different_schedules(interval: Interval) -> None:
    assert (schedule(interval, 0) != schedule(interval, 1)).any()


def test_fixed_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert (Fixed().schedule(rng, 8, NOMINAL) == NOMINAL).all()
    assert (Fixed(0.02).schedule(rng, 8, NOMINAL) == 0.02).all()
    assert rng.bit_generator.state == before


def test_log_uniform_has_its_median_at_the_geometric_mean() -> None:
    assert np.median(schedule(LogUniform(0.01, 0.16), count=20_000)) == pytest.approx(0.04, rel=0.1)


def test_endpoints_are_mostly_the_two_extremes() -> None:
    lengths = schedule(Endpoints(0.01, 0.1, middle=0.2), count=20_000)
    assert np.mean(lengths == 0.01) == pytest.approx(0.4, abs=0.02)
    assert np.mean(lengths == 0.1) == pytest.approx(0.4, abs=0.02)


def test_jitter_spreads_as_its_std_says() -> None:
    lengths = schedule(Jitter(std=0.1), count=20_000)
    assert np.mean(lengths) == pytest.approx(NOMINAL, rel=0.01)
    assert np.std(lengths) == pytest.approx(0.1 * NOMINAL, rel=0.03)


def test_dropped_frames_are_whole_ticks_with_geometric_gaps() -> None:
    ticks = schedule(DroppedFrames(0.25), count=20_000) / NOMINAL
    np.testing.assert_allclose(ticks, np.rint(ticks))
    assert np.mean(ticks == 1) == pytest.approx(0.75, abs=0.02)
    assert np.mean(ticks) == pytest.approx(1 / 0.75, rel=0.03)


@given(drawn, seeds)
def test_per_episode_draws_once(interval: Interval, seed: int) -> None:
    lengths = schedule(PerEpisode(interval), seed)
    assert (lengths == schedule(interval, seed, count=1)).all()


@pytest.mark.parametrize(
    "lines",
    [
        (0.0, 0.1, 0.3, 0.6),
        ("time", 0.0, 0.1, 0.3, 0.6),
        ("stamp,x", "0.0,9", "0.1,9", "", "0.3,9", "0.6,9"),
        ("x, timestamp", "9,0.0", "9,0.1", "9,0.3", "9,0.6"),
        ("\ufefftimestamp", 1000.0, 1000.1, 1000.3, 1000.6),
    ],
)
def test_trace_replays_the_differences_of_the_timestamps(tmp_path: Path, lines: Any) -> None:
    trace = Trace(write(tmp_path / "trace.csv", *lines))
    recorded = [0.1, 0.2, 0.3]
    assert trace.bounds(NOMINAL) == pytest.approx((0.1, 0.3))
    starts = set()
    for seed in range(20):
        lengths = schedule(trace, seed, count=7)
        start = int(np.argmin(np.abs(np.array(recorded) - lengths[0])))
        expected = [recorded[(start + tick) % 3] for tick in range(7)]
        np.testing.assert_allclose(lengths, expected)
        starts.add(start)
    assert starts == {0, 1, 2}
    assert interval_from(json.loads(json.dumps(trace.to_dict()))) == trace
    assert interval_from({"kind": "trace", "path": tmp_path / "trace.csv"}) == trace


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "holds 0 timestamps"),
        (("timestamp", 0.5), "holds 1 timestamps"),
        ((0.0, 0.2, 0.1), "line 3: timestamp 0.1 does not come after 0.2"),
        ((0.0, 0.0), "line 2: timestamp 0.0 does not come after 0.0"),
        ((0.0, "", "late"), "line 3: 'late' is not a timestamp"),
        ((0.0, "nan"), "line 2: 'nan' is not a timestamp"),
        (("x,timestamp", "1,0.0", "2"), "line 3: '' is not a timestamp"),
    ],
)
def test_an_invalid_trace_raises_with_its_line(tmp_path: Path, lines: Any, message: str) -> None:
    path = write(tmp_path / "trace.csv", *lines)
    with pytest.raises(ValueError, match=message):
        Trace(path)


@pytest.mark.parametrize("content", ["0\n1\n".encode("utf-16"), b"0\n" + b"1" * 200_000])
def test_a_trace_that_is_no_csv_in_utf_8_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"trace file .*trace\.csv' is no CSV in UTF-8: "):
        Trace(path)


def test_a_missing_trace_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"'nowhere\.csv' does not exist"):
        Trace("nowhere.csv")


def test_recipes_accept_numbers_none_and_intervals() -> None:
    assert interval_from(0.02) == Fixed(0.02)
    assert interval_from(np.float64(0.02)) == Fixed(0.02)
    assert interval_from(None) == Fixed()
    assert interval_from({"kind": "fixed"}) == Fixed()
    assert interval_from(Jitter(0.2)) == Jitter(0.2)
    nested = {"kind": "per_episode", "interval": {"kind": "uniform", "low": 0.02, "high": 0.08}}
    assert interval_from(nested) == PerEpisode(Uniform(0.02, 0.08))
    assert interval_from({"kind": "per_episode", "interval": 0.02}) == PerEpisode(Fixed(0.02))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"kind": "gamma"}, ValueError, "kind 'gamma' is unknown; use one of fixed, uniform, log_"),
        ({"low": 0.1}, ValueError, "kind None is unknown"),
        ({"kind": ["uniform"]}, ValueError, "is unknown"),
        ({"kind": "jitter", "sd": 1}, ValueError, "has no key 'sd'; it has"),
        ({"kind": "uniform", "low": 1}, ValueError, "lacks key 'high'; it needs"),
        ({"kind": "trace", "path": "x", "seconds": []}, ValueError, "has no key 'seconds'"),
        ({"kind": "uniform", "low": "a", "high": 1}, TypeError, "low must be a number, got 'a'"),
        ("uniform", TypeError, "an interval is an Interval, a number of seconds"),
        (True, TypeError, "got True"),
        (float("nan"), ValueError, "seconds must be a finite number of seconds above 0, got nan"),
        (-0.1, ValueError, r"got -0\.1"),
    ],
)
def test_invalid_recipes_raise(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        interval_from(value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Uniform(0.2, 0.1), r"low 0\.2 s is above high 0\.1 s"),
        (lambda: LogUniform(0.0, 0.1), "low must be a finite number of seconds above 0"),
        (lambda: Endpoints(0.1, float("inf")), "high must be a finite number"),
        (lambda: Endpoints(0.1, 0.2, 1.5), "middle is a share between 0 and 1"),
        (lambda: Jitter(std=-1.0), "std is a share of the nominal interval"),
        (lambda: Jitter(std=float("nan")), "std is a share of the nominal interval"),
        (lambda: Jitter(limit=1.0), "limit is a share of the nominal interval"),
        (lambda: DroppedFrames(1.0), "probability is at least 0 and below 1"),
    ],
)
def test_invalid_numbers_raise(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_episodes_keeps_its_interval(share: float) -> None:
    interval = PerEpisode(Uniform(0.01, 0.1), share)
    episodes = [schedule(interval, seed) for seed in range(500)]
    constant = np.mean([np.ptp(lengths) == 0 for lengths in episodes])
    assert constant == pytest.approx(share, abs=0.07)
    assert interval_from(interval.to_dict()) == interval
    changing = PerEpisode(Uniform(0.01, 0.1), 0.0)
    assert len(set(schedule(changing, 0))) > 10


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_lies_between_nothing_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        PerEpisode(Uniform(0.01, 0.1), share)


def test_even_steps_make_control_steps_at_constant_rates_equally_common() -> None:
    interval = PerEpisode(Endpoints(0.01, 0.05, middle=0.0), even_steps=True)
    episodes = np.array([schedule(interval, seed)[0] for seed in range(2000)])
    steps = 50.0 / episodes  # of an episode of 50 s
    assert set(episodes) == {0.01, 0.05}
    assert steps[episodes == 0.05].sum() / steps.sum() == pytest.approx(0.5, abs=0.05)
    assert interval_from(interval.to_dict()) == interval


def test_a_schedule_is_that_of_before_without_even_steps() -> None:
    old = {
        "kind": "per_episode",
        "share": 0.5,
        "interval": {"kind": "uniform", "low": 0.01, "high": 0.1},
    }
    assert interval_from(old) == PerEpisode(Uniform(0.01, 0.1), 0.5)


@pytest.mark.parametrize("given", [1, "yes", None])
def test_even_steps_is_a_yes_or_a_no(given: Any) -> None:
    with pytest.raises(TypeError, match="even_steps is true or false"):
        PerEpisode(Uniform(0.01, 0.1), even_steps=given)


def test_per_episode_takes_an_interval_only() -> None:
    with pytest.raises(TypeError, match="PerEpisode takes an Interval"):
        PerEpisode(0.1)  # type: ignore[arg-type]
