"""The folder that a training run leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from liquid_control.checkpoints.durable import write_text
from liquid_control.recipes import CommandError


@dataclass(frozen=True)
class Run:
    """Where the files of one run lie; it also holds SB3's progress.csv and TensorBoard's events."""

    folder: Path

    @property
    def config(self) -> Path:
        """The resolved recipe, itself a recipe."""
        return self.folder / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The folder of what was saved of the training."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """The model as training left it."""
        return self.checkpoints / "final.zip"

    @property
    def evaluation(self) -> Path:
        """The figures of the last evaluation."""
        return self.folder / "evaluation.json"

    @property
    def plot(self) -> Path:
        """The picture of the last evaluation."""
        return self.folder / "evaluation.png"

    @property
    def videos(self) -> Path:
        """The folder of films of the robot and its neurons."""
        return self.folder / "videos"

    @property
    def report(self) -> Path:
        """What `inspect` found, as one page."""
        return self.folder / "report.html"


def new_run(runs: Path, recipe: str, seed: int) -> Run:
    """Create runs/recipe/date-time-seed; with a number behind it where that is taken."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{seed}"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    run = Run(next(folder for each in names if _create(folder := runs / recipe / each)))
    run.checkpoints.mkdir()
    return run


def _create(folder: Path) -> bool:
    """Create a folder; False if it is there already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


@contextmanager
def in_use(run: Run) -> Iterator[None]:
    """Lock a run's folder against other trainings; the lock ends with the process.

    Raises:
        CommandError: Another process trains there.
    """
    lock = FileLock(run.folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise CommandError(
            f"{run.folder} is in use by another training; wait for it, or end it first"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON for people to read, whole or not at all."""
    write_text(path, json.dumps(data, indent=2) + "\n")
