"""The policies that come with the package do what their evaluation says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from liquid_control import cli
from liquid_control.commands import example_policies

NAMES = example_policies.names()
TASKS = {"half_cheetah", "hopper", "walker2d", "ant", "swimmer", "inverted_pendulum"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_there_is_one_of_each_task() -> None:
    assert {name.split("/")[0] for name in NAMES} == TASKS
    assert "half_cheetah/ncp_ppo" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_acts_as_its_evaluation_says(name: str) -> None:
    packed = example_policies.find(Path(name))
    assert packed is not None
    assert packed.stat().st_size <= 300_000
    before, now = evaluations(name, "--episodes", "2", "--ratios", "1")
    (then,) = (each for each in before["intervals"] if each["ratio"] == 1)
    (found,) = now["intervals"]
    assert abs(found["mean_return"] - then["mean_return"]) <= 4 * then["std_return"] + 1
    least = 200 if name.startswith("swimmer") else 400
    assert then["mean_return"] > least
    assert found["mean_return"] > 0.25 * then["mean_return"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_evaluation_is_reproduced_at_every_rate(name: str) -> None:
    """Each mean within three standard errors of the difference of two means."""
    before, now = evaluations(name)
    for then, found in zip(rates(before), rates(now), strict=True):
        assert found["episodes"] == then["episodes"]
        error = ((then["std_return"] ** 2 + found["std_return"] ** 2) / then["episodes"]) ** 0.5
        assert abs(found["mean_return"] - then["mean_return"]) <= 3 * error + 1


def evaluations(name: str, *options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The evaluation in the package, and one that is made now."""
    assert cli.main(["unpack", name, "--output", "run", "--quiet"]) == 0
    assert cli.main(["evaluate", name, "--quiet", *options]) == 0
    folder = Path("runs/unpacked", name.replace("/", "-"), "evaluations")
    (path,) = folder.glob("*.json")
    return json.loads(Path("run/evaluation.json").read_text()), json.loads(path.read_text())


def rates(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    return [evaluation["trained"], *evaluation["intervals"]]
