"""Evaluations are named by the control interval that the physics has."""

from __future__ import annotations

from pathlib import Path

import pytest

from liquid_control.commands.run_loader import rates
from liquid_control.recipes import Recipe, RecipeError, load_recipe

NOMINAL = 0.05  # of HalfCheetah, whose physics step is 0.01


def recipe(folder: Path, ratios: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(
        f"task: HalfCheetah-v5\nagent: {{total_timesteps: 10}}\nevaluation: {{ratios: {ratios}}}\n"
    )
    return load_recipe(path)


@pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")
def test_ratios_that_the_physics_has_are_evaluated_as_they_are(tmp_path: Path) -> None:
    assert rates(recipe(tmp_path, "[0.4, 1, 2]"), NOMINAL) == pytest.approx(
        {"as trained": "trained", "0.4x nominal": 0.02, "1x nominal": 0.05, "2x nominal": 0.1}
    )


def test_other_ratios_become_the_nearest_one_and_equal_ones_become_one(tmp_path: Path) -> None:
    asked = recipe(tmp_path, "[0.5, 0.41, 0.01, 1]")
    with pytest.warns(UserWarning, match=r"0\.5 times .* step of 0\.01 s; 0\.4x nominal, 0\.02 s,"):
        named = rates(asked, NOMINAL)
    assert named == pytest.approx(
        {"as trained": "trained", "0.4x nominal": 0.02, "0.2x nominal": 0.01, "1x nominal": 0.05}
    )


def test_a_ratio_far_from_the_nominal_interval_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluation\.ratios: 1e\+06: .* seconds"):
        rates(recipe(tmp_path, "[1, 1e6]"), NOMINAL)
