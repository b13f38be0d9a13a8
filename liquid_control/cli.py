"""The command `liquid-control`: its commands, and how problems reach the terminal."""

from __future__ import annotations

import errno
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tyro
from rich.markup import escape

from liquid_control import __version__
from liquid_control.checkpoints import CheckpointError
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
from liquid_control.recipes import CommandError
from liquid_control.recipes.text import one_line

# A full disk, a full quota, and what must not be written.
OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print each warning once, in a line; to a user of a command, where it comes from is noise."""
    shown = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in shown:
            shown.add(text)
            problems.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True, highlight=False)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def leave_disk_errors_to_main() -> None:
    """Let threads, such as TensorBoard's writers, be silent of them from now on: `main` tells."""
    before = threading.excepthook
    if before.__module__ == __name__:
        return

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not is_of_the_disk(failed.exc_value):
            before(failed)

    threading.excepthook = hook


def is_of_the_disk(error: BaseException | None) -> bool:
    """Whether it is of a kind that no trace of calls says more about."""
    return isinstance(error, OSError) and error.errno in OF_THE_DISK


def load_kernels() -> None:
    """Choose the kernels now, so that a choice that cannot be ends the command before it begins."""
    try:
        extension.load()
    except (ValueError, RuntimeError) as error:
        raise CommandError(str(error)) from error


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
    leave_disk_errors_to_main()
    try:
        with warnings_as_notes():
            if not isinstance(chosen, Doctor):  # it says itself what is wrong with the kernels
                load_kernels()
            return chosen.run()
    except (CommandError, CheckpointError) as error:
        complain(one_line(error))
        return FAILED
    except OSError as error:
        if not is_of_the_disk(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror}; what was saved before is as it was")
        return FAILED
    except KeyboardInterrupt:
        problems.print("Interrupted.")
        return INTERRUPTED


def complain(text: str) -> None:
    """Print why a command ends."""
    problems.print(f"[red]error:[/] {escape(text)}", soft_wrap=True, highlight=False)
