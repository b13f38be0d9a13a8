"""Curves, thresholds and pooled scores of made-up studies with known results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from liquid_control.sweeps.analysis import (
    improvements,
    learning_curve,
    normalised,
    pooled,
    rate_curve,
    reached,
    threshold_of,
)
from liquid_control.sweeps.comparison import Comparison, compare
from liquid_control.sweeps.reading import read_study
from liquid_control.sweeps.references import references
from tests.sweeps.studies import TASK, write_json, write_log, write_run, write_study


def line(
    folder: Path, slope: float, steps: int, *, status: str = "finished", seed: int = 0
) -> Path:
    """Write a run whose return rises by `slope` each step, logged every 100 steps; 10 steps/s."""
    write_run(folder, slope * steps, seed=seed, status=status)
    rows = [(step, step // 10, 10, slope * step) for step in range(100, steps + 1, 100)]
    write_log(folder / "progress.csv", rows)
    return folder


def comparison_of(study: Path) -> Comparison:
    return compare(read_study(study))


def test_a_learning_curve_is_as_long_as_its_shortest_finished_run(tmp_path: Path) -> None:
    for seed, (slope, steps) in enumerate([(1.0, 1000), (2.0, 2000), (6.0, 1500)]):
        line(tmp_path / "ncp" / str(seed), slope, steps, seed=seed)
    line(tmp_path / "ncp" / "9", 50.0, 300, status="training", seed=9)
    (group,) = comparison_of(tmp_path).groups.values()
    curve = learning_curve(group)
    assert (curve.steps[0], curve.steps[-1], curve.runs) == (100, 1000, 3)
    assert curve.middle == pytest.approx(3 * curve.steps)  # of three runs, the mean
    assert (curve.low <= curve.middle).all()
    ((steps, returns),) = curve.others
    assert returns == pytest.approx(50 * steps)
    without = learning_curve(group, band=False)
    assert without.middle == pytest.approx(curve.middle)
    assert np.isnan([without.low, without.high]).all()


def test_without_a_finished_run_all_runs_make_the_curve(tmp_path: Path) -> None:
    line(tmp_path / "ncp" / "0", 1.0, 500, status="training")
    line(tmp_path / "ncp" / "1", 3.0, 900, status="interrupted", seed=1)
    (group,) = comparison_of(tmp_path).groups.values()
    curve = learning_curve(group)
    assert (curve.steps[-1], curve.runs, len(curve.others)) == (500, 2, 2)
    assert curve.middle == pytest.approx(2 * curve.steps)


def test_runs_without_a_common_step_are_drawn_one_by_one(tmp_path: Path) -> None:
    for seed, step in enumerate((100, 900)):
        folder = write_run(tmp_path / "ncp" / str(seed), seed=seed, status="training")
        write_log(folder / "progress.csv", [(step, 1, 100, 5.0)])
    (group,) = comparison_of(tmp_path).groups.values()
    curve = learning_curve(group)
    assert len(curve.steps) == len(curve.middle) == 0
    assert len(curve.others) == 2
    assert threshold_of(TASK, [curve]) is None


def test_a_log_of_one_row_is_a_curve_of_one_point(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ncp" / "0")
    write_log(folder / "progress.csv", [(100, 1, 100, 5.0)])
    (group,) = comparison_of(tmp_path).groups.values()
    assert learning_curve(group).middle.tolist() == [5.0]


def test_rates_are_ordered_and_held_apart_from_the_training(tmp_path: Path) -> None:
    for seed, mean in enumerate((1000.0, 2000.0, 3000.0)):
        write_run(tmp_path / "ncp" / str(seed), mean, seed=seed)
    (group,) = comparison_of(tmp_path).groups.values()
    curve = rate_curve(group)
    assert curve.names == ("0.5x nominal", "1x nominal", "2x nominal")
    assert curve.intervals == (0.025, 0.05, 0.1)
    assert [each.value for each in curve.estimates] == pytest.approx([2200, 2000, 1600])
    assert (curve.trained_interval, curve.trained.value) == pytest.approx((0.06, 2000))


def test_a_threshold_lies_between_random_actions_and_the_best(tmp_path: Path) -> None:
    line(tmp_path / "slow" / "0", 1.0, 1000)
    line(tmp_path / "fast" / "0", 4.0, 1000)
    curves = [learning_curve(group) for group in comparison_of(tmp_path).groups.values()]
    random = references()[TASK].random
    assert threshold_of(TASK, curves) == pytest.approx(random + 0.8 * (4000 - random))
    assert threshold_of("MyRobot-v0", curves) == pytest.approx(100 + 0.8 * (4000 - 100))
    assert threshold_of(TASK, []) is None


def test_steps_and_seconds_to_a_threshold(tmp_path: Path) -> None:
    for seed, slope in enumerate((1.0, 2.0, 10.0)):
        line(tmp_path / "ncp" / str(seed), slope, 1000, seed=seed)
    (group,) = comparison_of(tmp_path).groups.values()
    result = reached(group, 1500.0)
    assert result.steps.tolist() == [np.inf, 800, 200]
    assert result.seconds.tolist() == [np.inf, 80, 20]
    assert result.successes == 2
    assert reached(group, -1e9).steps.tolist() == [100, 100, 100]
    assert reached(group, 1e9).successes == 0


def test_seconds_to_a_threshold_count_the_time_before_a_resumption(tmp_path: Path) -> None:
    folder = line(tmp_path / "ncp" / "0", 1.0, 1000)
    rows = [(100, 50, 2, 1.0), (200, 100, 2, 2.0), (300, 10, 10, 3.0), (400, 20, 10, 4.0)]
    write_log(folder / "progress.csv", rows)
    (group,) = comparison_of(tmp_path).groups.values()
    assert reached(group, 4.0).seconds.tolist() == [120]


def test_scores_of_tasks_with_a_reference_are_pooled(tmp_path: Path) -> None:
    scale = references()["Hopper-v5"], references()["Ant-v5"]
    for name, shares in {"a": (0.0, 1.0), "b": (0.5, 0.7)}.items():
        for task, share, known in zip(("Hopper-v5", "Ant-v5"), shares, scale, strict=True):
            assert known.reference is not None
            mean = known.random + share * (known.reference - known.random)
            write_run(tmp_path / f"{task[:3]}-{name}" / "0", mean, task=task)
        write_run(tmp_path / f"own-{name}" / "0", 1e6, task="MyRobot-v0")
    comparison = comparison_of(tmp_path)
    tasks, estimates = pooled(comparison)
    assert set(tasks) == {"Hopper-v5", "Ant-v5"}
    assert {name: each.value for name, each in estimates.items()} == pytest.approx(
        {"a": 0.5, "b": 0.6}
    )
    with pytest.raises(ValueError, match="no reference"):
        normalised(comparison.groups["MyRobot-v0", "a"])


def test_a_task_that_a_recipe_has_not_finished_is_not_pooled(tmp_path: Path) -> None:
    study = write_study(tmp_path, recipes=["a", "b"], seeds=1)
    write_json(study / "hopper-b" / "0" / "run.json", {"status": "training", "steps": 0})
    tasks, estimates = pooled(comparison_of(study))
    assert tasks == ("HalfCheetah-v5",)
    assert set(estimates) == {"a", "b"}


def test_improvements_count_tasks_of_any_scale(tmp_path: Path) -> None:
    for name, shift in {"a": 0.0, "b": 1.0}.items():
        for seed in range(3):
            write_run(tmp_path / f"x-{name}" / str(seed), shift + seed / 9, seed=seed)
            write_run(
                tmp_path / f"y-{name}" / str(seed), 1e6 * (seed - shift), task="Own-v0", seed=seed
            )
    comparison = comparison_of(tmp_path)
    found = improvements(comparison, comparison.variants)
    # On one task b always wins; on the other it wins against lower seeds.
    assert found["b", "a"].value == pytest.approx((1 + (1 + 2 / 2) / 9) / 2)
    assert found["a", "b"].value == pytest.approx(1 - found["b", "a"].value)
