"""Whole trainings: what the recipes promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from liquid_control.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"


def figures_of(recipe: str, folder: Path, *changes: str) -> dict[str, Any]:
    """Train a recipe with its own seed, and return its evaluation."""
    options = ["--runs", str(folder), "--quiet"] + (["--set", *changes] if changes else [])
    assert main(["train", str(CONFIGS / f"{recipe}.yaml"), *options]) == 0
    (evaluation,) = folder.glob("*/*/evaluation.json")
    figures: dict[str, Any] = json.loads(evaluation.read_text())
    assert [each["ratio"] for each in figures["intervals"]] == [0.5, 1.0, 2.0]
    return figures


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["ncp_ppo", "ncp_ltc_ppo", "ncp_sac"])
def test_a_liquid_circuit_balances_the_pendulum_at_every_rate(recipe: str, tmp_path: Path) -> None:
    """Mean return of at least 900 of 1000, on unseen seeds, as trained and at 0.5x, 1x and 2x."""
    figures = figures_of(f"inverted_pendulum/{recipe}", tmp_path)
    for each in (figures["trained"], *figures["intervals"]):
        assert each["episodes"] == 20
        assert each["mean_return"] >= 900, figures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "usual", "worst"), [("hopper", 2000, 1100), ("walker2d", 1100, 600)]
)
def test_robots_that_fall_learn_to_walk(
    task: str, usual: float, worst: float, tmp_path: Path
) -> None:
    """They walk as trained and at the nominal rate, where standing still pays 1000.

    Walker2d's floor is low, since a quarter of its trainings hardly walk.
    """
    figures = figures_of(f"{task}/ncp_ppo_full", tmp_path, "monitoring.every=null")
    returns = [each["mean_return"] for each in (figures["trained"], *figures["intervals"])]
    trained, _, nominal, _ = returns
    assert min(trained, nominal) >= usual, figures
    assert min(returns) >= worst, figures
