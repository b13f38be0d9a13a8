"""Runs a command for an engine; imports only packages that every machine has."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command to run, and the file that its output is appended to."""

    arguments: tuple[str, ...]
    output: Path


def run_command(command: Command) -> int:
    """Run a command to its end, and return its exit code.

    A SIGTERM, or an interruption of this process, is passed on to the command, which then saves a
    checkpoint and ends.
    """
    with command.output.open("ab") as output:
        process = subprocess.Popen(
            command.arguments, stdout=output, stderr=output, start_new_session=True
        )

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.terminate()

    before: dict[int, Any] = {}
    with suppress(ValueError):  # not the main thread; only that can handle signals
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, pass_on)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a driver in the background does
            before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:  # Ray interrupts only between system calls, so all must be short
            with suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=1.0)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


class Requeued:
    """A command that resumes when Slurm preempts and restarts its job."""

    def __init__(self, command: Command) -> None:
        self._command = command

    def __call__(self) -> int:
        """Run the command; return its exit code."""
        return run_command(self._command)

    def checkpoint(self) -> Any:
        """Return the job that submitit restarts after a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Requeued(self._command))
