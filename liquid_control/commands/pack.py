"""`liquid-control pack`."""

from __future__ import annotations

from pathlib import Path

from liquid_control.commands.arguments import Pack
from liquid_control.commands.policy_package import pack
from liquid_control.commands.run_loader import open_run
from liquid_control.commands.terminal import note, say
from liquid_control.commands.trust import trust_flag
from liquid_control.recipes import CommandError


def execute(arguments: Pack) -> int:
    """Execute the command; return the exit code."""
    run, recipe = open_run(arguments.folder, trust=arguments.trust)
    path = arguments.output or Path(f"{recipe.name}-{recipe.seed}.zip")
    try:
        names = pack(run, recipe, path)
    except FileNotFoundError as error:
        raise CommandError(f"{error.filename}: there is no such file or folder") from error
    say(f"Packed: {path}, with {', '.join(names)}")
    if flag := trust_flag(recipe):
        note(f"whoever unpacks it must give{flag} too, and have what its recipe names")
    return 0
