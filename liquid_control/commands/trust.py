"""Imports and files that the recipe of a run or a policy package may use."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from liquid_control.commands.arguments import Trust
from liquid_control.commands.terminal import note
from liquid_control.recipes import CommandError, Recipe, needs_trust
from liquid_control.recipes.arguments import module_of
from liquid_control.recipes.text import cut, one_line, printable


def check_trust(trust: Trust, data: Mapping[str, Any], source: Path) -> None:
    """Import the user's modules, and reject or list a recipe's other imports and files.

    Args:
        trust: The user's trust in the recipe.
        data: The keys of the recipe, not yet checked.
        source: The file of the recipe.

    Raises:
        CommandError: If a module of the user cannot be imported, or the recipe needs trust.
    """
    for name in trust.imports:
        search_working_directory()
        try:
            import_module(name)
        except (ImportError, TypeError, ValueError) as error:
            raise CommandError(f"--import {name}: {one_line(error)}") from error
    module = module_of(data)
    needs = [*needs_trust(data, imported=trust.imports)]
    if not needs:
        return
    if not trust.trust:
        own = f"--import {printable(module)} if it is yours, or " if module else ""
        raise CommandError(
            f"{source}: {cut('; '.join(needs), 500)}. This may run code and open files; give "
            f"{own}--trust if you trust the author",
            page="how_to/deploy.md#runs-of-others",
        )
    search_working_directory()
    if module and module not in trust.imports:
        needs[0] += f" ({_file_of(module)})"
    note(f"trusting {source}: {'; '.join(needs)}")


def trust_flag(recipe: Recipe) -> str:
    """Return the flag that commands need to open a run of this recipe, after a space, if any."""
    return " --trust" if any(needs_trust(recipe.model_dump(mode="json"))) else ""


def search_working_directory() -> None:
    """Search the user's modules in the working directory, after all other places."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))


def _file_of(module: str) -> str:
    """Return the file of a module's outermost package, without importing it."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    return spec.origin if spec and spec.origin else "not found"
