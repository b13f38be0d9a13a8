"""Logs of interruptible trainings, without gaps or repeated points."""

from __future__ import annotations

import math
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

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
"""Ends of logs by file name: rows of a table, or bytes of TensorBoard's events."""


class LogState(NamedTuple):
    """The state of a logger.

    Attributes:
        marks: ends of its logs.
        notes: values recorded but not yet written, as JSON.
        arrays: the values of some of these, by name.
    """

    marks: Marks
    notes: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class Progress(CSVOutputFormat):
    """SB3's progress.csv, which appends to an existing file and is complete at any moment.

    Args:
        path: of the file; created if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.separator, self.quotechar = ",", '"'
        self._open()

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Append a row; new columns come last, sorted by name."""
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
    """Prints the main metrics on one line."""

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
        """Print the recorded metrics."""
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
    """SB3's logger, whose files are appended to, and can be truncated to an earlier end.

    Args:
        folder: of progress.csv and TensorBoard's events; created if missing.
        formats: "stdout", SB3's table; "line", its main metrics; "csv" and "tensorboard".

    Raises:
        ValueError: a format is unknown.
        CheckpointError: a log is a link, or not a regular file.
    """

    dir: str

    def __init__(self, folder: str | Path, formats: Sequence[str] = ("csv", "tensorboard")) -> None:
        if unknown := set(formats) - OUTPUTS.keys():
            raise ValueError(
                f"a log of format {min(unknown)!r} cannot be resumed; "
                f"choose from {', '.join(OUTPUTS)}"
            )
        Path(folder).mkdir(parents=True, exist_ok=True)
        list(_logs(Path(folder)))  # checked before one is opened
        self._formats = tuple(formats)
        super().__init__(str(folder), self._outputs(Path(folder)))

    def rewind(self, marks: Mapping[str, int]) -> None:
        """Truncate the logs at the marks, whichever process wrote them."""
        self.close()
        cut(Path(self.dir), marks)
        self.output_formats = self._outputs(Path(self.dir))

    def _outputs(self, folder: Path) -> list[KVWriter]:
        return [OUTPUTS[name](folder) for name in self._formats]


def state_dict(logger: Logger) -> LogState:
    """Flush the logs to disk, and return the logger's state without pending images."""
    return LogState(_marks(logger), *_pending(logger))


def load_state_dict(logger: ResumableLogger, state: LogState) -> None:
    """Truncate the logs at a state from `state_dict`, and restore its pending values."""
    logger.rewind(state.marks)
    for name, note in state.notes.items():
        value = state.arrays[name][()] if name in state.arrays else note["value"]
        logger.record(name, value, exclude=tuple(note["exclude"]))
        if note["count"]:
            logger.name_to_count[name] = note["count"]


def _marks(logger: Logger) -> Marks:
    """Flush the logs to disk, and return where they end."""
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
    """Truncate the logs in a folder at `marks`, and remove those without a mark.

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


def _pending(logger: Logger) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the values not yet written, as JSON and as arrays; images are left out."""
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
        elif isinstance(value, float | np.generic | np.ndarray):  # NumPy numbers print differently
            notes[name], arrays[name] = note, np.asarray(value)
    return notes, arrays


def check_state(state: LogState) -> None:
    """Raise a CheckpointError unless `state_dict` could have returned this."""
    marks, notes, arrays = state
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
        raise CheckpointError("its state of the logs is not valid")


def _logs(folder: Path) -> Iterator[Path]:
    """Yield the logs in a folder; links are rejected, because logs are truncated in place."""
    for path in sorted(folder.iterdir()):
        if path.name == "progress.csv" or path.name.startswith("events.out.tfevents."):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise CheckpointError(f"{path} is a link, or not a regular file; remove it")
            yield path


def _length(path: Path) -> int:
    return len(_lines(path)) - 1 if path.suffix == ".csv" else path.stat().st_size


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8", errors="replace").split("\n")[:-1]


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
