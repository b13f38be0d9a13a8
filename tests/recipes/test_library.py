"""The recipes of the package, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from liquid_control import cli
from liquid_control.recipes import load_recipe
from liquid_control.recipes.library import find, folder, names
from tests.commands.test_runs import fails as fails

CONFIGS = Path(__file__).parents[2] / "configs"


def test_every_recipe_has_a_name_and_is_found_by_it() -> None:
    assert names() == sorted(
        path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.glob("*/*.yaml")
    )
    for name in names():
        assert load_recipe(name) == load_recipe(folder() / f"{name}.yaml")


def test_a_file_of_that_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("half_cheetah", "ncp_ppo")
    assert find(path) == folder() / "half_cheetah" / "ncp_ppo.yaml"
    path.parent.mkdir()
    path.touch()
    assert find(path) == path


@pytest.mark.parametrize("path", ["half_cheetah/fly", "half_cheetah", "../configs/hopper/ncp_ppo"])
def test_other_paths_are_left_as_they_are(path: str) -> None:
    assert find(Path(path)) == Path(path)


def test_the_command_lists_all_and_prints_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("Train one: ")
    assert lines[-1].startswith("Trained already")
    assert "half_cheetah/ncp_ppo, " in lines[-1]
    listed = [line.split()[0] for line in lines[:-3]]
    assert listed == names()
    assert cli.main(["recipes", "hopper/ncp_ppo"]) == 0
    assert capsys.readouterr().out == (CONFIGS / "hopper" / "ncp_ppo.yaml").read_text()


def test_an_unknown_name_is_one_line(fails: Callable[..., str]) -> None:
    assert "`liquid-control recipes` lists them" in fails("recipes", "hopper/fly")
    assert "`liquid-control recipes` lists" in fails("train", "hopper/fly")


def test_a_misspelt_name_is_answered_with_those_that_resemble_it(fails: Callable[..., str]) -> None:
    answer = fails("train", "half_cheeta/ncp_pppo")
    assert "half_cheeta/ncp_pppo: no such recipe; did you mean half_cheetah/ncp_ppo" in answer
