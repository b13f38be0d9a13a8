"""Versions and commits of what a report was made with."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from liquid_control.sweeps.provenance import commit, versions

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_versions_are_those_that_are_installed() -> None:
    found = versions()
    assert found["torch"] == version("torch")
    assert set(found) == {"liquid-control", "torch", "mujoco", "gymnasium", "stable-baselines3"}


@needs_git
def test_the_commit_is_that_of_the_code(tmp_path: Path) -> None:
    module = tmp_path / "code.py"
    module.write_text("a = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "before")
    assert commit(module) == ""  # as of an environment inside another project
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    assert commit(module) == head
    module.write_text("a = 2\n")
    assert commit(module) == f"{head}, with changes"


def test_without_a_clone_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code.py").touch()
    assert commit(tmp_path / "code.py") == ""
    monkeypatch.setenv("PATH", "")
    assert commit() == ""
