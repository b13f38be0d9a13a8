"""Stress tests of a trained robot: conditions of rising severity, and changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from liquid_control.envs import conditions_from
from liquid_control.recipes.errors import RecipeError
from liquid_control.recipes.schema import Part, Recipe, Section, Size
from liquid_control.recipes.text import explain, parse_yaml, read_text, short

Values: TypeAlias = Annotated[
    tuple[NonNegativeFloat, ...], Field(strict=False, min_length=1, max_length=100)
]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_ -]*$", max_length=60)]


PAGE = "robots.md#what-a-trained-robot-withstands"  # of the documentation


class Sweep(NamedTuple):
    """One condition of rising severity.

    Attributes:
        name: its key in a stress file.
        values: in the order of the file.
        label: of the axis.
    """

    name: str
    values: tuple[float, ...]
    label: str


# The key in a stress file: the key of a recipe, the part's kind and its argument, and the axis.
CONDITIONS = {
    "noise": ("sensors", "noise", "std", "noise of observations, standard deviation"),
    "dropout": ("sensors", "dropout", "probability", "share of observations that are lost"),
    "delay": ("sensors", "delay", "low", "delay of observations (s)"),
    "actuator_delay": ("actuators", "delay", "low", "delay of actions (s)"),
}


def _check_change(value: Any) -> Any:
    """Check a change, so that its error carries the key's path."""
    try:
        conditions_from(events=[{"kind": "change", **value}])
    except TypeError as error:  # pydantic reports ValueErrors only
        raise ValueError(str(error)) from error
    return value


Change: TypeAlias = Annotated[Part, AfterValidator(_check_change)]


class Stress(Section):
    """A stress file; see `liquid-control evaluate --stress`."""

    episodes: Size = 20
    """Episodes at each value."""
    noise: Values | None = None
    """Standard deviations of `Noise` in the observations."""
    dropout: Values | None = None
    """Probabilities of `Dropout`."""
    delay: Values | None = None
    """Seconds of `Delay` of the observations."""
    actuator_delay: Values | None = None
    """Seconds of `Delay` of the actions."""
    changes: Annotated[dict[Name, Change], Field(default={}, max_length=20)]
    """Arguments of `Change` by a name, such as {motor fails: {at: 5, gain: {bthigh: 0}}}."""
    after: PositiveFloat = 2.0
    """Seconds after a change that are reported separately."""

    @field_validator(*CONDITIONS)
    @classmethod
    def _check_values(cls, values: Values | None, info: ValidationInfo) -> Values | None:
        """Check each value as an argument of its part."""
        assert info.field_name is not None
        key, kind, argument, _ = CONDITIONS[info.field_name]
        for value in values or ():
            part = [{"kind": kind, argument: value}]
            try:
                conditions_from(part) if key == "sensors" else conditions_from(actuators=part)
            except TypeError as error:  # pydantic reports ValueErrors only
                raise ValueError(str(error)) from error
        return values

    @field_validator("changes")
    @classmethod
    def _check_names(cls, changes: dict[str, Change]) -> dict[str, Change]:
        """Check that each change has a figure of its own."""
        names: dict[str, str] = {}
        for name in changes:
            other = names.setdefault(name.replace(" ", "_").lower(), name)
            if other != name:
                raise ValueError(f"{other!r} and {name!r} would share a figure; rename one")
        return changes

    @property
    def sweeps(self) -> Iterator[Sweep]:
        """The conditions that the file sweeps."""
        for name, (*_, label) in CONDITIONS.items():
            if (values := getattr(self, name)) is not None:
                yield Sweep(name, values, label)


def load_stress(path: Path) -> Stress:
    """Read a stress file.

    Raises:
        RecipeError: it is missing or is not YAML, has an unknown key or an invalid value, or is
            empty.
    """
    try:
        return _stress(path)
    except RecipeError as error:
        error.page = PAGE
        raise


def _stress(path: Path) -> Stress:
    data = parse_yaml(read_text(path, "stress file"), str(path))
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a stress file is a mapping of keys, got {short(data)}")
    try:
        stress = Stress.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {explain(error, data, Stress)}") from error
    if not stress.changes and not any(stress.sweeps):
        keys = ", ".join((*CONDITIONS, "changes"))
        raise RecipeError(f"{path}: nothing to evaluate; give at least one of {keys}")
    return stress


def under(recipe: Recipe, name: str, value: float) -> Recipe:
    """Return a recipe with one of `CONDITIONS` set to a value, or without it if that is 0."""
    key, kind, argument, _ = CONDITIONS[name]
    parts = list(getattr(recipe.env, key))
    places = [place for place, part in enumerate(parts) if part.get("kind") == kind]
    if value:
        own = parts[places[0]] if places else {"kind": kind}
        own = {key: each for key, each in own.items() if key != "high"} | {argument: value}
        parts[slice(places[0], places[0] + 1) if places else slice(len(parts), None)] = [own]
        places = places[1:]
    return _with(recipe, key, [part for place, part in enumerate(parts) if place not in places])


def changed(recipe: Recipe, change: Part | None) -> Recipe:
    """Return a recipe with this change of the robot as event 0, or with none."""
    others = [event for event in recipe.env.events if event.get("kind") != "change"]
    changes = [] if change is None else [{"kind": "change", **change}]
    return _with(recipe, "events", [*changes, *others])


def _with(recipe: Recipe, key: str, parts: Any) -> Recipe:
    """Return a recipe with other parts, and without what only critics observe."""
    changes = {key: tuple(parts), "privileged": None}
    return recipe.model_copy(update={"env": recipe.env.model_copy(update=changes)})
