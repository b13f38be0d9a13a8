"""The command `liquid-control`: its commands, and how problems reach the terminal."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tyro
from rich.markup import escape

from liquid_control import __version__
from liquid_control.commands import (
    Doctor,
    Evaluate,
    Inspect,
    Pack,
    Record,
    Resume,
    Train,
    Unpack,
    Watch,
)
from liquid_control.commands.terminal import FAILED, INTERRUPTED, console, problems
from liquid_control.kernels import extension
from liquid_control.recipe_text import RecipeError


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print each warning once, in a line; to a user of a command, where it comes from is noise."""
    shown = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) in shown:
            return
        shown.add(str(message))
        problems.print(f"[yellow]note:[/] {escape(str(message))}", soft_wrap=True, highlight=False)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def load_kernels() -> None:
    """Choose the kernels now, so that a choice that cannot be ends the command before it begins."""
    try:
        extension.load()
    except (ValueError, RuntimeError) as error:
        raise RecipeError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, with those of the process by default; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(__version__)
        return 0
    chosen = tyro.cli(
        Train | Resume | Evaluate | Record | Inspect | Watch | Pack | Unpack | Doctor,
        prog="liquid-control",
        description="Liquid neural circuits that learn to control robots in simulation. "
        "`liquid-control --version` prints the version.",
        args=arguments,
    )
    console.quiet = chosen.quiet
    try:
        with warnings_as_notes():
            if not isinstance(chosen, Doctor):  # it says itself what is wrong with the kernels
                load_kernels()
            return chosen.run()
    except RecipeError as error:
        problems.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        return FAILED
    except KeyboardInterrupt:
        problems.print("Interrupted.")
        return INTERRUPTED
