"""`liquid-control unpack`."""

from __future__ import annotations

from pathlib import Path

from liquid_control.commands.arguments import Unpack
from liquid_control.commands.policy_package import unpack
from liquid_control.commands.run_source import packed_file
from liquid_control.commands.terminal import say
from liquid_control.recipes import CommandError


def execute(arguments: Unpack) -> int:
    """Execute the command; return the exit code."""
    folder = arguments.output or Path(arguments.file.name.removesuffix(".zip"))
    try:
        run = unpack(packed_file(arguments.file) or arguments.file, folder)
    except FileNotFoundError as error:
        raise CommandError(f"{arguments.file}: there is no such file") from error
    except FileExistsError as error:
        raise CommandError(str(error)) from error
    say(f"Unpacked: {run.folder}")
    return 0
