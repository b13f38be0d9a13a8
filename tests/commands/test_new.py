"""`liquid-control new`: a project whose commands work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from liquid_control import cli
from tests.commands.test_runs import fails as fails
from tests.undone import imports_undone

ROOT = Path(__file__).parents[2]
TINY = ["env.num_envs=4", "agent.n_steps=32", "agent.batch_size=32", "agent.total_timesteps=128"]
TINY += ["agent.n_epochs=1", "evaluation.episodes=1", "evaluation.ratios=[1]"]
TINY += ["monitoring.every=null"]


def test_the_commands_of_a_new_project_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "Two-Wheeler"]) == 0
    assert "cd Two-Wheeler && liquid-control train recipe.yaml" in capsys.readouterr().out
    project = tmp_path / "Two-Wheeler"
    files = {path.name: path.read_text() for path in project.iterdir()}
    assert files.keys() == {
        "README.md",
        "recipe.yaml",
        "test_two_wheeler.py",
        "two_wheeler.py",
        "two_wheeler.xml",
    }
    assert "TwoWheeler-v0" in files["recipe.yaml"]
    assert not any("my_robot" in text or "MyRobot" in text for text in files.values())

    monkeypatch.chdir(project)
    with imports_undone(project):
        assert cli.main(["train", "recipe.yaml", "--quiet", "--set", *TINY]) == 0
    (run,) = project.glob("runs/*/*")
    assert (run / "evaluation.json").exists()

    path = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("there", "there exists; choose another folder"),
        ("there/file/robot", "there/file is not a folder"),
        ("7robots", "a module is named after the folder"),
        ("röbot", "a module is named after the folder"),
        ("-", "a module is named after the folder"),
        ("torch", "torch is a module already"),
        ("json", "json is a module already"),
        ("__main__", "__main__ is a module already"),
        ("lambda", "lambda or Lambda is a word of Python, or a name in the files"),
        ("_3", "_3 or 3 is a word of Python"),
        ("path", "path or Path is a word of Python, or a name"),
        ("gym", "gym or Gym is"),
    ],
)
def test_a_folder_that_cannot_be_is_one_line_and_nothing_is_written(
    folder: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there", "file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert words in fails("new", "--", folder)
    assert sorted(tmp_path.rglob("*")) == before
