"""Fixtures of the environment tests."""

from __future__ import annotations

from pathlib import Path

import pytest

TASKS = (
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, as Gymnasium's HalfCheetah writes MUJOCO_LOG.TXT."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    """Each of Gymnasium's eleven MuJoCo v5 tasks."""
    name: str = request.param
    return name


# Of each kind of simulation one: contacts in space and in a plane, tendons, a chain, an arm.
SOME = {"Ant-v5", "HalfCheetah-v5", "Humanoid-v5", "InvertedDoublePendulum-v5", "Pusher-v5"}


@pytest.fixture(
    params=[each if each in SOME else pytest.param(each, marks=pytest.mark.slow) for each in TASKS]
)
def some_task(request: pytest.FixtureRequest) -> str:
    """A task of each kind, and all of them in slow tests: for what does not depend on the task."""
    name: str = request.param
    return name
