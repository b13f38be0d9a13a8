"""`liquid-control pack`."""

from __future__ import annotations

from pathlib import Path, PurePath

from liquid_control.commands import hub
from liquid_control.commands.arguments import Pack
from liquid_control.commands.policy_package import CARD, is_packed, pack
from liquid_control.commands.run_loader import open_run
from liquid_control.commands.terminal import note, say
from liquid_control.commands.trust import trust_flag
from liquid_control.recipes import CommandError

SHOWN = {".mp4", ".png"}  # shown by the Hub next to the card


def execute(arguments: Pack) -> int:
    """Execute the command; return the exit code."""
    address = None if arguments.push is None else hub.Address.of(arguments.push)
    run, recipe = open_run(arguments.folder, trust=arguments.trust)
    path = arguments.output or Path(f"{recipe.name}-{recipe.seed}.zip")
    check_output(path)
    try:
        source = str(address or "FILE")
        files = pack(run, recipe, path, source, acts_only=arguments.acts_only)
    except FileNotFoundError as error:
        raise CommandError(f"{error.filename}: there is no such file or folder") from error
    say(f"Packed: {path}, with {', '.join(files)}")
    if flag := trust_flag(recipe):
        note(f"whoever unpacks it must give{flag} too, and have what its recipe names")
    if address is not None:
        shown = {name: files[name] for name in files if PurePath(name).suffix in SHOWN}
        url = hub.push(
            {**shown, CARD: files[CARD], hub.FILE: path.read_bytes()},
            address,
            private=arguments.private,
        )
        say(f"Pushed: {url}\nEvaluate it anywhere: liquid-control evaluate {address}")
    return 0


def check_output(path: Path) -> None:
    """Raise a CommandError unless a package may be written here; one may replace another."""
    if path.suffix != ".zip":
        raise CommandError(f"--output {path}: a package's name ends in .zip")
    if path.exists() and not is_packed(path):
        raise CommandError(f"--output {path} exists and is no package; choose another name")
