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
