"""Laws of the statistics, and agreement with rliable."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rliable import metrics
from scipy.stats import mannwhitneyu

from liquid_control.recipes import CommandError
from liquid_control.sweeps import statistics
from liquid_control.sweeps.statistics import (
    Estimate,
    curve,
    estimate_difference,
    estimate_iqm,
    iqm,
    probabilities_of_improvement,
)

RNG = np.random.default_rng(0)


def probability(ours: Any, theirs: Any) -> Estimate:
    """The probability that ours beats theirs, on tasks 0, 1, ..."""
    scores = {"ours": dict(enumerate(ours)), "theirs": dict(enumerate(theirs))}
    return probabilities_of_improvement(
        {
            name: {str(task): np.asarray(each, float) for task, each in tasks.items()}
            for name, tasks in scores.items()
        }
    )["ours", "theirs"]


@pytest.mark.parametrize(
    ("scores", "mean"),
    [
        ([7], 7),
        ([1, 3], 2),
        ([1, 2, 9], 4),  # fewer than four: the mean
        ([1, 2, 4, 1000], 3),
        ([-1000, 1, 2, 3, 4, 5, 6, 1000], 3.5),
    ],
)
def test_interquartile_means_of_known_numbers(scores: list[float], mean: float) -> None:
    assert iqm(np.array(scores, float)) == mean
    assert iqm(RNG.permutation(np.array(scores, float))) == mean
    assert estimate_iqm([np.array(scores, float)]).value == mean


@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=30))
def test_interquartile_means_are_those_of_rliable(scores: list[float]) -> None:
    ours, theirs = iqm(np.array(scores)), metrics.aggregate_iqm(np.array(scores)[:, None])
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-3)


def test_the_interval_of_identical_runs_has_no_width() -> None:
    for tasks in ([np.full(5, 3.3)], [np.full(5, 3.3), np.full(2, 3.3)]):
        each = estimate_iqm(tasks)
        assert each.low == each.value == each.high == pytest.approx(3.3)
        assert each.runs == sum(map(len, tasks))


def test_an_interval_holds_its_estimate_and_narrows_with_more_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "REPLICATIONS", 1000)
    widths = []
    for runs in (5, 50, 500):
        each = estimate_iqm([np.random.default_rng(runs).normal(10, 1, runs)])
        assert each.low <= each.value <= each.high
        widths.append(each.high - each.low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "REPLICATIONS", 300)
    draws = np.random.default_rng(1).normal(0, 1, (100, 20))
    covered = [each.low <= 0 <= each.high for each in (estimate_iqm([draw]) for draw in draws)]
    assert 0.85 <= np.mean(covered) <= 1.0


def test_runs_are_drawn_within_their_task() -> None:
    # If runs were drawn over both tasks, some draws would be of one task only.
    each = estimate_iqm([np.zeros(4), np.ones(4)])
    assert (each.value, each.low, each.high) == (0.5, 0.5, 0.5)


def test_a_single_run_has_no_interval_and_no_run_no_estimate() -> None:
    one = estimate_iqm([np.array([5.0])])
    assert (one.value, one.runs) == (5.0, 1)
    assert np.isnan([one.low, one.high]).all()
    none = estimate_iqm([np.empty(0)])
    assert np.isnan([none.value, none.low, none.high]).all()
    assert none.runs == 0


def test_estimates_repeat_themselves_and_leave_other_draws_alone() -> None:
    scores = [RNG.normal(size=6)]
    np.random.seed(7)  # noqa: NPY002
    first, drawn = estimate_iqm(scores), np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert np.random.random() == drawn  # noqa: NPY002
    assert estimate_iqm(scores) == first


def test_a_curve_is_an_interquartile_mean_at_each_point() -> None:
    scores = RNG.normal(size=(5, 9))
    middle, low, high = curve(scores)
    for point in range(9):
        assert middle[point] == pytest.approx(float(iqm(scores[:, point])))
    assert (low <= middle).all()
    assert (middle <= high).all()
    middle, low, high = curve(scores[:1])
    assert (middle == scores[0]).all()
    assert np.isnan([low, high]).all()


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=7),
    st.lists(st.integers(0, 5), min_size=1, max_size=7),
)
def test_the_probability_is_the_statistic_of_mann_and_whitney(
    ours: list[float], theirs: list[float]
) -> None:
    statistic = mannwhitneyu(ours, theirs, method="asymptotic").statistic
    assert probability([ours], [theirs]).value == pytest.approx(
        statistic / (len(ours) * len(theirs))
    )


def test_probabilities_of_known_scores() -> None:
    better, worse = np.array([3.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0])
    sure = probability([better], [worse])
    assert (sure.value, sure.low, sure.high, sure.runs) == (1, 1, 1, 3)
    assert probability([worse], [better]).value == 0
    assert probability([better], [better]).value == 0.5
    assert probability([better, worse], [worse, better]).value == 0.5  # a task each
    assert metrics.probability_of_improvement(better[:, None], worse[:, None]) == 1
    one = probability([better[:1]], [worse[:1]])
    assert one.value == 1
    assert np.isnan([one.low, one.high]).all()


def test_no_scale_changes_a_probability() -> None:
    ours, theirs = RNG.normal(size=5), RNG.normal(size=4)
    plain = probability([ours], [theirs])
    assert probability([np.exp(ours) * 1e6], [np.exp(theirs) * 1e6]) == plain


def test_both_orders_add_up_to_one_and_only_shared_tasks_count() -> None:
    a, b, c = (RNG.normal(size=size) for size in (5, 4, 3))
    found = probabilities_of_improvement(
        {"a": {"t": a, "u": a}, "b": {"t": b, "v": b}, "c": {"w": c}, "d": {"t": np.empty(0)}}
    )
    assert set(found) == {("a", "b"), ("b", "a")}
    one, other = found["a", "b"], found["b", "a"]
    assert one.value + other.value == pytest.approx(1)
    assert one.low + other.high == pytest.approx(1)
    assert one.value == probability([a], [b]).value
    assert one.runs == other.runs == 4
    assert probabilities_of_improvement({"a": {"t": a}}) == {}


def test_only_intervals_of_three_runs_are_sure() -> None:
    high, low = Estimate(2, 1.5, 2.5, 3), Estimate(1, 0.5, 1.4, 3)
    assert high.surely_above(low)
    assert not low.surely_above(high)
    assert not high.surely_above(Estimate(1, 0.5, 1.6, 3))
    assert not high.surely_above(Estimate(1, 0.5, 1.4, 2))
    assert not Estimate(2, np.nan, np.nan, 1).surely_above(low)


@pytest.mark.parametrize("error", [ImportError("No module named 'rliable'"), TypeError("broken")])
def test_without_rliable_the_remedy_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *others: Any, **named: Any) -> Any:
        if name.startswith("rliable"):
            raise error
        return original(name, *others, **named)

    monkeypatch.delitem(sys.modules, "rliable", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(CommandError, match=r'pip install "liquid-control\[sweep\]"') as caught:
        statistics.check_installed()
    assert str(error) in str(caught.value)


def test_a_difference_is_that_of_interquartile_means_of_all_scores() -> None:
    rng = np.random.default_rng(0)
    theirs = [rng.normal(10.0, 1.0, 12), rng.normal(50.0, 1.0, 12)]
    ours = [each + 5.0 for each in theirs]
    found = estimate_difference(ours, theirs)
    assert found.value == pytest.approx(5.0)
    assert 3.0 < found.low < 5.0 < found.high < 7.0
    assert found.runs == 12
    assert estimate_difference(theirs, ours).high < 0
