"""What every command shares with the terminal: where it prints, and arguments that recur."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

FAILED, INTERRUPTED = 2, 130

console = Console()
problems = Console(stderr=True)

Quiet = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


def otherwise(metavar: str, default: str) -> Any:
    """Settings of an argument that is None by default, and what it then is."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


def say(text: str) -> None:
    """Print text whose paths and commands stay whole, to be copied from the screen."""
    console.print(text, soft_wrap=True, highlight=False)
