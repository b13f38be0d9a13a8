"""Retention of a run's checkpoints: the last ones and the best one."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from liquid_control.checkpoints.archive import Contents, read, write
from liquid_control.checkpoints.errors import CheckpointError

PREFIX = "step-"


class CheckpointManager:
    """Saves checkpoints in a folder, and removes all but the last ones and the best agent.

    Args:
        folder: created with the first checkpoint.
        last: number of checkpoints to keep.
    """

    def __init__(self, folder: Path | str, last: int = 2) -> None:
        if last < 1:
            raise ValueError(f"last must be at least 1, or a run could lose everything, got {last}")
        self.folder, self.last = Path(folder), last

    def save(self, step: int, contents: Contents) -> Path:
        """Save a checkpoint, then remove the oldest.

        Args:
            step: control steps of the training; an intact checkpoint of the same step is not
                written again.
            contents: of the checkpoint.

        Raises:
            OSError: it cannot be written; the others are unchanged.
        """
        path = self.folder / self.name_of(step)
        if path.exists() and not _is_intact(path):
            rmtree(path)
        if not path.exists():
            write(path, contents)
        earlier = [each for each in self.paths() if each <= path]  # later ones are damaged
        for old in earlier[: -self.last]:
            rmtree(old)
        return path

    def check_newest(self, step: int) -> None:
        """Raise a ValueError if an intact checkpoint is later than a training's present step."""
        later = [path for path in self.paths() if path.name > self.name_of(step)]
        if found := [path.name for path in later if _is_intact(path)]:
            raise ValueError(
                f"{self.folder} holds {found[-1]} of a longer training, and this one is at step "
                f"{step}; choose another folder, or go on with `resume`"
            )

    def latest(self) -> tuple[Path, Contents]:
        """Return the newest intact checkpoint; damaged ones are skipped with a warning.

        Raises:
            FileNotFoundError: there is none.
            CheckpointError: all of them are damaged; the message is about the newest.
        """
        problems = []
        for path in reversed(self.paths()):
            try:
                return path, read(path)
            except CheckpointError as error:
                problems.append(error)
                warnings.warn(f"{error}; the previous one is used", stacklevel=2)
        if problems:
            raise problems[0]
        raise FileNotFoundError(f"{self.folder} holds no checkpoint to resume from")

    @staticmethod
    def name_of(step: int) -> str:
        """The name of a checkpoint's folder; names sort by step."""
        return f"{PREFIX}{step:012d}"

    @property
    def best(self) -> Path:
        """The agent with the highest score, as a file that `load` takes."""
        return self.folder / "best.zip"

    def save_best(self, score: float, contents: Contents) -> None:
        """Replace the best agent."""
        scored = {**contents.data, "score": {"mean_return": score}}
        write(self.best, replace(contents, data=scored))

    def best_score(self) -> float:
        """The score of the best agent, minus infinity if there is none."""
        try:
            return float(read(self.best).data["score"]["mean_return"])
        except (FileNotFoundError, CheckpointError, LookupError):
            return -math.inf

    def paths(self) -> list[Path]:
        """The checkpoints in the folder, oldest first."""
        return sorted(self.folder.glob(f"{PREFIX}*"))


def _is_intact(path: Path) -> bool:
    try:
        read(path)
    except (FileNotFoundError, CheckpointError):
        return False
    return True
