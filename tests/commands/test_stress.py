"""`liquid-control evaluate --stress`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from liquid_control import cli
from liquid_control.recipes import RecipeError, load_recipe
from liquid_control.recipes.stress import changed, load_stress, under

RECIPE = """
task: InvertedPendulum-v5
env:
  sensors: [{kind: quantize, step: 0.001}, {kind: noise, std: 0.3}]
  events: [{kind: push, every: 5.0, impulse: 0.1}, {kind: change, at: 1.0, mass: 2.0}]
agent: {total_timesteps: 64, n_steps: 64, n_epochs: 1}
policy: {wiring: {kind: dense, neurons: 4}, critic_layers: [4]}
monitoring: {every: null}
evaluation: {episodes: 1, ratios: [1]}
"""
STRESS = """
episodes: 3
noise: [0, 0.1]
actuator_delay: [0, 0.04]
changes:
  motor fails: {at: 0.2, gain: 0}
after: 0.5
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stress")
    (folder / "recipe.yaml").write_text(RECIPE)
    run = folder / "run"
    arguments = [str(folder / "recipe.yaml"), "--folder", str(run), "--quiet"]
    assert cli.main(["train", *arguments]) == 0
    return run


def test_it_writes_a_table_and_a_figure_for_each_test(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "stress.yaml").write_text(STRESS)
    command = ["evaluate", str(trained), "--stress", str(tmp_path / "stress.yaml"), "--quiet"]
    assert cli.main([*command, "--episodes", "2"]) == 0
    (first,) = (trained / "stress").iterdir()
    assert {path.name for path in first.iterdir()} == {
        "stress.csv",
        "noise.png",
        "actuator_delay.png",
        "change-motor_fails.png",
    }
    rows = list(csv.DictReader((first / "stress.csv").open()))
    assert [(row["test"], row["value"], row["window"]) for row in rows] == [
        *((name, value, "all") for name, value in (("noise", "0"), ("noise", "0.1"))),
        *(("actuator_delay", value, "all") for value in ("0", "0.04")),
        *(
            ("motor fails", what, window)
            for what in ("changed", "not changed")
            for window in ("before", "soon after", "later")
        ),
    ]
    assert {row["episodes"] for row in rows} == {"2"}
    means = {(row["test"], row["value"], row["window"]): float(row["mean"]) for row in rows}
    assert all(np.isfinite(mean) for mean in means.values())
    # Until the motor fails, episodes are the same.
    before = [means["motor fails", what, "before"] for what in ("changed", "not changed")]
    assert before[0] == before[1] > 0


def test_a_condition_takes_the_place_of_the_recipes_own_of_that_kind(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    recipe = load_recipe(path)
    kinds = [part["kind"] for part in under(recipe, "noise", 0.2).env.sensors]
    assert kinds == ["quantize", "noise"]
    assert under(recipe, "noise", 0.2).env.sensors[1]["std"] == 0.2
    assert [part["kind"] for part in under(recipe, "noise", 0).env.sensors] == ["quantize"]
    assert under(recipe, "delay", 0).env == recipe.env
    events = changed(recipe, {"at": 3.0, "gain": 0}).env.events
    assert [(event["kind"], event.get("at")) for event in events] == [
        ("change", 3.0),
        ("push", None),
    ]
    assert [event["kind"] for event in changed(recipe, None).env.events] == ["push"]


def test_all_else_of_a_condition_stays_where_and_as_it_was(tmp_path: Path) -> None:
    own = [
        {"kind": "noise", "std": 0.3, "bias": 0.005},
        {"kind": "delay", "low": 0.0, "high": 0.04},
        {"kind": "dropout", "probability": 0.1, "hold": False},
        {"kind": "age"},
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text(
        RECIPE.replace("[{kind: quantize, step: 0.001}, {kind: noise, std: 0.3}]", str(own))
    )
    recipe = load_recipe(path)
    assert list(under(recipe, "noise", 0.3).env.sensors) == own
    assert list(under(recipe, "dropout", 0.1).env.sensors) == own
    later = [own[0], {"kind": "delay", "low": 0.1}, *own[2:]]
    assert list(under(recipe, "delay", 0.1).env.sensors) == later
    assert list(under(recipe, "delay", 0).env.sensors) == [own[0], *own[2:]]


def test_what_critics_alone_observe_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("env:", "env:\n  privileged: drawn", 1))
    recipe = load_recipe(path)
    assert recipe.env.privileged == "drawn"
    assert under(recipe, "noise", 0.1).env.privileged is None
    assert changed(recipe, None).env.privileged is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "delay: [0.1, 1000]",
            "stress file: delay.1: * the delay sensors[2] of 1000 seconds is more",
        ),
        ("changes: {fall: {at: 1, gain: {nope: 0}}}", "changes.fall: * events[0].gain.nope: the"),
        ("changes: {fall: {at: 500, gain: 0}}", "events[0].at is 500 seconds, and episodes end"),
    ],
)
def test_what_does_not_fit_the_task_is_named_before_anything_is_evaluated(
    trained: Path, tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stress.yaml").write_text(text)
    before = sorted(trained.rglob("*"))
    assert cli.main(["evaluate", str(trained), "--stress", str(tmp_path / "stress.yaml")]) != 0
    error = capsys.readouterr().err
    assert all(part.strip() in error for part in message.split("*")), error
    assert sorted(trained.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dropout: [0, 1.5]", "dropout: * probability must be below 1"),
        ("episodes: 3", "nothing to evaluate; give at least one of noise, dropout"),
        ("noise: []", "noise: Tuple should have at least 1 item"),
        ("noise: [0, 1e39]", "noise: * std must be at most 1e+30"),
        ("noise: [-1]", "noise.0: Input should be greater than or equal to 0"),
        ("noises: [1]", "noises: unknown key; did you mean noise?"),
        ("changes: {fall: {gain: 0}}", "changes.fall: * lacks key 'at'"),
        ("changes: {a/b: {at: 1, gain: 0}}", "changes.*: String should match"),
        (
            "changes: {a b: {at: 1, gain: 0}, A_b: {at: 2, gain: 0}}",
            "'a b' and 'A_b' would share a figure; rename one",
        ),
        ("- 1", "a stress file is a mapping of keys"),
    ],
)
def test_what_a_file_cannot_say_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "stress.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_stress(tmp_path / "stress.yaml")
    pattern = [part.strip() for part in message.split("*")]
    assert all(part in str(caught.value) for part in pattern), caught.value
    page, _, heading = caught.value.page.partition("#")
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    assert f"## {heading.replace('-', ' ').capitalize()}" in text


def test_a_file_that_is_missing_is_named_as_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"stres.yaml: no such stress file$"):
        load_stress(tmp_path / "stres.yaml")


def test_rates_and_stress_are_two_evaluations(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stress.yaml").write_text(STRESS)
    options = ["--stress", str(tmp_path / "stress.yaml"), "--ratios", "1"]
    assert cli.main(["evaluate", str(trained), *options]) == 2
    assert "two evaluations" in capfd.readouterr().err
