"""Whole trainings: what the recipes promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from liquid_control.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["ncp_ppo", "ncp_ltc_ppo", "ncp_sac"])
def test_a_liquid_circuit_balances_the_pendulum_at_every_rate(recipe: str, tmp_path: Path) -> None:
    """Mean return of at least 900 of 1000, on unseen seeds, as trained and at 0.5x, 1x and 2x."""
    path = CONFIGS / "inverted_pendulum" / f"{recipe}.yaml"
    assert main(["train", str(path), "--runs", str(tmp_path), "--quiet"]) == 0
    (evaluation,) = tmp_path.glob("*/*/evaluation.json")
    figures = json.loads(evaluation.read_text())
    assert [each["ratio"] for each in figures["intervals"]] == [0.5, 1.0, 2.0]
    for each in (figures["trained"], *figures["intervals"]):
        assert each["episodes"] == 20
        assert each["mean_return"] >= 900, figures
