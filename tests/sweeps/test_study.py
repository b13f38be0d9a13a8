"""Studies: which runs they have, and what may join them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from liquid_control.recipes import CommandError, Recipe, load_recipe
from liquid_control.sweeps.sources import Grid
from liquid_control.sweeps.study import Study, parse_seeds, study_name

RECIPE = Path(__file__).parents[2] / "configs/inverted_pendulum/ncp_ppo.yaml"


def begin(folder: Path, seeds: tuple[int, ...] = (0, 1), **recipes: Recipe) -> Study:
    data = {name: recipe.model_dump(mode="json") for name, recipe in recipes.items()}
    return Study.begin(folder, "grid", data, seeds, "liquid-control sweep")


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(RECIPE)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (3,)), ("0-4", (0, 1, 2, 3, 4)), ("0,3, 7-8", (0, 3, 7, 8)), ("2,1-3", (2, 1, 3))],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "3-1", "1,,2", "0-99999", "2147483648", "1.5", "9" * 50, "0-"]
)
def test_other_seeds_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(CommandError, match="--seeds") as error:
        parse_seeds(text)
    assert "\n" not in str(error.value)


def test_a_study_is_named_after_its_recipes() -> None:
    assert study_name([Path("configs/ant/ncp_ppo.yaml")]) == "ant-ncp_ppo"
    assert study_name([Path("a/ant/x.yaml"), Path("b/hopper/y.yaml")]) == "ant-hopper"
    assert study_name([Path("a b/../ant/x.yaml"), Path("ant/y.yaml")]) == "ant"


def test_a_grid_trains_every_recipe_with_every_seed(tmp_path: Path, recipe: Recipe) -> None:
    study = begin(tmp_path / "s", a=recipe, b=recipe)
    jobs = Grid(study, {"a": recipe, "b": recipe}, (0, 1)).jobs()
    assert [(job.name, job.seed) for job in jobs] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert len({job.folder for job in jobs}) == 4
    for job in jobs:
        assert load_recipe(study.recipe_path(job.name), [f"seed={job.seed}"]) == job.recipe


def test_seeds_and_recipes_join_a_study(tmp_path: Path, recipe: Recipe) -> None:
    begin(tmp_path / "s", (0, 1), a=recipe)
    begin(tmp_path / "s", (1, 2), b=recipe)
    file = Study.load(tmp_path / "s").file
    assert file.seeds == (0, 1, 2)
    assert list(file.recipes) == ["a", "b"]


def test_a_changed_recipe_is_refused_by_its_keys_and_the_study_stays(
    tmp_path: Path, recipe: Recipe
) -> None:
    before = begin(tmp_path / "s", a=recipe)
    changed = load_recipe(RECIPE, ["agent.gamma=0.5", "policy.encoder=[8]"])
    with pytest.raises(CommandError, match=r"agent\.gamma, policy\.encoder changed"):
        begin(tmp_path / "s", a=changed)
    assert Study.load(tmp_path / "s") == before


def test_another_folder_is_not_made_a_study(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(CommandError, match="is not a study"):
        begin(tmp_path, a=recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_drivers_begin_a_study_at_once(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / ".study.json.host-1.partial").touch()  # of another one, which is killed now
    with ThreadPoolExecutor(8) as drivers:
        done = [drivers.submit(begin, tmp_path, (seed,), a=recipe) for seed in range(8)]
    assert all(each.exception() is None for each in done)
    assert {*Study.load(tmp_path).file.seeds} == {*range(8)}


@pytest.mark.parametrize("name", ["recipes", "figures"])
def test_the_names_of_a_studys_own_folders_are_refused(
    tmp_path: Path, recipe: Recipe, name: str
) -> None:
    with pytest.raises(CommandError, match=name):
        begin(tmp_path / "s", **{name: recipe})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"version": 99}', "of version 99"),
        ('{"version": 1, "kind": "grid"}', "cannot be read: command"),
        ('{"version": ' + "[" * 5000, "cannot be read"),
    ],
)
def test_a_file_that_is_no_study_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(CommandError, match=words) as error:
        Study.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_search_is_not_taken_for_a_grid(tmp_path: Path, recipe: Recipe) -> None:
    begin(tmp_path / "s", a=recipe)
    with pytest.raises(CommandError, match="is a grid, not a search"):
        Study.begin(tmp_path / "s", "search", {"a": {}}, (0,), "")


def test_a_study_is_json_without_code(tmp_path: Path, recipe: Recipe) -> None:
    study = begin(tmp_path / "s", a=recipe)
    assert json.loads((study.folder / "study.json").read_text())["version"] == 1


def begin_search(folder: Path, seeds: tuple[int, ...], ranges: object) -> Study:
    return Study.begin(folder, "search", {"a": {"gamma": 0.9, "ranges": ranges}}, seeds, "")


def test_a_search_with_other_ranges_or_seeds_is_refused(tmp_path: Path) -> None:
    ranges = {f"agent.{name}": {"float": [0.0, 1.0]} for name in ("x" * 300, "y")}
    before = begin_search(tmp_path / "s", (0, 1), ranges)
    begin_search(tmp_path / "s", (1, 0), ranges)
    with pytest.raises(CommandError, match=r"ranges\.agent\.y\.float changed"):
        begin_search(tmp_path / "s", (0, 1), ranges | {"agent.y": {"float": [0.0, 2.0]}})
    with pytest.raises(CommandError, match="the same seeds, here 0,1; give these"):
        begin_search(tmp_path / "s", (0, 1, 2), ranges)
    assert Study.load(tmp_path / "s").file.recipes == before.file.recipes


def test_a_search_of_an_older_version_goes_on(tmp_path: Path) -> None:
    begin_search(tmp_path / "s", (0,), "agent.x float [0.0, 1.0]; ...")
    ranges = {"agent.x": {"float": [0.0, 1.0]}}
    study = begin_search(tmp_path / "s", (0,), ranges)
    assert study.file.recipes["a"]["ranges"] == ranges
