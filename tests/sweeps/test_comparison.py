"""Which runs are compared with each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from liquid_control.sweeps.comparison import compare, unfinished, variants_of
from liquid_control.sweeps.reading import read_study
from tests.sweeps.studies import evaluation, write_json, write_run, write_study


def test_recipes_of_several_tasks_are_compared_without_the_tasks_part(tmp_path: Path) -> None:
    comparison = compare(read_study(write_study(tmp_path, seeds=1)))
    assert comparison.tasks == ("HalfCheetah-v5", "Hopper-v5")
    assert comparison.variants == ("ncp_ppo", "lstm_ppo", "dense_ppo")
    assert len(comparison.groups) == 6
    for (task, variant), group in comparison.groups.items():
        (run,) = group.runs
        assert run.task == task
        assert run.recipe.endswith(f"-{variant}")


@pytest.mark.parametrize(
    "recipes",
    [
        {"half_cheetah-ncp": "HalfCheetah-v5", "half_cheetah-lstm": "HalfCheetah-v5"},  # one task
        {"a-ncp": "Hopper-v5", "a-lstm": "Ant-v5"},  # one first part for two tasks
        {"a-ncp": "Hopper-v5", "b-ncp": "Hopper-v5", "c-ncp": "Ant-v5"},  # two for one task
        {"a-ncp": "Hopper-v5", "a-lstm": "Ant-v5", "b-ncp": "Ant-v5"},
        {"a-ncp": "Hopper-v5", "lstm": "Ant-v5"},  # nothing else in the name
        {"a-": "Hopper-v5", "b-": "Ant-v5"},
    ],
)
def test_otherwise_they_keep_their_names(recipes: dict[str, str], tmp_path: Path) -> None:
    for name, task in recipes.items():
        write_run(tmp_path / name / "0", task=task)
    runs = read_study(tmp_path).runs
    assert variants_of(runs) == {run.recipe: run.recipe for run in runs}


def test_only_finished_runs_have_scores_and_each_seed_counts_once(tmp_path: Path) -> None:
    for folder, seed, mean in (("20260101-0", 0, 1.0), ("20260102-0", 0, 2.0), ("a-1", 1, 3.0)):
        write_run(tmp_path / "ncp" / folder, mean, seed=seed)
    extended = write_run(tmp_path / "ncp" / "b-2", seed=2, status="training", share=0.5)
    write_json(extended / "evaluation.json", evaluation(9.0))
    (group,) = compare(read_study(tmp_path)).groups.values()
    assert len(group.runs) == 4
    assert group.scores.tolist() == [2.0, 3.0]
    assert group.returns_under("0.5x nominal").tolist() == pytest.approx([2.2, 3.3])
    assert group.returns_under("7x nominal").tolist() == []


def test_runs_of_an_unknown_task_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "ncp" / "0")
    (write_run(tmp_path / "lost" / "0") / "config.yaml").unlink()
    comparison = compare(read_study(tmp_path))
    assert comparison.variants == ("ncp",)


def test_leading_recipes_have_the_best_mean_rank(tmp_path: Path) -> None:
    scores = {"a": (1.0, 300.0), "b": (3.0, 200.0), "c": (2.0, 400.0), "d": (0.0, 100.0)}
    for name, means in scores.items():
        for task, mean in zip(("Hopper-v5", "Ant-v5"), means, strict=True):
            write_run(tmp_path / f"{task[:3]}-{name}" / "0", mean, task=task)
    write_run(tmp_path / "Ant-none" / "0", task="Ant-v5", status="training", share=0.1)
    comparison = compare(read_study(tmp_path))
    assert comparison.leading(2) == ("b", "c")  # ranks 0 and 2, 1 and 0
    assert comparison.leading(9) == comparison.variants


def test_unfinished_runs_and_those_with_problems_are_listed(tmp_path: Path) -> None:
    write_run(tmp_path / "ncp" / "0")
    write_run(tmp_path / "ncp" / "1", seed=1, status="interrupted", share=0.5)
    write_json(write_run(tmp_path / "ncp" / "2", seed=2) / "evaluation.json", {})
    assert [run.seed for run in unfinished(read_study(tmp_path))] == [1, 2]
