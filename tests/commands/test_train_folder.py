"""`train --folder`: one command begins a training, goes on with it, and leaves it when done."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from liquid_control import LiquidPPO, cli
from liquid_control.commands.run_folder import Run, in_use
from liquid_control.commands.run_state import read_state
from liquid_control.monitoring import figures
from tests.commands.test_runs import fails as fails
from tests.test_cli import RECIPE, TINY

CHANGES = ["checkpoint_every=64", "evaluation.episodes=2", "evaluation.ratios=[1]"]


def train(folder: Path, *changes: str) -> int:
    """Run `train --folder`; return the exit code."""
    settings = ["--quiet", "--set", *TINY, *CHANGES, *changes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "rates", lambda *_, **__: Figure())  # drawing it would take longest
        return cli.main(["train", str(RECIPE), "--folder", str(folder), *settings])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training from its start to its end."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    assert train(folder) == 0
    return Run(folder)


@pytest.fixture
def run(straight: Run, tmp_path: Path) -> Run:
    """A copy of it."""
    return Run(Path(shutil.copytree(straight.folder, tmp_path / "run")))


def kill_before_step(run: Run, step: int) -> None:
    """Leave of a run what there would be if its process had been killed before its end."""
    state = json.loads(run.state.read_text())
    run.state.write_text(json.dumps({**state, "status": "training", "steps": 0}))
    for path in (run.model, run.evaluation, run.evaluation.with_suffix(".png")):
        path.unlink()
    for path in run.checkpoints.glob("step-*"):
        if int(path.name[5:]) >= step:
            shutil.rmtree(path)


def assert_same(first: Run, second: Run) -> None:
    """Weights, evaluations and logs are equal, but for what a clock says."""
    mine, theirs = (LiquidPPO.load(each.model).policy.state_dict() for each in (first, second))
    assert all(theirs[name].equal(weights) for name, weights in mine.items())
    assert first.evaluation.read_text() == second.evaluation.read_text()
    logs = [list(csv.DictReader((each.folder / "progress.csv").open())) for each in (first, second)]
    assert len(logs[0]) == len(logs[1])
    for row, other in zip(*logs, strict=True):
        clocks = {key for key in row if key.startswith(("time/fps", "time/time_elapsed", "speed/"))}
        assert {key: row[key] for key in row.keys() - clocks} == {
            key: other[key] for key in other.keys() - clocks
        }


def test_a_finished_training_is_left_as_it_is(run: Run) -> None:
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert train(run.folder) == 0
    after = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("step", [128, 0], ids=["after a checkpoint", "before the first one"])
def test_a_killed_training_ends_as_if_it_had_not_been(run: Run, straight: Run, step: int) -> None:
    kill_before_step(run, step)
    assert train(run.folder) == 0
    assert_same(run, straight)
    state = read_state(run)
    assert state is not None
    assert state.status == "finished"


def test_a_folder_with_nothing_but_a_recipe_is_begun_anew(straight: Run, tmp_path: Path) -> None:
    shutil.copy(straight.config, tmp_path)
    assert train(tmp_path) == 0
    assert_same(Run(tmp_path), straight)


def test_another_recipe_is_refused_and_nothing_changes(run: Run, fails: Callable[..., str]) -> None:
    weights = run.model.read_bytes()
    line = fails(
        "train", str(RECIPE), "--folder", str(run.folder), "--set", *TINY, "agent.gamma=0.5"
    )
    assert "agent.gamma was" in line
    assert "now 0.5" in line
    assert run.model.read_bytes() == weights


def test_a_longer_training_extends_a_finished_one(run: Run, straight: Run, tmp_path: Path) -> None:
    longer = ["agent.total_timesteps=192", "agent.learning_rate=1e-3"]
    longer += ["agent.recurrent_learning_rate=1e-3"]
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert train(once, *longer) == 0
    assert train(twice, *longer[1:]) == 0
    assert train(twice, *longer) == 0
    assert_same(Run(once), Run(twice))


def test_a_training_that_diverges_fails_with_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "agent.learning_rate=1e30") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: update 1 changed the norm of the weights to inf, after 64 ")
    state = read_state(Run(tmp_path))
    assert state is not None
    assert state.status == "interrupted"


def test_a_folder_in_use_or_that_is_none_is_refused(
    run: Run, tmp_path: Path, fails: Callable[..., str]
) -> None:
    with in_use(run):
        line = fails("train", str(RECIPE), "--folder", str(run.folder), "--set", *TINY)
    assert "in use by another training" in line
    file = tmp_path / "file"
    file.touch()
    assert "--folder" in fails("train", str(RECIPE), "--folder", str(file))


def test_what_a_training_would_overwrite_is_refused(
    run: Run, straight: Run, tmp_path: Path, fails: Callable[..., str]
) -> None:
    """An unpacked policy, and logs and checkpoints of an unknown training."""
    arguments = ["--set", *TINY, *CHANGES]
    for path in run.checkpoints.glob("step-*"):
        shutil.rmtree(path)
    run.state.unlink()
    before = files(run.folder)
    line = fails("train", str(RECIPE), "--folder", str(run.folder), *arguments)
    assert "holds a trained policy without its training; give another folder, with --init " in line
    run.config.unlink()
    line = fails("train", str(RECIPE), "--folder", str(run.folder), *arguments)
    assert "holds checkpoints, but no config.yaml" in line
    assert {path: before[path] for path in files(run.folder) if path in before} == {
        path: content for path, content in before.items() if path != run.config
    }
    logs = tmp_path / "logs"
    logs.mkdir()
    shutil.copy(straight.folder / "progress.csv", logs)
    assert "holds progress.csv" in fails("train", str(RECIPE), "--folder", str(logs), *arguments)
    assert (logs / "progress.csv").exists()


def test_a_policy_without_checkpoints_is_not_replaced(run: Run, fails: Callable[..., str]) -> None:
    """Of a finished training, and of one that was interrupted after its first checkpoint."""
    arguments = ["--set", *TINY, *CHANGES, "agent.total_timesteps=192"]
    for path in run.checkpoints.glob("step-*"):
        shutil.rmtree(path)
    for status in ("finished", "interrupted"):
        state = json.loads(run.state.read_text())
        run.state.write_text(json.dumps({**state, "status": status}))
        before = files(run.folder)
        line = fails("train", str(RECIPE), "--folder", str(run.folder), *arguments)
        assert "no checkpoint to resume from; give another folder, with --init " in line
        assert files(run.folder) == before


def test_a_run_of_an_earlier_version_goes_on(run: Run, straight: Run) -> None:
    kill_before_step(run, 96)
    run.state.unlink()
    assert train(run.folder) == 0
    assert_same(run, straight)


def test_a_training_begun_anew_leaves_no_older_model(
    run: Run, straight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a training that failed before its first checkpoint, and was killed when begun anew."""
    kill_before_step(run, 0)
    shutil.copy(straight.model, run.model)

    def killed(*_: object, **__: object) -> None:
        assert not run.model.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("liquid_control.commands.training.carry_out", killed)
    assert train(run.folder) == 130


def files(folder: Path) -> dict[Path, bytes]:
    """Return the contents of a folder's files."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
