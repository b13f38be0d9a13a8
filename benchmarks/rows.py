"""Tables of results in CSV files: a dataclass is a row, and its fields are the columns."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Row = TypeVar("Row")


def read(path: Path, kind: type[Row]) -> list[Row]:
    """Return the rows of a table, none if there is no table yet.

    Raises:
        ValueError: The file has other columns, or a cell is not what its column holds.
    """
    if not path.exists():
        return []
    names, types = columns(kind), get_type_hints(kind)
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != names:
            raise ValueError(f"{path} has the columns {reader.fieldnames}, not {names}")
        return [
            kind(**{name: PARSERS.get(types[name], str)(cell) for name, cell in row.items()})
            for row in reader
        ]


def append(path: Path, row: Any) -> None:
    """Append a row to a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begins = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if begins:
            writer.writerow(columns(type(row)))
        writer.writerow([_to_cell(getattr(row, name)) for name in columns(type(row))])


def columns(kind: type[Any]) -> list[str]:
    """Return the names of the columns."""
    return [field.name for field in fields(kind)]


def _to_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1 else str(value)


def _optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda cell: parse(cell) if cell else None


PARSERS: dict[Any, Callable[[str], Any]] = {
    bool: {"True": True, "False": False}.__getitem__,
    int: int,
    float: float,
    float | None: _optional(float),
    int | None: _optional(int),
    tuple[int, ...]: lambda cell: tuple(map(int, cell.split())),
}
