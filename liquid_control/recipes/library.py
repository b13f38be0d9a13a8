"""The recipes that come with the package, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from liquid_control.recipes.errors import RecipeError

SUFFIX = ".yaml"


def folder() -> Path:
    """Return the folder of the recipes: in the installed package, or next to it in a checkout.

    Raises:
        RecipeError: There is none.
    """
    package = Path(str(files("liquid_control")))
    places = (package / "configs", package.parent / "configs")
    for place in places:
        if place.is_dir():
            return place
    raise RecipeError("this installation has no recipes; install liquid-control from its wheel")


def names() -> list[str]:
    """Return the names of all recipes, such as half_cheetah/ncp_ppo."""
    place = folder()
    paths = place.glob(f"*/*{SUFFIX}")
    return sorted(path.relative_to(place).with_suffix("").as_posix() for path in paths)


def find(path: Path) -> Path:
    """Return the file of a recipe that is given by its path, or by its name in the library.

    A file of that path comes first. A path that is neither is returned as it is.
    """
    if path.exists() or path.as_posix() not in names():
        return path
    return folder() / path.with_suffix(SUFFIX)
