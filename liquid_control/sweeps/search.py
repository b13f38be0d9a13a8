"""Searches: recipes with ranges instead of values, sampled and pruned by Optuna."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liquid_control.recipes import CommandError, Recipe, RecipeError, read_recipe, recipe_from
from liquid_control.recipes.text import short

if TYPE_CHECKING:
    import optuna

RANGES = "ranges"
KINDS = ("float", "log", "int", "choice")
MOST_TRIALS = 1_000_000
GIVEN = {"name", "seed"}  # keys of a recipe that every run of a study has of its own
INSTALL = 'a search needs Optuna: pip install "liquid-control[sweep]"'


@dataclass(frozen=True)
class Range:
    """The values that a key of a recipe may take in a search.

    Attributes:
        key: The path of the key in the recipe.
        kind: float (uniform), log (uniform in the logarithm), int, or choice.
        values: Lowest and highest; of a choice, all values.
    """

    key: tuple[str, ...]
    kind: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Return the dotted path of the key."""
        return ".".join(self.key)

    def sample(self, trial: optuna.trial.Trial) -> None:
        """Let Optuna choose the value of a trial."""
        if self.kind == "choice":  # Optuna stores plain values only
            trial.suggest_categorical(self.name, [json.dumps(value) for value in self.values])
            return
        low, high = self.values
        if self.kind == "int":
            trial.suggest_int(self.name, low, high)
        else:
            trial.suggest_float(self.name, low, high, log=self.kind == "log")

    def value(self, sampled: Any) -> Any:
        """Return the value of the recipe's key for Optuna's sample."""
        return json.loads(sampled) if self.kind == "choice" else sampled


@dataclass(frozen=True)
class Search:
    """A recipe with ranges.

    Attributes:
        data: The keys of the recipe, with the first value of each range.
        ranges: The ranges, in the order of the file.
        source: The file.
    """

    data: Mapping[str, Any]
    ranges: tuple[Range, ...]
    source: str

    def described(self) -> dict[str, Any]:
        """Return what identifies the search: its recipe, and the values of each range by kind."""
        ranges = {each.name: {each.kind: list(each.values)} for each in self.ranges}
        return {**self.data, RANGES: ranges}

    def recipe(self, sampled: Mapping[str, Any], name: str) -> Recipe:
        """Return the recipe of a trial, for values by range name.

        Raises:
            RecipeError: It is invalid.
        """
        data = deepcopy(dict(self.data))
        for each in self.ranges:
            _put(data, each.key, each.value(sampled[each.name]))
        return recipe_from({**data, "name": name}, f"{self.source}, {name}")


def has_ranges(path: Path, overrides: Sequence[str] = ()) -> bool:
    """Return whether a file is a search rather than a recipe."""
    return any(True for _ in _ranges(read_recipe(path, overrides), ()))


def load_search(path: Path, overrides: Sequence[str] = ()) -> Search:
    """Read a search file: a recipe in which some values are ranges.

    A range is a mapping of one key: `{float: [low, high]}`, `{log: [low, high]}` (uniform in the
    logarithm), `{int: [low, high]}` or `{choice: [value, ...]}`. Every bound and every choice is
    checked as the value of its key.

    Raises:
        RecipeError: The file is not a recipe, or a range is impossible; the message names the key.
    """
    data = read_recipe(path, overrides)
    ranges = tuple(_ranges(data, ()))
    if not ranges:
        raise RecipeError(
            f"{path}: a search needs a range, such as {{log: [1e-4, 3e-3]}}, for a key"
        )
    for each in ranges:
        _check(each, str(path))
        _put(data, each.key, each.values[0])
    for each in ranges:
        for value in each.values:
            trial = deepcopy(data)
            _put(trial, each.key, value)
            recipe_from(trial, str(path))
    return Search(data, ranges, str(path))


def _ranges(data: Any, key: tuple[str, ...]) -> Iterator[Range]:
    """Yield the ranges in the keys of a recipe."""
    if not isinstance(data, dict):
        return
    if len(data) == 1 and key:
        ((kind, values),) = data.items()
        if kind in KINDS and isinstance(values, list):
            yield Range(key, kind, tuple(values))
            return
    for name, value in data.items():
        yield from _ranges(value, (*key, str(name)))


def _check(each: Range, source: str) -> None:
    """Raise a RecipeError unless a range has values that can be sampled."""
    where, values = f"{source}: {each.name}: {each.kind}", each.values
    if each.key[0] in GIVEN:
        raise RecipeError(f"{source}: {each.name} is given by the study, so it cannot be searched")
    if each.kind == "choice":
        if not values:
            raise RecipeError(f"{where} needs at least one value")
        return
    numbers = (int,) if each.kind == "int" else (int, float)
    right = len(values) == 2 and all(type(value) in numbers for value in values)
    if not right:
        what = "whole numbers" if each.kind == "int" else "numbers"
        raise RecipeError(f"{where} takes two {what}, [low, high]; got {short(list(values))}")
    low, high = values
    if not low < high or not all(abs(value) < 1e300 for value in values):
        raise RecipeError(f"{where}: low must be less than high, got {short(list(values))}")
    if each.kind == "log" and low <= 0:
        raise RecipeError(f"{where}: low must be greater than zero, got {short(list(values))}")


def _put(data: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    """Set the value of a key in nested mappings."""
    *parents, last = key
    for name in parents:
        data = data[name]
    data[last] = value


def import_optuna() -> Any:
    """Return the module optuna.

    Raises:
        CommandError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise CommandError(INSTALL) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
