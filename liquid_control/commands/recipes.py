"""`liquid-control recipes`."""

from __future__ import annotations

from liquid_control.commands import example_policies
from liquid_control.commands.arguments import Recipes
from liquid_control.commands.terminal import say
from liquid_control.recipes import CommandError
from liquid_control.recipes.library import SUFFIX, folder, names
from liquid_control.recipes.text import cut


def execute(arguments: Recipes) -> int:
    """Execute the command; return the exit code."""
    known = names()
    if arguments.name is None:
        width = max(map(len, known))
        for name in known:
            say(f"{name:<{width}}  {described(name)}")
        trained = ", ".join(example_policies.names())
        say("\nTrain one: liquid-control train half_cheetah/ncp_ppo")
        say(f"Trained already, to evaluate, record or export by name: {trained}")
        return 0
    if arguments.name not in known:
        raise CommandError(
            f"{cut(arguments.name)}: no recipe of the package; `liquid-control recipes` lists them"
        )
    print(text_of(arguments.name), end="")
    return 0


def described(name: str) -> str:
    """Return the first line of a recipe, a comment that describes it."""
    return text_of(name).partition("\n")[0].removeprefix("#").strip()


def text_of(name: str) -> str:
    """Return a recipe as YAML."""
    return (folder() / name).with_suffix(SUFFIX).read_text("utf-8")
