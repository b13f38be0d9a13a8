"""A study: many runs with one purpose, in one folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from liquid_control.checkpoints.durable import write_text
from liquid_control.recipes import CommandError, Recipe
from liquid_control.recipes.text import cut, printable
from liquid_control.sweeps.search import RANGES

VERSION = 1
RECIPES, FIGURES = "recipes", "figures"  # folders of a study that are not runs
LARGEST = 20_000_000  # bytes of study.json
SEEDS = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?")
MOST_SEEDS = 10_000

Kind = Literal["grid", "search"]


@dataclass(frozen=True)
class Job:
    """One run of a study: a recipe, and a seed.

    Attributes:
        name: Of the recipe, or of the trial in a search.
        recipe: The recipe with its seed.
        folder: The folder of the run.
    """

    name: str
    recipe: Recipe
    folder: Path

    @property
    def seed(self) -> int:
        """Return the seed of weights and environments."""
        return self.recipe.seed

    @property
    def total(self) -> int:
        """Return the control steps of the whole training."""
        return int(self.recipe.agent.total_timesteps)


class StudyFile(BaseModel):
    """The content of study.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    """The version of the format."""
    kind: Kind
    """A grid of recipes and seeds, or a search."""
    command: str
    """The command that began the study."""
    seeds: tuple[int, ...]
    """The seeds of every recipe or trial."""
    recipes: dict[str, dict[str, JsonValue]]
    """Recipes by name, or the search file by its name; compared when the study is resumed."""


@dataclass(frozen=True)
class Study:
    """A folder with a study.json, the recipes, and a run for every recipe and seed.

    Attributes:
        folder: The folder.
        file: The content of its study.json.
    """

    folder: Path
    file: StudyFile

    @classmethod
    def begin(
        cls,
        folder: Path,
        kind: Kind,
        recipes: Mapping[str, Mapping[str, JsonValue]],
        seeds: Iterable[int],
        command: str,
    ) -> Study:
        """Begin a study, or resume the one in the folder, adding new recipes and seeds.

        Raises:
            CommandError: The folder contains another study or other files, or is not writable.
        """
        file = StudyFile(
            version=VERSION,
            kind=kind,
            command=command,
            seeds=tuple(seeds),
            recipes={name: dict(recipe) for name, recipe in recipes.items()},
        )
        for name in file.recipes:
            if name in {RECIPES, FIGURES}:
                raise CommandError(f"a recipe of a study cannot have the name {name!r}")
        path = folder / "study.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Hidden files may be those of another driver that begins the study now.
            is_used = any(not each.name.startswith(".") for each in folder.iterdir())
            if is_used and not path.exists():
                raise CommandError(f"{folder} is not a study, and not empty; give another --name")
            with FileLock(folder / ".study.lock"):
                if path.exists():
                    file = _joined(cls.load(folder).file, file, path)
                write_text(path, file.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise CommandError(f"{cut(str(path))}: {error.strerror}") from error
        return cls(folder, file)

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Load the study in a folder.

        Raises:
            CommandError: There is none, or it cannot be read.
        """
        path = folder / "study.json"
        try:
            if path.stat().st_size > LARGEST:
                raise CommandError(f"{path} is too large for the file of a study")
            text = path.read_text("utf-8")
            content = json.loads(text)
            if not isinstance(content, dict):
                raise TypeError("it holds no object")
            version = content["version"]
            if type(version) is not int or version != VERSION:
                raise CommandError(
                    f"{path} is of version {cut(repr(version), 20)}, and this liquid_control reads "
                    f"version {VERSION}; use the one that began the study"
                )
            return cls(folder, StudyFile.model_validate_json(text))
        except FileNotFoundError as error:
            raise CommandError(f"{folder}: no study; it has no study.json") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise CommandError(f"{path} cannot be read: {cut(where)}: {first['msg']}") from error
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, CommandError):
                raise
            raise CommandError(f"{path} cannot be read: {cut(str(error))}") from error

    def job(self, name: str, recipe: Recipe, seed: int) -> Job:
        """Return a run of the study."""
        seeded = recipe.model_copy(update={"seed": seed, "name": name})
        return Job(name, seeded, self.folder / name / str(seed))

    def recipe_path(self, name: str) -> Path:
        """Return the path of a recipe."""
        return self.folder / RECIPES / f"{name}.yaml"

    def write_recipe(self, name: str, recipe: Recipe) -> None:
        """Write a recipe, unless it exists already."""
        path = self.recipe_path(name)
        text = recipe.model_copy(update={"name": name}).to_yaml()
        if not path.exists() or path.read_text("utf-8") != text:
            write_text(path, text)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds in a text such as "0-4" or "0,3,10-12", each once.

    Raises:
        CommandError: There are none.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = SEEDS.fullmatch(part.strip())
        first, last = match.groups() if match else ("", None)
        low, high = int(first or 1), int(last or first or 0)
        if not low <= high < 2**31 or high - low >= MOST_SEEDS:
            raise CommandError(
                f"--seeds {printable(text)}: give numbers and ranges from 0 to 2147483647, such "
                f"as 0-4 or 0,3,7, at most {MOST_SEEDS:,} in a range"
            )
        seeds |= dict.fromkeys(range(low, high + 1))
    return tuple(seeds)


def study_name(paths: Sequence[Path]) -> str:
    """Return a name for a study of some recipes: the recipe's, or that of their folders."""
    absolute = [path.absolute() for path in paths]
    if len(absolute) == 1:
        words = [absolute[0].parent.name, absolute[0].stem]
    else:
        words = sorted({path.parent.name for path in absolute})
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(words)).strip(".-")[:100]
    return name or "study"


def _joined(before: StudyFile, now: StudyFile, path: Path) -> StudyFile:
    """Return a study with the new recipes and seeds of another."""
    if before.kind != now.kind:
        raise CommandError(f"{path} is a {before.kind}, not a {now.kind}; give another --name")
    for name in before.recipes.keys() & now.recipes.keys():
        was = before.recipes[name]
        if isinstance(was.get(RANGES), str):  # of older versions, cut, so that it proves little
            was = was | {RANGES: now.recipes[name].get(RANGES)}
        if changed := _differences(was, now.recipes[name]):
            raise CommandError(
                f"{path} was begun with another recipe {name}: {cut(', '.join(changed), 200)} "
                "changed; undo this, or give another --name"
            )
    if before.kind == "search" and before.recipes.keys() != now.recipes.keys():
        raise CommandError(f"{path} is another search; give another --name")
    if before.kind == "search" and set(before.seeds) != set(now.seeds):
        raise CommandError(
            f"{path}: the trials of a search all have the same seeds, here "
            f"{cut(','.join(map(str, before.seeds)), 100)}; give these, or another --name"
        )
    recipes = before.recipes | now.recipes
    seeds = tuple(dict.fromkeys(before.seeds + now.seeds))
    return before.model_copy(update={"recipes": recipes, "seeds": seeds})


def _differences(before: JsonValue, now: JsonValue, key: str = "") -> list[str]:
    """Return the dotted keys in which two recipes differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            different
            for each in sorted(before.keys() | now.keys())
            for different in _differences(
                before.get(each), now.get(each), f"{key}.{each}".strip(".")
            )
        ]
    return [] if before == now else [key]
