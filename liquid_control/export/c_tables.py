"""The constants of a policy in C: numbers, tables and weights of four, eight or 32 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.export.description import ExportError

WIDTH = 96  # of lines with tables


def number(value: float) -> str:
    """Return a literal that is exactly a single-precision number, in every locale."""
    text = f"{np.float32(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


class Table:
    """A constant array of floats, of whole numbers of eight bits, or of indices.

    Raises:
        ExportError: an index does not fit into 16 bits.
    """

    def __init__(self, name: str, values: NDArray[Any]) -> None:
        self.name, self.values = name, values
        self.is_of_circuit = False  # whether the circuit uses it
        if values.dtype == np.float32:
            self.type = "float"
        elif values.dtype == np.int8:
            self.type = "int8_t"
        else:
            largest = int(values.max(initial=0))
            self.type = "uint8_t" if largest < 1 << 8 else "uint16_t"
            if largest >= 1 << 16:
                raise ExportError(f"{name} has more than {1 << 16} entries, which C cannot index")

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        width = {"float": 4, "int8_t": 1, "uint8_t": 1, "uint16_t": 2}[self.type]
        return int(self.values.size) * width

    def text(self) -> Iterator[str]:
        """Yield the lines of its definition."""
        shape = "".join(f"[{size}]" for size in self.values.shape)
        yield f"static const {self.type} {self.name}{shape} = {{"
        if self.values.ndim == 1:
            yield from _wrapped(self._literals(self.values))
        elif self.values.ndim == 2:
            yield from _wrapped(["{" + ", ".join(self._literals(row)) + "}" for row in self.values])
        else:
            for matrix in self.values:
                yield "    {"
                for row in matrix:
                    yield from ("    {", *_wrapped(self._literals(row)), "    },")
                yield "    },"
        yield "};"

    def _literals(self, values: NDArray[Any]) -> list[str]:
        return [number(each) if self.type == "float" else str(int(each)) for each in values]


def add_table(
    tables: dict[str, Table], name: str, values: NDArray[Any], *, is_of_circuit: bool
) -> str:
    """Return the name of a table with these values, which is added if there is none."""
    unique, count = name, 1
    while unique in tables and not np.array_equal(tables[unique].values, values):
        count += 1
        unique = f"{name}_{count}"
    if unique not in tables:
        tables[unique] = Table(unique, values)
    tables[unique].is_of_circuit |= is_of_circuit
    return unique


@dataclass(frozen=True)
class Weights:
    """A table of weights.

    Attributes:
        name: of the table.
        shape: of the weights.
        bits: of each: 32 for floats.
    """

    name: str
    shape: tuple[int, ...]
    bits: int

    def at(self, *indices: str | int) -> str:
        """Return the text of one weight, as a float."""
        if self.bits == 4:
            place = str(indices[0])
            for size, index in zip(self.shape[1:], indices[1:], strict=True):
                place = f"({place} * {size} + {index})"
            return f"weight_at({self.name}, {place})"
        text = self.name + "".join(f"[{index}]" for index in indices)
        return text if self.bits == 32 else f"(float){text}"


def packed(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return whole numbers of four bits, two in a byte, the first in the lower bits."""
    flat = np.append(values.ravel(), np.int8(0)) if values.size % 2 else values.ravel()
    bits = flat.astype(np.uint8) & 15
    return np.asarray(bits[::2] | (bits[1::2] << 4), np.uint8)


def _wrapped(literals: Sequence[str]) -> Iterator[str]:
    line = "   "
    for literal in literals:
        if len(line) + len(literal) > WIDTH:
            yield line
            line = "   "
        line += f" {literal},"
    yield line


def comment(text: str) -> str:
    """Return text that cannot end a comment or a line."""
    return " ".join(text.replace("*/", "* /").replace("/*", "/ *").splitlines())
