"""Reads the timestamps that a real control loop recorded."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLUMN = "timestamp"


def read_intervals(path: str) -> NDArray[np.float64]:
    """Return the differences of a CSV's timestamps, (rows - 1,) in seconds, read-only.

    The timestamps stand in the column `timestamp`, or else in the first one; a header is
    optional, blank lines are skipped. Raises FileNotFoundError for a missing file, ValueError for
    one without at least two increasing, finite timestamps.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"trace file {path!r} does not exist; give the path of a CSV")
    lines, timestamps = _read_timestamps(path)
    if len(timestamps) < 2:
        raise ValueError(
            f"trace file {path!r} holds {len(timestamps)} timestamps; an interval needs two"
        )
    intervals = np.diff(np.array(timestamps))
    if not (intervals > 0).all():
        late = int(np.argmin(intervals > 0)) + 1
        raise ValueError(
            f"trace file {path!r}, line {lines[late]}: timestamp {timestamps[late]} does not come "
            f"after {timestamps[late - 1]}; timestamps must increase"
        )
    intervals.setflags(write=False)
    return intervals


def _read_timestamps(path: str) -> tuple[list[int], list[float]]:
    """Return line numbers and timestamps in seconds."""
    lines, timestamps = [], []
    # Spreadsheets put a byte order mark in front, which utf-8-sig takes away.
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        column = 0
        for index, row in enumerate(row for row in reader if row):
            if index == 0 and not any(map(_is_number, row)):
                names = [name.strip() for name in row]
                column = names.index(COLUMN) if COLUMN in names else 0
                continue
            cell = row[column] if column < len(row) else ""
            if not _is_number(cell) or not np.isfinite(float(cell)):
                raise ValueError(
                    f"trace file {path!r}, line {reader.line_num}: {cell!r} is no timestamp; "
                    f"give finite seconds"
                )
            lines.append(reader.line_num)
            timestamps.append(float(cell))
    return lines, timestamps


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
