"""Logs of a training that may be interrupted, without gaps and without repeated points."""

from __future__ import annotations

import math
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
    filter_excluded_keys,
)
from torch import Tensor

from liquid_control.checkpoints.durable import write_text
from liquid_control.checkpoints.errors import CheckpointError

Marks: TypeAlias = dict[str, int]
"""Where logs end: rows of a table, bytes of TensorBoard's events, by the names of their files."""


class Progress(CSVOutputFormat):
    """SB3's progress.csv, which goes on where it ends and is whole at any moment.

    Args:
        path: of the file; it is created if need be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.separator, self.quotechar = ",", '"'
        self._open()

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Append a row; columns that are new come last, by their names."""
        shown = filter_excluded_keys(key_values, key_excluded, "csv")
        if new := sorted(shown.keys() - set(self.keys)):
            self.file.close()
            gaps = self.separator * len(new)
            rows = [row + gaps for row in _lines(self.path)[1:]]
            write_text(self.path, _joined([self.separator.join(self.keys + new), *rows]))
            self._open()
        super().write(key_values, key_excluded, step)

    def _open(self) -> None:
        self.file = self.path.open("a", encoding="utf-8")
        header = next(iter(_lines(self.path)), "")
        self.keys = header.split(self.separator) if header else []


class Line(KVWriter):
    """Prints the figures that a user follows, on one line."""

    FIGURES: ClassVar[dict[str, str]] = {
        "rollout/ep_rew_mean": "return {:,.1f}",
        "rollout/ep_len_mean": "{:,.0f} steps an episode",
        "train/std": "deviation {:.2f}",
        "train/approx_kl": "KL {:.4f}",
        "train/ent_coef": "entropy coefficient {:.3g}",
        "train/critic_loss": "critic loss {:.3g}",
        "speed/all": "{:,.0f} steps/s",
    }

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Print the figures that were recorded."""
        shown = filter_excluded_keys(key_values, key_excluded, "stdout")
        figures = [text.format(shown[name]) for name, text in self.FIGURES.items() if name in shown]
        print(f"{step:>12,} steps", *figures, sep="  ", flush=True)

    def close(self) -> None:
        """Do nothing."""


OUTPUTS: dict[str, Callable[[Path], KVWriter]] = {
    "stdout": lambda _: HumanOutputFormat(sys.stdout),
    "line": lambda _: Line(),
    "csv": lambda folder: Progress(folder / "progress.csv"),
    "tensorboard": lambda folder: TensorBoardOutputFormat(str(folder)),
}


class ResumableLogger(Logger):
    """SB3's logger, whose files go on where they end, and can be cut back to where they ended.

    Args:
        folder: of progress.csv and TensorBoard's events; it is created if need be.
        formats: "stdout", SB3's table; "line", its main figures; "csv" and "tensorboard".

    Raises:
        ValueError: another format.
        CheckpointError: a log is a link, or no regular file.
    """

    dir: str

    def __init__(self, folder: str | Path, formats: Sequence[str] = ("csv", "tensorboard")) -> None:
        if unknown := set(formats) - OUTPUTS.keys():
            raise ValueError(
                f"a log of format {min(unknown)!r} cannot be resumed; "
                f"choose of {', '.join(OUTPUTS)}"
            )
        Path(folder).mkdir(parents=True, exist_ok=True)
        list(_logs(Path(folder)))  # before one is opened
        self._formats = tuple(formats)
        super().__init__(str(folder), self._outputs(Path(folder)))

    def rewind(self, marks: Mapping[str, int]) -> None:
        """Cut off what was logged after `marks_of` returned these, by whatever process."""
        self.close()
        cut(Path(self.dir), marks)
        self.output_formats = self._outputs(Path(self.dir))

    def _outputs(self, folder: Path) -> list[KVWriter]:
        return [OUTPUTS[name](folder) for name in self._formats]


def marks_of(logger: Logger) -> Marks:
    """Bring what was logged to the disk, and return where the logs end."""
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.flush()
    marks = {}
    for path in _logs(Path(logger.dir)) if logger.dir else ():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        marks[path.name] = _length(path)
    return marks


def cut(folder: Path, marks: Mapping[str, int]) -> None:
    """Cut the logs in a folder where `marks` say they ended; one they do not name is removed.

    Warns if a log is shorter than it was, as the file of another run would be.
    """
    for path in list(_logs(folder)):
        end = marks.get(path.name)
        if end is None:
            path.unlink()
        elif _length(path) < end:
            warnings.warn(
                f"{path} is shorter than it was when the checkpoint was saved, so points are "
                "missing; keep the logs of a run and its checkpoints together",
                stacklevel=3,
            )
        elif path.suffix == ".csv":
            write_text(path, _joined(_lines(path)[: end + 1]))
        else:
            os.truncate(path, end)


def pending_of(logger: Logger) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What was recorded and is not written yet, as JSON and as arrays; pictures are left out."""
    notes: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in logger.name_to_value.items():
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        note = {
            "count": logger.name_to_count.get(name, 0),
            "exclude": list(logger.name_to_excluded[name]),
        }
        if type(value) in {bool, int, str} or (type(value) is float and math.isfinite(value)):
            notes[name] = note | {"value": value}
        elif isinstance(value, float | np.generic | np.ndarray):  # NumPy prints its numbers its way
            notes[name], arrays[name] = note, np.asarray(value)
    return notes, arrays


def check_logs(marks: Any, notes: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise a CheckpointError unless these are marks, and what `pending_of` may return."""
    right = isinstance(marks, dict) and isinstance(notes, dict) and arrays.keys() <= notes.keys()
    for name, end in marks.items() if right else ():  # -1: a table without its header
        right = right and type(end) is int and end >= (-1 if name.endswith(".csv") else 0)
    for name, note in notes.items() if right else ():
        keys = {"count", "exclude"} if name in arrays else {"count", "exclude", "value"}
        right = right and isinstance(note, dict) and note.keys() == keys
        right = right and type(note["count"]) is int and note["count"] >= 0
        right = right and isinstance(note["exclude"], list)
        right = right and isinstance(note.get("value", 0), bool | int | float | str)
    if not right:
        raise CheckpointError("what it says of the logs cannot be used")


def record_again(
    logger: Logger, notes: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Record what `pending_of` returned."""
    for name, note in notes.items():
        value = arrays[name][()] if name in arrays else note["value"]
        logger.record(name, value, exclude=tuple(note["exclude"]))
        if note["count"]:
            logger.name_to_count[name] = note["count"]


def _logs(folder: Path) -> Iterator[Path]:
    """The logs in a folder; a link is refused, because a log is cut off where it lies."""
    for path in sorted(folder.iterdir()):
        if path.name == "progress.csv" or path.name.startswith("events.out.tfevents."):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise CheckpointError(f"{path} is a link, or no regular file; remove it")
            yield path


def _length(path: Path) -> int:
    return len(_lines(path)) - 1 if path.suffix == ".csv" else path.stat().st_size


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").split("\n")[:-1]


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
