"""Runs: their state, their evaluations, and what may be changed when a training goes on."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure

from liquid_control import LiquidPPO, cli
from liquid_control.commands.run_folder import Run, in_use, newest_model
from liquid_control.commands.train import load_weights
from liquid_control.commands.training import watchers
from liquid_control.monitoring import EpisodeCallback, RatesCallback, figures
from liquid_control.recipes import build_agent, build_env, load_recipe
from tests.test_cli import RECIPE, SAC, TINY

CONSTANT = ["agent.learning_rate=1e-3", "agent.recurrent_learning_rate=1e-3"]
SHORT = "monitoring.film_seconds=0.2"


@pytest.fixture(autouse=True, scope="module")
def _unplotted() -> Iterator[None]:
    """Leave plots of evaluations empty; plotting takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "rates", lambda *_, **__: Figure())
        yield


def train(folder: Path, *changes: str) -> Path:
    """Run a short training; return the folder of the run."""
    arguments = ["--quiet", "--runs", str(folder), "--set", *TINY, "checkpoint_every=64", SHORT]
    assert cli.main(["train", str(RECIPE), *arguments, *CONSTANT, *changes]) == 0
    (run,) = folder.glob("*/*")
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of 128 control steps, of which 100 were asked for."""
    return train(tmp_path_factory.mktemp("runs"), "agent.total_timesteps=100")


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of that run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    return Run(Path("run"))


@pytest.fixture
def killed(run: Run) -> Run:
    """The run as it is if its process is killed after 64 control steps."""
    change_state(run, status="training", steps=0)
    for path in (run.model, run.evaluation, run.folder / "evaluation.png"):
        path.unlink()
    shutil.rmtree(run.checkpoints / "step-000000000128")
    return run


@pytest.fixture
def fails(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command, which must fail with one line; it returns the line."""

    def fail(*arguments: str) -> str:
        capfd.readouterr()
        assert cli.main(arguments) == 2
        out, err = capfd.readouterr()
        *notes, line = err.splitlines()
        assert out == ""
        assert all(note.startswith("note: ") for note in notes)
        assert line.startswith("error: ")
        return line

    return fail


def change_state(run: Run, **changes: Any) -> None:
    state = json.loads(run.state.read_text())
    run.state.write_text(json.dumps(state | changes))


def state_of(run: Run) -> tuple[str, int]:
    state = json.loads(run.state.read_text())
    return state["status"], state["steps"]


def edit(run: Run, *overrides: str) -> None:
    run.config.write_text(load_recipe(run.config, overrides).to_yaml())


def files_of(run: Run) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def weights_of(run: Run) -> dict[str, Any]:
    return LiquidPPO.load(run.model).policy.state_dict()


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def packed(run: Run) -> dict[str, bytes]:
    """Pack a run; return the files in the package."""
    assert cli.main(["pack", str(run.folder), "--output", "packed.zip", "--quiet"]) == 0
    with zipfile.ZipFile("packed.zip") as members:
        return {name: members.read(name) for name in members.namelist()}


def test_looking_at_a_run_under_way_changes_none_of_its_files(
    killed: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What a report shows is tested elsewhere, and takes its time to draw.
    monkeypatch.setattr("liquid_control.commands.inspect.report_on", lambda *_, **__: "a report")
    before = files_of(killed)
    with in_use(killed):
        for command in (
            ["evaluate"],
            ["evaluate", "--episodes", "1", "--ratios", "1"],
            ["inspect", "--episodes", "1", "--lesion-episodes", "1", "--lesion-seconds", "0.1"],
            ["record", "--seconds", "0.1"],
        ):
            verb, *options = command
            assert cli.main([verb, str(killed.folder), "--quiet", *options]) == 0
            note = capsys.readouterr().err
            assert "not finished; its agent after 64 of 100 control steps is used" in note
    after = files_of(killed)
    assert {path: after[path] for path in before} == before
    assert {path.relative_to(killed.folder).parts[0] for path in after.keys() - before.keys()} == {
        "evaluations",
        "inspection",
        "report.html",
        "videos",
    }
    assert len(list(killed.evaluations.glob("*.json"))) == 3


def test_evaluations_that_end_at_once_have_names_of_their_own(
    trained: Path, tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(trained, tmp_path / "run")))
    code = "import sys; from liquid_control import cli; "
    code += "from liquid_control.commands import run_folder; "
    code += "run_folder._names = lambda *_: map(str, range(9)); sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "evaluate", str(run.folder), "--quiet"]
    command += ["--episodes", "1", "--ratios", "1"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [each.wait(300) for each in processes] == [0, 0, 0]
    assert sorted(path.name for path in run.evaluations.glob("[!.]*.json")) == [
        "0.json",
        "1.json",
        "2.json",
    ]


def test_a_killed_training_resumes_to_the_same_result(killed: Run, trained: Path) -> None:
    assert cli.main(["evaluate", str(killed.folder), "--quiet"]) == 0
    assert state_of(killed) == ("training", 0)
    assert cli.main(["resume", str(killed.folder), "--quiet"]) == 0
    assert state_of(killed) == ("finished", 128)
    assert killed.evaluation.read_text() == Run(trained).evaluation.read_text()
    assert equal(weights_of(killed), weights_of(Run(trained)))


def test_a_training_that_was_killed_in_its_evaluation_resumes(run: Run, trained: Path) -> None:
    change_state(run, status="training")
    run.evaluation.unlink()
    assert cli.main(["resume", str(run.folder), "--quiet"]) == 0
    assert state_of(run) == ("finished", 128)
    assert run.evaluation.read_text() == Run(trained).evaluation.read_text()


def test_a_training_is_saved_before_its_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a second signal may end at once."""
    saved: list[str] = []

    def examine(*_: Any, **__: Any) -> None:
        saved.extend(path.name for path in tmp_path.glob("*/*/checkpoints/*"))
        raise KeyboardInterrupt

    monkeypatch.setattr("liquid_control.commands.training.examine", examine)
    with pytest.raises(AssertionError):
        train(tmp_path, "agent.total_timesteps=100", "checkpoint_every=null")
    assert {"final.zip", "step-000000000128"} <= {*saved}


def test_the_newest_weights_are_found(run: Run) -> None:
    assert newest_model(run) == run.model
    run.model.write_bytes((run.checkpoints / "best.zip").read_bytes())  # of 64 control steps
    assert newest_model(run).name == "step-000000000128"
    shutil.rmtree(newest_model(run))
    assert newest_model(run) == run.model


@pytest.mark.parametrize("evaluated", [True, False])
def test_runs_of_earlier_versions_are_finished_if_trained_and_evaluated(
    evaluated: bool, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.state.unlink()
    if not evaluated:
        run.evaluation.unlink()
    assert cli.main(["resume", str(run.folder), "--quiet"]) == (2 if evaluated else 0)
    err = capsys.readouterr().err
    assert "has no run.json, so it is not checked whether config.yaml was changed" in err
    assert ("training is finished" in err) == evaluated
    assert run.state.exists() != evaluated


@pytest.mark.parametrize("text", ["", "{}", "[" * 9999, '{"status": "lost", "steps": 0}', "\xff"])
def test_a_damaged_state_is_one_line(text: str, run: Run, fails: Callable[..., str]) -> None:
    run.state.write_bytes(text.encode("latin-1"))
    for verb in ("resume", "evaluate"):
        assert f"{run.state} cannot be read: " in fails(verb, str(run.folder))


def test_the_evaluation_that_the_recipe_asks_for_is_published(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = run.evaluation.read_bytes()
    others: tuple[list[str], ...] = (["--episodes", "1"], ["--ratios", "1"], ["--seed", "7"])
    for other in others:
        assert cli.main(["evaluate", str(run.folder), "--quiet", *other]) == 0
    assert packed(run)["evaluation.json"] == asked

    run.evaluation.unlink()
    assert not {"evaluation.json", "evaluation.png"} & packed(run).keys()
    assert "the 3 episodes at ratios 0.5, 1, 2 that its recipe asks for" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run.folder), "--quiet"]) == 0
    assert packed(run)["evaluation.json"] == asked
    card = packed(run)["README.md"].decode()
    for row in ("| as trained |", "| fixed | 0.02 | 0.5 | 3 |", "| fixed | 0.08 | 2 | 3 |"):
        assert row in card


def test_an_evaluation_of_other_weights_or_other_content_is_not_published(
    run: Run, fails: Callable[..., str]
) -> None:
    results = json.loads(run.evaluation.read_text())
    run.evaluation.write_text(json.dumps(results | {"steps": 64}))
    assert "evaluation.json" not in packed(run)
    run.evaluation.write_text(json.dumps(results | {"intervals": [{"episodes": "<b>"}]}))
    assert "holds no results of an evaluation" in fails("pack", str(run.folder))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("agent.gamma=0.5", "agent.gamma was 0.995, now 0.5"),
        ("seed=3", "seed was 0, now 3"),
        ("policy.wiring.inter=12", "policy.wiring.inter was 10, now 12"),
        ("env.interval=0.04", "env.interval.kind was per_episode, now n"),
        ("agent.total_timesteps=99", "agent.total_timesteps was 100, now 99; it may only grow"),
    ],
)
def test_a_changed_recipe_is_refused_by_key(
    override: str, words: str, run: Run, fails: Callable[..., str]
) -> None:
    before = files_of(run)
    assert words in fails("resume", str(run.folder), "--set", override)
    assert files_of(run) == before
    edit(run, override)
    for verb in ("resume", "evaluate", "pack"):
        assert words in fails(verb, str(run.folder))


def test_an_extended_training_is_a_longer_training(run: Run, tmp_path: Path) -> None:
    first = run.evaluation.read_text()
    more = ["agent.total_timesteps=2e2", "evaluation.episodes=2", "env.threads=1"]
    assert cli.main(["resume", str(run.folder), "--quiet", "--set", *more]) == 0
    straight = Run(train(tmp_path / "straight", *more))
    assert load_recipe(run.config) == load_recipe(straight.config)
    assert state_of(run) == state_of(straight) == ("finished", 256)
    assert equal(weights_of(run), weights_of(straight))
    assert run.evaluation.read_text() == straight.evaluation.read_text()
    logs = [list(csv.DictReader((each.folder / "progress.csv").open())) for each in (run, straight)]
    for mine, theirs in zip(*logs, strict=True):
        assert mine["train/loss"] == theirs["train/loss"]
    (kept,) = run.evaluations.glob("*.json")
    assert kept.read_text() == first
    assert kept.with_suffix(".png").exists()


def test_a_finished_training_says_how_to_extend_it(run: Run, fails: Callable[..., str]) -> None:
    for more in ([], ["--set", "agent.total_timesteps=128"], ["--set", "evaluation.episodes=1"]):
        line = fails("resume", str(run.folder), *more)
        assert "is finished; train on with --set agent.total_timesteps=N" in line
        assert "larger than 128" in line


def test_a_training_may_start_with_the_weights_of_another(run: Run, tmp_path: Path) -> None:
    recipe = load_recipe(run.config, ["agent.gamma=0.5", "policy.log_std_init=0"])
    env = build_env(recipe)
    agent = build_agent(recipe, env)
    assert load_weights(agent, run) == f"{tmp_path.name}/run after 128 steps"
    assert equal(agent.policy.state_dict(), weights_of(run))
    assert agent.num_timesteps == 0
    assert not agent.policy.optimizer.state_dict()["state"]
    env.close()

    arguments = ["train", str(run.config), "--init", str(run.folder), "--quiet"]
    assert cli.main(arguments) == 0
    (second,) = map(Run, Path("runs").glob("*/*"))
    assert state_of(second) == ("finished", 128)
    more = ["--set", "agent.total_timesteps=150"]
    assert cli.main(["resume", str(second.folder), "--quiet", *more]) == 0
    text = "192 control steps, starting with the weights of"
    assert f"{text} {tmp_path.name}/run after 128 steps" in packed(second)["README.md"].decode()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "policy.encoder=[16]",
            "actor.encoder.0.weight of its policy has shape [32, 5]; expected [",
        ),
        ("policy.wiring.seed=1", "its actor.circuit has other neurons or another wiring"),
        ("policy.neuron_kwargs={mode: no_gate}", "its neuron_kwargs: mode='default', and here"),
        ("policy.neurons=ltc", "its policy differs in actor.circuit."),
        ("policy.critic=twin", "its policy differs in critic."),
    ],
)
def test_other_weights_are_refused_by_name(
    override: str, words: str, run: Run, fails: Callable[..., str]
) -> None:
    line = fails("train", str(run.config), "--init", str(run.folder), "--set", override)
    assert f"{run.model} does not fit this recipe: " in line
    assert words in line
    assert not Path("runs").exists()


def test_weights_of_another_agent_are_refused(run: Run, fails: Callable[..., str]) -> None:
    Path("sac.yaml").write_text(SAC)
    line = fails("train", "sac.yaml", "--init", str(run.folder))
    assert "it holds a LiquidPPO, and this is LiquidSAC" in line


@pytest.mark.parametrize("verb", ["resume", "evaluate", "pack"])
@pytest.mark.parametrize(
    "name",
    ["events.out.tfevents.1", "progress.csv", ".lock", "config.yaml", "evaluation.png", "videos",
     "checkpoints/final.zip", "checkpoints/step-000000000256"],
)  # fmt: skip
def test_links_in_a_run_are_refused(
    name: str, verb: str, run: Run, fails: Callable[..., str]
) -> None:
    path, target = run.folder / name, Path("target")
    if path.is_file():
        target.write_bytes(path.read_bytes())
        path.unlink()
    else:
        target.write_bytes(b"")
    path.symlink_to(target.absolute())
    before = target.read_bytes()
    assert f"{path} is a link or device" in fails(verb, str(run.folder))
    assert target.read_bytes() == before


def test_a_device_in_a_run_is_refused(run: Run, fails: Callable[..., str]) -> None:
    run.config.unlink()
    os.mkfifo(run.config)
    assert "is a link or device" in fails("evaluate", str(run.folder))


def test_the_card_gives_the_steps_that_were_trained(run: Run) -> None:
    assert "for\n128 control steps, seed 0." in packed(run)["README.md"].decode()
    run.model.write_bytes((run.checkpoints / "best.zip").read_bytes())
    text = "for\n64 control steps of 100, so that its training is not finished, seed 0."
    assert text in packed(run)["README.md"].decode()


def test_html_and_control_characters_do_not_reach_the_card(run: Run) -> None:
    run.state.unlink()
    recipe = yaml.safe_load(run.config.read_text())
    recipe["policy"]["neurons"] = "<script>alert(1)</script>\x1b[31m"
    run.config.write_text(yaml.safe_dump(recipe))
    card = packed(run)["README.md"].decode()
    assert "<script>" not in card
    assert "\x1b" not in card
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m" in card


def full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda patch, _: patch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere"), "FFmpeg is missing"),
        (lambda patch, _: patch.setattr(Path, "write_bytes", full), "No space left on device"),
        (lambda _, run: run.videos.write_bytes(b""), "File exists"),
    ],
)
def test_a_film_that_cannot_be_written_is_one_line(
    spoil: Callable[..., Any],
    words: str,
    run: Run,
    fails: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch, run)
    line = fails("record", str(run.folder), "--seconds", "0.1")
    assert f"{run.videos}: a film cannot be written: " in line
    assert words in line
    assert {path.name for path in run.folder.glob("videos/*")} <= {"film.mp4"}


@pytest.mark.parametrize("command", ["evaluate", "record", "inspect"])
def test_a_run_that_takes_no_results_is_refused_before_the_work(
    command: str, run: Run, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liquid_control.commands.run_folder.os.access", lambda *_: False)
    assert "run cannot be written to, and the results go there" in fails(command, str(run.folder))


def test_paths_are_printed_as_they_are(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.folder.rename("[red]run")
    assert cli.main(["pack", "[red]run", "--output", "[b]x.zip"]) == 0
    assert "Packed: [b]x.zip, with" in capsys.readouterr().out


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_a_training_on_workers_resumes_on_others(workers: str, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", "env.workers=0", "agent.total_timesteps=128")
    assert load_recipe(Run(whole).config).env.block == load_recipe(RECIPE, TINY).env.num_envs
    run = Run(train(tmp_path / "part", f"env.workers={workers}", "agent.total_timesteps=64"))
    arguments = ["--set", "agent.total_timesteps=128", "env.workers=0"]
    assert cli.main(["resume", str(run.folder), "--quiet", *arguments]) == 0
    assert equal(weights_of(run), weights_of(Run(whole)))
    assert cli.main(["evaluate", str(run.folder), "--quiet"]) == 0


@pytest.mark.parametrize(
    ("every", "brief"), [("fifth", True), ("null", None), ("1000", False), ("3", False)]
)
def test_a_training_is_recorded_after_each_fifth_unless_the_recipe_says_otherwise(
    every: str, brief: bool | None, tmp_path: Path
) -> None:
    recipe = load_recipe(RECIPE, [f"monitoring.every={every}", "agent.total_timesteps=5000"])
    callbacks = watchers(recipe, Run(tmp_path), 0.04)
    episodes = [each for each in callbacks if isinstance(each, EpisodeCallback)]
    assert [each.brief for each in episodes] == ([] if brief is None else [brief])
    assert all(each.every == (3 if every == "3" else 1000) for each in episodes)
    assert any(isinstance(each, RatesCallback) for each in callbacks) == (brief is False)
