"""Progress of the run in a folder, from the files of its training."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

RETURN, STEPS = "rollout/ep_rew_mean", "time/total_timesteps"
TAIL = 100_000  # bytes at the end of progress.csv that contain the last row
CLAIM = ".driver.lock"
LARGEST = 10_000_000  # bytes of a file of JSON


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        status: training, interrupted or finished, as the training wrote it; None before it began.
        steps: Control steps of the last row of its log.
        mean_return: Mean return of the last training episodes; NaN before the first one ended.
    """

    status: str | None = None
    steps: int = 0
    mean_return: float = math.nan


def progress_of(folder: Path) -> Progress:
    """Return the progress of the run in a folder; unreadable files count as missing."""
    state = read_json(folder / "run.json")
    status = state.get("status")
    row = last_row(folder / "progress.csv")
    steps = max(_number(row.get(STEPS)), _number(state.get("steps")), 0.0, key=_finite)
    return Progress(
        status if isinstance(status, str) else None,
        int(steps) if math.isfinite(steps) else 0,
        _number(row.get(RETURN)),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if it is missing, damaged or another value."""
    try:
        if path.stat().st_size > LARGEST:
            return {}
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def last_row(path: Path) -> dict[str, str]:
    """Return the last complete row of a CSV file by its columns; empty if there is none."""
    try:
        with path.open("rb") as file:
            header = file.readline(TAIL).decode("utf-8")
            begin = file.tell()
            end = file.seek(0, io.SEEK_END)
            file.seek(max(begin, end - TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")[:-1]
    except (OSError, UnicodeDecodeError):
        return {}
    if not lines:
        return {}
    names, values = (next(csv.reader([line]), []) for line in (header.rstrip("\n"), lines[-1]))
    return dict(zip(names, values, strict=True)) if len(names) == len(values) else {}


def rows_of(path: Path) -> list[tuple[int, float]]:
    """Return (control steps, mean return) of every row of a log that has both."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            pairs = [
                (_number(row.get(STEPS)), _number(row.get(RETURN))) for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error):
        return []
    return [(int(steps), value) for steps, value in pairs if _finite(steps + value) > -math.inf]


def is_locked(folder: Path) -> bool:
    """Return whether a training holds the folder of a run, or the driver that starts one."""
    if not folder.is_dir():
        return False
    try:
        with FileLock(folder / ".lock", timeout=0), FileLock(folder / CLAIM, timeout=0):
            return False
    except Timeout:
        return True


def claim(folder: Path) -> FileLock | None:
    """Return a driver's lock on the folder of a run; None if another driver holds it.

    A training takes its own lock only once it has started, which takes seconds. The lock ends with
    the driver's process.
    """
    lock = FileLock(folder / CLAIM, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def newest_checkpoint(folder: Path) -> str:
    """Return the name of the newest checkpoint of a run, "" if it has none."""
    return max((path.name for path in (folder / "checkpoints").glob("step-*")), default="")


def score_of(folder: Path) -> float:
    """Return the mean return over the rates of the evaluation at a run's end; NaN without one."""
    evaluation = read_json(folder / "evaluation.json")
    others = evaluation.get("intervals") or []
    rates = [evaluation.get("trained"), *others] if isinstance(others, list) else [None]
    means = [
        _number(each.get("mean_return")) if isinstance(each, dict) else math.nan for each in rates
    ]
    return sum(means) / len(means)


def _number(value: Any) -> float:
    """Return a number, or NaN for other values."""
    try:
        return math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _finite(number: float) -> float:
    """Return a number that can be compared: minus infinity if it is not finite."""
    return number if math.isfinite(number) else -math.inf
