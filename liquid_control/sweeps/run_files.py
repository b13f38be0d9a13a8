"""Reading the files of a run, which may be missing, incomplete or untrusted.

The content of a file never raises an error: `problems` lists unusable files.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.recipes import CommandError
from liquid_control.recipes.text import DEEPEST, cut, one_line, parse_yaml

Array = NDArray[np.float64]

LARGEST = 64 * 2**20  # bytes of a file; a log of 100 million control steps has 25 million
LARGEST_NUMBER = 1e15  # sums and squares of such numbers are finite
LONGEST = 200  # characters of a name
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/ -]*")

STEPS, RETURN = "time/total_timesteps", "rollout/ep_rew_mean"
SECONDS, RATE = "time/time_elapsed", "time/fps"


class FileError(ValueError):
    """An unusable file; the message gives the reason, without its path."""


@dataclass(frozen=True)
class Log:
    """The progress.csv of a training, row by row.

    Attributes:
        steps: Control steps, (rows,), increasing.
        seconds: Wall time of the training until then, (rows,).
        returns: Mean return of recent episodes, (rows,); NaN before the first episode ends.
    """

    steps: Array
    seconds: Array
    returns: Array

    @property
    def curve(self) -> tuple[Array, Array, Array]:
        """Return steps, seconds and returns of the rows that have a return."""
        known = np.isfinite(self.returns)
        return self.steps[known], self.seconds[known], self.returns[known]


NO_LOG = Log(*np.empty((3, 0)))


def shown(text: object) -> str:
    """Return a plain name unchanged, any other quoted, with special characters escaped.

    Quoted text has one line and a glyph in every font, and is not a formula in a spreadsheet.
    """
    name = cut(str(text), LONGEST)
    return name if PLAIN.fullmatch(name) else ascii(name)


def printable(text: str, length: int) -> str:
    """Return text on one line, of at most `length` characters, without unprintable ones."""
    return " ".join(
        "".join(each if each.isprintable() else " " for each in cut(text, length)).split()
    )


def number(value: object) -> float | None:
    """Return a finite number of reasonable size; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= LARGEST_NUMBER else None  # not of NaN either


def count(value: object) -> int | None:
    """Return a whole number that is not negative; None for anything else."""
    known = number(value)
    return int(known) if known is not None and known >= 0 and known == int(known) else None


def section(data: object, key: str) -> dict[str, Any]:
    """Return the mapping below a key; an empty one if there is none."""
    below = data.get(key) if isinstance(data, dict) else None
    return below if isinstance(below, dict) else {}


def read_text(path: Path) -> str:
    """Return the text of a regular file.

    Raises:
        FileNotFoundError: There is none.
        FileError: It is a link, a device or too large, or cannot be read.
    """
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise FileError("is a link, or not a regular file")
        if status.st_size > LARGEST:
            raise FileError(f"has more than {LARGEST:,} bytes")
        flags = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK"))
        with os.fdopen(os.open(path, os.O_RDONLY | flags), "rb") as file:
            return file.read(LARGEST).decode("utf-8", "replace")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; errors as in `read_text`."""
    text = read_text(path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"is not JSON: {cut(one_line(error))}") from error
    if not isinstance(data, dict):
        raise FileError("holds no mapping")
    if _nested_deeper(data, DEEPEST):
        raise FileError(f"is nested more than {DEEPEST} deep")
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys of a recipe's file, unchecked; errors as in `read_text`."""
    text = read_text(path)
    try:
        data = parse_yaml(text, path.name)
    except CommandError as error:
        raise FileError(f"cannot be used: {cut(one_line(error))}") from error
    if not isinstance(data, dict):
        raise FileError("holds no mapping")
    return data


def _nested_deeper(value: object, levels: int) -> bool:
    """Whether lists and mappings are nested more than `levels` deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_nested_deeper(each, levels - 1) for each in inner)


def read_log(path: Path) -> Log:
    """Return the log of a training, without invalid rows.

    An unterminated last line is still being written, and is also omitted. Errors as in `read_text`,
    and FileError for a file that is not a table of a training.
    """
    lines = read_text(path).split("\n")[:-1]
    rows: list[list[float]] = []
    columns: dict[str, int] = {}
    try:
        for cells in csv.reader(lines):
            if not columns:
                columns = {name: index for index, name in enumerate(cells)}
                if STEPS not in columns:
                    raise FileError(f"has no column {STEPS}")
            else:
                row = [_cell(cells, columns.get(name)) for name in (STEPS, SECONDS, RATE, RETURN)]
                if row[0] > (rows[-1][0] if rows else -1.0):  # not of NaN
                    rows.append(row)
    except csv.Error as error:
        raise FileError(f"is not a table: {cut(one_line(error))}") from error
    steps, elapsed, rates, returns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Log(steps, wall_clock(steps, elapsed, rates), returns)


def _cell(cells: list[str], index: int | None) -> float:
    """Return the number in a cell; NaN if it has none of reasonable size."""
    try:
        value = float(cells[index]) if index is not None and index < len(cells) else math.nan
    except ValueError:
        return math.nan
    return value if abs(value) <= LARGEST_NUMBER else math.nan


def wall_clock(steps: Array, elapsed: Array, rates: Array) -> Array:
    """Return the seconds since the beginning of a training that may have been resumed.

    SB3's clock, `elapsed`, restarts whenever a training is resumed; so does the count of steps in
    its `rates`, steps per second since then. A row belongs to a resumed training if its clock
    runs backwards, or if clock and rate together imply a first step other than that of the
    previous rows, within SB3's rounding. Steps that a resumed training repeats were removed from
    the log, and count once.

    Args:
        steps: Control steps, (rows,), increasing.
        elapsed: Whole seconds on SB3's clock, (rows,); NaN where unknown.
        rates: Whole steps per second on SB3's clock, (rows,); NaN where unknown.

    Returns:
        Seconds, (rows,), never decreasing.
    """
    seconds = np.zeros(len(steps))
    before, last = 0.0, 0.0  # of earlier trainings, and of this one
    first, latest = 0.0, 0.0  # bounds of the step at which this training began
    for row, (step, clock, rate) in enumerate(zip(steps, elapsed, rates, strict=True)):
        clock = clock if clock >= 0 else last  # also for NaN
        low, high = -math.inf, math.inf
        if rate >= 0:
            low, high = step - (rate + 1) * (clock + 1), step - rate * clock
        if clock < last or low > latest or high < first:
            before, last = before + last, 0.0
            first, latest = -math.inf, math.inf
        first, latest, last = max(first, low), min(latest, high), clock
        seconds[row] = before + clock
    return seconds
