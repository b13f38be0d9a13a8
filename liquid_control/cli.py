"""The command `liquid-control`: parses arguments, runs a command, prints errors."""

from __future__ import annotations

import errno
import inspect
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Annotated, Any, Union

import tyro
from rich.markup import escape

from liquid_control import __version__
from liquid_control.commands import (
    Doctor,
    Evaluate,
    Export,
    Inspect,
    New,
    Pack,
    Recipes,
    Record,
    Replay,
    Report,
    Resume,
    Sweep,
    Train,
    Unpack,
    Verify,
    Watch,
)
from liquid_control.commands.terminal import (
    FAILED,
    INTERRUPTED,
    PIPE_CLOSED,
    console,
    note,
    problems,
)
from liquid_control.commands.usage import EXAMPLES

Command = (
    Train
    | Sweep
    | Report
    | Resume
    | Evaluate
    | Record
    | Inspect
    | Watch
    | Pack
    | Unpack
    | Recipes
    | New
    | Export
    | Verify
    | Replay
    | Doctor
)

MODULES = {  # of `liquid_control.commands`, which execute the commands
    Train: "train",
    Sweep: "sweep",
    Report: "report",
    Resume: "resume",
    Evaluate: "evaluate",
    Record: "record",
    Inspect: "inspect",
    Watch: "watch",
    Pack: "pack",
    Unpack: "unpack",
    Recipes: "recipes",
    New: "new",
    Export: "export",
    Verify: "verify",
    Replay: "replay",
    Doctor: "doctor",
}

KERNELS = "start/install.md#with-and-without-a-compiler"  # the page on what goes wrong with them

# Full disk, exceeded quota or size of a file, missing permission, a name that is impossible, or of
# something else, a file or a share that has gone, and too many open files.
DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENOENT,
    errno.ELOOP,
    errno.ESTALE,
    errno.EMFILE,
}


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print each warning once, on one line, without its source location."""
    shown = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in shown:
            shown.add(text)
            note(text)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def silence_disk_errors_in_threads() -> None:
    """Suppress disk errors of threads, such as TensorBoard's writers; `main` reports them."""
    before = threading.excepthook
    if before.__module__ == __name__:
        return

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not is_disk_error(failed.exc_value):
            before(failed)

    threading.excepthook = hook


def is_disk_error(error: BaseException | None) -> bool:
    """Return whether an error comes from the disk, so that a traceback would not help."""
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


class Output(io.FileIO):
    """Standard output whose reader may go, as `head` does; the command goes on without it."""

    is_closed = False

    def write(self, content: Any, /) -> int:
        """Write content, or drop it if nobody reads."""
        try:
            return super().write(content) or 0
        except BrokenPipeError:
            self.is_closed = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(content)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default with the arguments of the process; return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    before = sys.stdout
    if before is not sys.__stdout__ or not isinstance(before, io.TextIOWrapper):
        return run(given)  # of a test, or closed, as by `>&-`
    before.flush()
    output = Output(before.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(output),
        before.encoding,
        "backslashreplace" if before.errors == "strict" else before.errors,  # of ASCII, say
        line_buffering=before.line_buffering,
    )
    try:
        code = run(given)
    except SystemExit as ended:  # of `--help`, and of wrong arguments
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stdout = before
    return PIPE_CLOSED if output.is_closed and code == 0 else code


def run(arguments: list[str]) -> int:
    """Parse arguments and run the command; return the exit code."""
    if arguments == ["--version"]:
        print(__version__)
        return 0
    try:
        chosen: Command = tyro.cli(
            with_examples(arguments[0] if arguments else ""),
            prog="liquid-control",
            description="Liquid neural circuits that learn to control robots in simulation. "
            "`liquid-control --version` prints the version. A command's --help has examples.",
            args=arguments,
        )
        console.quiet = chosen.quiet
        silence_disk_errors_in_threads()
        with warnings_as_notes():
            return execute(chosen)
    except OSError as error:
        if not is_disk_error(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print_error(f"{where}{error.strerror}; files saved earlier are unchanged")
        return FAILED
    except RuntimeError as error:
        if "MUJOCO_GL" not in str(error):  # which MuJoCo checks when it is imported
            raise
        print_error(f"{error}; set it to egl, osmesa or glfw, or unset it")
        return FAILED
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):  # a second one, while the first is reported
            problems.print("Interrupted.")
        return INTERRUPTED


def with_examples(verb: str) -> Any:
    """Return `Command` with examples below the description of one verb."""
    named = next((each for each, module in MODULES.items() if module == verb), None)
    if named is None:
        return Command
    lines = [inspect.getdoc(named), "", "Examples:", *(f"  {line}" for line in EXAMPLES[verb])]
    settings = tyro.conf.subcommand(description="\n".join(map(str, lines)))
    described: Any = Annotated[named, settings]
    return Union[tuple(described if each is named else each for each in MODULES)]  # noqa: UP007


@contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """Let Ctrl-C end the process at once.

    Libraries that are being imported turn its exception into others, or go on half loaded.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or handler is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def execute(command: Command) -> int:
    """Import what a command needs, which takes seconds, and execute it; return the exit code."""
    with ended_by_interrupts():
        from liquid_control.checkpoints import CheckpointError
        from liquid_control.kernels import extension
        from liquid_control.recipes import CommandError
        from liquid_control.recipes.text import one_line

        module = import_module(f"liquid_control.commands.{MODULES[type(command)]}")
    try:
        if not isinstance(command, Doctor):  # it reports problems with the kernels itself
            try:
                extension.load()  # so that an invalid choice fails before the command starts
            except (ValueError, RuntimeError) as error:
                raise CommandError(str(error), page=KERNELS) from error
        exit_code: int = module.execute(command)
    except (CommandError, CheckpointError) as error:
        print_error(one_line(error), getattr(error, "page", ""))
        return FAILED
    return exit_code


def print_error(text: str, page: str = "") -> None:
    """Print the error that ends a command, and the page of the documentation that explains it."""
    text += f" (documentation: {page})" if page else ""
    problems.print(f"[red]error:[/] {escape(text)}", soft_wrap=True, highlight=False)
