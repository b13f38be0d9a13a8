"""Consoles and argument types that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape

FAILED, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


class Notes(Console):
    """A console on stderr; without a reader it says no more, and the command goes on."""

    def on_broken_pipe(self) -> None:
        """Say no more, where Rich would end the command."""
        self.quiet = True


console = Console()
problems = Notes(stderr=True)

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
Quiet = Flag
RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]

Overrides = Annotated[
    tuple[tuple[str, ...], ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(name="set", metavar="KEY=VALUE ..."),
]


def otherwise(metavar: str, default: str) -> Any:
    """Return the settings of an argument that is None by default, with the default to show."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


def say(text: str, *, markup: bool = False) -> None:
    """Print text without wrapping or highlighting, so that paths and commands can be copied."""
    console.print(text, soft_wrap=True, highlight=False, markup=markup)


def note(text: str) -> None:
    """Print a note for the user to stderr, on one line."""
    problems.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True, highlight=False)
