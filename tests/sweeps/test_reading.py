"""A study is read from its folders, and results.csv says what was read."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liquid_control.recipes import CommandError
from liquid_control.sweeps.reading import read_study
from liquid_control.sweeps.results import Row, RunResult, read_results, write_results
from tests.sweeps.studies import (
    TASK,
    evaluation,
    write_json,
    write_log,
    write_recipe,
    write_run,
    write_study,
)


def only_run(study: Path) -> RunResult:
    (run,) = read_study(study).runs
    return run


def test_a_finished_run_has_a_row_for_each_condition(tmp_path: Path) -> None:
    write_run(tmp_path / "ncp_ppo" / "3", 1000.0, seed=3, seconds=600)
    rows = read_study(tmp_path).rows()
    assert [(row.condition, row.interval, row.mean_return) for row in rows] == [
        ("as trained", 0.06, 1000.0),
        ("0.5x nominal", 0.025, 1100.0),
        ("1x nominal", 0.05, 1000.0),
        ("2x nominal", 0.1, 800.0),
    ]
    for row in rows:
        assert replace(row, interval=None, condition="", mean_return=None) == Row(
            task=TASK,
            observe="positions",
            agent="ppo",
            neurons="cfc",
            recipe="ncp_ppo",
            seed=3,
            steps=100_000,
            status="finished",
            interval=None,
            condition="",
            mean_return=None,
            std_return=10.0,
            episodes=20,
            seconds=600.0,
            total_timesteps=100_000,
        )


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", seeds=2)
    write_run(study / "half_cheetah-ncp_ppo" / "7", seed=7, status="interrupted", share=0.3)
    write_run(study / 'a,"b\n<i>' / "0", 0.1 + 0.2)
    (study / "half_cheetah-ncp_ppo" / "1" / "config.yaml").unlink()
    rows = read_study(study).rows()
    path = tmp_path / "results.csv"
    write_results(path, rows)
    assert read_results(path) == rows
    assert len(path.read_text().splitlines()) == len(rows) + 1
    again = tmp_path / "again.csv"
    write_results(again, read_results(path))
    assert again.read_bytes() == path.read_bytes()


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    for text in ("", "a,b\n1,2\n", ",".join(Row.__dataclass_fields__) + "\na,b\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"results\.csv"):
            read_results(path)


def test_runs_that_are_not_finished_have_a_row_with_what_is_known(tmp_path: Path) -> None:
    write_run(tmp_path / "ncp" / "0", status="training", share=0.5, seconds=300)
    write_json(
        tmp_path / "ncp" / "0" / "fault-500.json", {"quantity": "the reward", "timesteps": 500}
    )
    run = only_run(tmp_path)
    assert (run.status, run.steps, run.seconds, run.score) == ("training", 50_000, 150.0, None)
    assert "it has reached 50,000 of 100,000 control steps" in run.reason
    assert "its process was killed" in run.reason
    assert "the reward was not finite after 500 control steps" in run.reason
    (row,) = run.rows()
    assert (row.condition, row.mean_return, row.steps) == ("", None, 50_000)


def test_steps_are_those_of_the_log_if_a_training_was_killed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ncp" / "0", status="training", share=0.5)
    write_json(folder / "run.json", {"status": "training", "steps": 0, "recipe": {}})
    assert only_run(tmp_path).steps == 50_000
    (folder / "progress.csv").unlink()
    assert only_run(tmp_path).steps == 0
    assert only_run(tmp_path).seconds is None


def test_a_reason_in_run_json_is_reported_on_one_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ncp" / "0", status="failed", share=0.5)
    state = json.loads((folder / "run.json").read_text())
    write_json(folder / "run.json", state | {"reason": "out of\n\x1b[31mmemory \ud800"})
    run = only_run(tmp_path)
    assert run.status == "failed"
    assert "out of [31mmemory" in run.reason
    assert run.reason.isprintable()


@pytest.mark.parametrize(("evaluated", "status"), [(True, "finished"), (False, "unknown")])
def test_a_run_of_an_earlier_version_is_finished_if_it_was_trained_and_evaluated(
    evaluated: bool, status: str, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "ncp" / "0")
    (folder / "run.json").unlink()
    if not evaluated:
        (folder / "evaluation.json").unlink()
    assert only_run(tmp_path).status == status


def test_without_a_recipe_the_plan_of_the_study_counts(tmp_path: Path) -> None:
    study = write_study(tmp_path, recipes=["ncp"], seeds=1)
    (study / "hopper-ncp" / "0" / "config.yaml").unlink()
    runs = {run.recipe: run for run in read_study(study).runs}
    assert runs["hopper-ncp"].task == "Hopper-v5"
    assert (runs["hopper-ncp"].seed, runs["hopper-ncp"].observe) == (0, "full")
    (study / "study.json").unlink()
    assert {run.recipe: run.task for run in read_study(study).runs}["hopper-ncp"] == ""


def test_the_seed_is_that_of_the_recipe_or_of_the_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "ncp" / "20260131-120000-4", seed=9)
    assert only_run(tmp_path).seed == 9
    (tmp_path / "ncp" / "20260131-120000-4" / "config.yaml").unlink()
    assert only_run(tmp_path).seed == 4


def test_runs_that_wait_are_listed_in_the_order_of_the_plan(tmp_path: Path) -> None:
    study = write_study(tmp_path, seeds=2)
    plan = json.loads((study / "study.json").read_text())
    write_json(study / "study.json", plan | {"seeds": [0, 1, 10]})
    shutil.rmtree(study / "hopper-lstm_ppo" / "1")
    runs = read_study(study).runs
    assert [run.path for run in runs if run.status == "not started"] == [
        "half_cheetah-ncp_ppo/10",
        "half_cheetah-lstm_ppo/10",
        "half_cheetah-dense_ppo/10",
        "hopper-ncp_ppo/10",
        "hopper-lstm_ppo/1",
        "hopper-lstm_ppo/10",
        "hopper-dense_ppo/10",
    ]
    assert list(dict.fromkeys(run.recipe for run in runs)) == list(plan["recipes"])
    assert [run.seed for run in runs[:3]] == [0, 1, 10]


def test_trials_are_sorted_by_number_and_none_waits(tmp_path: Path) -> None:
    for trial in (10, 9, 100):
        write_run(tmp_path / f"trial-{trial}" / "0")
    write_json(tmp_path / "study.json", {"version": 1, "recipes": {"ncp": {}}, "seeds": [0, 1]})
    runs = read_study(tmp_path).runs
    assert [run.recipe for run in runs] == ["trial-9", "trial-10", "trial-100"]


def test_huge_plans_are_cut_short(tmp_path: Path) -> None:
    write_run(tmp_path / "ncp" / "0")
    recipes = {f"recipe{index}": {} for index in range(5000)}
    plan = {"version": 1, "recipes": recipes, "seeds": list(range(5000))}
    write_json(tmp_path / "study.json", plan)
    assert len(read_study(tmp_path).runs) == 10_001


def test_folders_without_runs_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no such folder"):
        read_study(tmp_path / "nowhere")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "ncp" / "logs").mkdir(parents=True)
    with pytest.raises(CommandError, match="no runs in it"):
        read_study(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="there is no such folder"):
        read_study(tmp_path / "file")


@pytest.mark.parametrize("version", [0, 2, 10**30])
def test_a_study_of_another_version_is_an_error(version: int, tmp_path: Path) -> None:
    write_run(tmp_path / "ncp" / "0")
    write_json(tmp_path / "study.json", {"version": version})
    with pytest.raises(CommandError, match="reads version 1"):
        read_study(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": true}', '{"version": "1"}'])
def test_a_plan_that_cannot_be_used_is_named_and_runs_are_read(text: str, tmp_path: Path) -> None:
    write_run(tmp_path / "ncp" / "0")
    (tmp_path / "study.json").write_text(text)
    study = read_study(tmp_path)
    assert len(study.runs) == 1
    (problem,) = study.problems
    assert problem.startswith("study.json ")


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = write_run(tmp_path / "elsewhere" / "ncp" / "0")
    study = tmp_path / "study"
    folder = write_run(study / "ncp" / "0")
    (study / "ncp" / "1").symlink_to(secret)
    (study / "other").symlink_to(secret.parent)
    (folder / "evaluation.json").unlink()
    (folder / "evaluation.json").symlink_to(secret / "evaluation.json")
    found = read_study(study)
    (run,) = found.runs
    assert run.conditions == ()
    assert any("evaluation.json is a link" in problem for problem in run.problems)
    assert sorted(problem.split(" ")[0] for problem in found.problems) == ["1", "other"]


BROKEN: dict[str, Any] = {
    "mean_return": [math.nan, math.inf, 1e300, 10**400, "1", None, True, []],
    "std_return": [math.nan, -1, "x"],
    "interval_s": [0, -1, math.nan, "0.05", 1e300],
    "ratio": [0, math.nan, [1]],
    "episodes": [0, "20", math.nan],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in BROKEN.items() for value in values]
)
def test_results_that_make_no_sense_are_left_out_and_named(
    key: str, value: Any, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "ncp" / "0")
    data = evaluation(1000.0)
    data["trained"][key] = value
    write_json(folder / "evaluation.json", data)
    run = only_run(tmp_path)
    assert [each.name for each in run.conditions] == ["0.5x nominal", "1x nominal", "2x nominal"]
    assert run.score is None
    assert any("as trained has no usable results" in problem for problem in run.problems)


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "progress.csv", "evaluation.json"])
@pytest.mark.parametrize("kind", ["missing", "empty", "half", "garbage", "device", "secret"])
def test_any_file_may_be_broken(name: str, kind: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ncp" / "0")
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if kind == "device":
        os.mkfifo(path)
    elif kind == "secret":
        path.mkdir(mode=0)
    elif kind != "missing":
        halves = {"empty": b"", "half": content[: len(content) // 2], "garbage": b"\xff\x00{\n" * 9}
        path.write_bytes(halves[kind])
    run = only_run(tmp_path)
    assert run.recipe == "ncp"
    if kind not in {"missing", "half"} and (name, kind) != ("progress.csv", "empty"):
        assert any(problem.startswith(name) for problem in run.problems)
    assert list(run.rows())


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
KEYS = [
    "task",
    "env",
    "agent",
    "policy",
    "seed",
    "observe",
    "interval",
    "neurons",
    "algorithm",
    "total_timesteps",
    "status",
    "steps",
    "reason",
    "version",
    "trained",
    "intervals",
    "quantity",
    "timesteps",
    "recipes",
    "seeds",
    "command",
    "interval_s",
    "ratio",
    "mean_return",
    "std_return",
    "episodes",
]
KEYED = st.dictionaries(st.sampled_from(KEYS), JSON)
MAPPINGS = st.dictionaries(st.sampled_from(KEYS), JSON | KEYED | st.lists(KEYED, max_size=2))


@settings(max_examples=20)
@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_values_of_any_type_are_read(
    tmp_path_factory: pytest.TempPathFactory, recipe: Any, state: Any, plan: Any
) -> None:
    study = tmp_path_factory.mktemp("study")
    folder = study / "ncp" / "0"
    write_json(folder / "config.yaml", recipe)
    write_json(folder / "run.json", state)
    write_json(folder / "evaluation.json", recipe | plan)
    write_json(folder / "fault-1.json", state)
    write_json(study / "study.json", plan | {"version": 1})
    rows = read_study(study).rows()
    write_results(study / "results.csv", rows)
    assert read_results(study / "results.csv") == rows


def test_names_of_folders_are_made_plain(tmp_path: Path) -> None:
    broken = b"\xff".decode("utf-8", "surrogateescape")
    for name in ("<script>alert(1)<|script>", "=1+1", "a\nb", "größe", broken):
        write_run(tmp_path / name / "0")
    for run in read_study(tmp_path).runs:
        assert run.recipe.isascii()
        assert run.recipe.startswith("'")
        assert "\n" not in run.path


def test_a_log_alone_makes_a_run(tmp_path: Path) -> None:
    write_log(tmp_path / "ncp" / "first" / "progress.csv", [(100, 1, 100, 5.0)])
    run = only_run(tmp_path)
    assert (run.steps, run.status, run.seed, run.task) == (100, "unknown", None, "")


def test_lists_of_observations_are_reported(tmp_path: Path) -> None:
    write_recipe(tmp_path / "ncp" / "0" / "config.yaml", env={"observe": [0, 3]})
    assert only_run(tmp_path).observe == "indices 0 3"
