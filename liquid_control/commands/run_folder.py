"""The folder of a training run."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from liquid_control.checkpoints import CheckpointError, read
from liquid_control.checkpoints.durable import write_text
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.recipes import CommandError


@dataclass(frozen=True)
class Run:
    """Paths of one run; its folder also has SB3's progress.csv and TensorBoard's events."""

    folder: Path

    @property
    def config(self) -> Path:
        """The resolved recipe, itself a recipe."""
        return self.folder / "config.yaml"

    @property
    def state(self) -> Path:
        """The progress of the training; see `run_state`."""
        return self.folder / "run.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of the training's checkpoints."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """The model saved when the training ended."""
        return self.checkpoints / "final.zip"

    @property
    def evaluation(self) -> Path:
        """The results of the evaluation at the end of the training."""
        return self.folder / "evaluation.json"

    @property
    def evaluations(self) -> Path:
        """The folder of all other evaluations."""
        return self.folder / "evaluations"

    @property
    def stress(self) -> Path:
        """The folder of evaluations under conditions and changes, a folder for each."""
        return self.folder / "stress"

    @property
    def videos(self) -> Path:
        """The folder of films of the robot and its neurons."""
        return self.folder / "videos"

    @property
    def report(self) -> Path:
        """The report of `inspect`, one page."""
        return self.folder / "report.html"

    @property
    def inspection(self) -> Path:
        """The folder of TensorBoard's events from `inspect`."""
        return self.folder / "inspection"


def existing_run(folder: Path) -> Run:
    """Return the run in a folder.

    Raises:
        CommandError: There is none, or a part of it is a link or a device.
    """
    run = Run(folder)
    if not run.config.exists():
        raise CommandError(
            f"{folder}: no run; it has no {run.config.name}",
            page="tutorials/train.md#the-folder-of-a-run",
        )
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            # A training may remove a checkpoint in the meantime.
            if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
                raise CommandError(f"{path} is a link or device; a run holds its files itself")
    return run


def new_run(runs: Path, recipe: str, seed: int) -> Run:
    """Create runs/recipe/date-time-seed, with a number appended if that is taken."""
    names = _names(datetime.now(), f"-{seed}")
    run = Run(next(folder for each in names if _create(folder := runs / recipe / each)))
    run.checkpoints.mkdir()
    return run


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Let no other command choose a name in a folder of results until the chosen one is taken."""
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


def new_evaluation(run: Run, moment: datetime) -> Path:
    """Return a unique path for the results of an evaluation: evaluations/date-time."""
    paths = (run.evaluations / f"{name}.json" for name in _names(moment))
    return next(path for path in paths if not path.exists())


def new_stress(run: Run, moment: datetime) -> Path:
    """Return a unique folder for an evaluation under stress: stress/date-time."""
    return next(path for name in _names(moment) if not (path := run.stress / name).exists())


def check_new(folder: Path) -> None:
    """Raise a CommandError if a folder exists, or cannot be created, before the work for it."""
    if folder.exists():
        raise CommandError(f"{folder} exists; choose another folder")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise CommandError(f"{folder} cannot be created in {above}; choose another folder")


def check_writable(run: Run) -> None:
    """Raise a CommandError if no results can be added to a run, before the work for them."""
    if not os.access(run.folder, os.W_OK | os.X_OK):
        raise CommandError(
            f"{run.folder} cannot be written to, and the results go there; copy the run to a "
            "folder of your own"
        )


def set_aside_evaluation(run: Run) -> None:
    """Move the evaluation at the end of a training, which continues, to the others."""
    if run.evaluation.exists():
        moment = datetime.fromtimestamp(run.evaluation.stat().st_mtime)
        path = new_evaluation(run, moment)
        path.parent.mkdir(exist_ok=True)
        run.evaluation.rename(path)
        with suppress(FileNotFoundError):
            plot_of(run.evaluation).rename(plot_of(path))


def plot_of(evaluation: Path) -> Path:
    """Return the path of the plot of an evaluation."""
    return evaluation.with_suffix(".png")


def newest_model(run: Run) -> Path:
    """Return the path of a run's newest weights: the model, or a checkpoint.

    Raises:
        CommandError: There are none.
        CheckpointError: The model is damaged.
    """
    final = run.model.exists()
    known = CheckpointManager.name_of(steps_of(run.model)) if final else ""
    newer = [path for path in CheckpointManager(run.checkpoints).paths() if path.name > known]
    if not final and not newer:
        raise CommandError(f"{run.model}: no model was saved in this run")
    return newer[-1] if newer else run.model


def check_newest(run: Run) -> None:
    """Warn if a training went on after the agent was saved that stands for the run."""
    newest = newest_model(run)
    if newest != run.model:
        warnings.warn(
            f"{run.model} is older than {newest.name} of its training, which was interrupted; "
            "resume it to its end for the agent after that",
            stacklevel=3,
        )


def steps_of(model: Path) -> int:
    """Return the control steps of a saved model's training.

    Raises:
        CheckpointError: It is damaged, or does not contain them.
    """
    found: Any = read(model).data
    for key in ("agent", "counters", "num_timesteps"):
        found = found.get(key) if isinstance(found, dict) else None
    if type(found) is not int or found < 0:
        raise CheckpointError(f"{model} does not say how many control steps it was trained for")
    return found


def _names(moment: datetime, suffix: str = "") -> Iterator[str]:
    """Yield date-time-suffix, then the same with a number appended."""
    name = f"{moment:%Y%m%d-%H%M%S}{suffix}"
    yield from (name if number == 1 else f"{name}-{number}" for number in count(1))


def _create(folder: Path) -> bool:
    """Create a folder; False if it exists already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.exists():  # a folder above it is a file, or a link to a missing place
            raise
        return False
    return True


@contextmanager
def in_use(run: Run) -> Iterator[None]:
    """Lock a run's folder against other trainings; the lock ends with the process.

    Raises:
        CommandError: Another process trains there.
    """
    # A process that checks the lock holds it for a moment itself.
    lock = FileLock(run.folder / ".lock", timeout=0.5)
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
    """Write readable JSON atomically."""
    write_text(path, json.dumps(data, indent=2) + "\n")
