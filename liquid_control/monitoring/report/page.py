"""Reports as self-contained HTML pages, without external files and scripts."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined

TEMPLATE = "report.html.jinja"
LONG = 40  # letters; a longer name of a row is broken into lines
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that control the display of others, such as the direction of writing."""


@dataclass(frozen=True)
class Picture:
    """An image with a description.

    Attributes:
        title: A short title.
        image: The content of the image file.
        kind: The format of the image.
        alt: A description for readers who cannot see it.
        caption: How to read it.
        still: A PNG of the same size, for readers who prefer reduced motion.
    """

    title: str
    image: bytes
    kind: Literal["gif", "png", "webp"]
    alt: str
    caption: str
    still: bytes | None = None

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError(f"picture {self.title!r} has no alt text; describe what it shows")


@dataclass(frozen=True)
class Chip:
    """A word in a table, preceded by a coloured dot."""

    text: str
    colour: str


@dataclass(frozen=True)
class Strong:
    """A cell of a table that stands out."""

    content: str | float


Cell: TypeAlias = str | float | tuple[Chip, ...] | Strong


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its header.

    Attributes:
        title: A short title.
        header: Names of the columns.
        rows: One cell for each column; numbers are formatted by `number`.
        caption: How to read it.
        folded: Whether only the title is shown until a reader opens it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"table {self.title!r} has {len(self.header)} columns, but a row of {len(row)}"
                )

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it holds numbers."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.header)
        return [
            any(isinstance(content_of(cell), int | float) for cell in column) for column in columns
        ]


@dataclass(frozen=True)
class Code:
    """A command or other text to copy, shown verbatim.

    Attributes:
        title: A short title.
        text: The text.
    """

    title: str
    text: str


@dataclass(frozen=True)
class Chapter:
    """A heading with a summary in points, and pictures and tables."""

    title: str
    points: Sequence[str] = ()
    parts: Sequence[Picture | Table | Code] = ()


def page(title: str, subtitle: str, facts: Mapping[str, str], chapters: Sequence[Chapter]) -> str:
    """Return a report.

    Args:
        title: The title of the page.
        subtitle: One sentence below the title.
        facts: Short facts for the header, by name.
        chapters: The chapters in order; a table of contents links to them.

    Returns:
        HTML that needs no other file.
    """
    return _TEMPLATES.get_template(TEMPLATE).render(
        title=title, subtitle=subtitle, facts=facts, chapters=chapters
    )


def content_of(cell: Cell) -> str | float | tuple[Chip, ...]:
    """Return a cell without its emphasis."""
    return cell.content if isinstance(cell, Strong) else cell


def number(value: float) -> str:
    """Format a number with three digits, or all digits before the decimal point."""
    if math.isnan(value):
        return "—"
    whole = isinstance(value, int) or abs(value) >= 100
    text = f"{value:,.0f}" if whole else f"{value:.3g}"
    return text.replace("-", "−").replace("inf", "∞")


def visible(value: Any) -> Any:
    """Escape the control characters in a text, apart from tabs and new lines."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return CONTROL.sub(lambda each: each[0].encode("unicode_escape").decode(), value)


def _words(cell: Cell) -> str:
    content = content_of(cell)
    return " ".join(chip.text for chip in content) if isinstance(content, tuple) else str(content)


def _data_uri(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(image).decode()}"


_TEMPLATES = Environment(
    loader=PackageLoader("liquid_control.monitoring.report", ""),
    autoescape=True,
    finalize=visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["number"] = number
_TEMPLATES.filters["data_uri"] = _data_uri
_TEMPLATES.tests["strong"] = lambda cell: isinstance(cell, Strong)
_TEMPLATES.tests["long"] = lambda cell: len(_words(cell)) > LONG
_TEMPLATES.tests["code"] = lambda part: isinstance(part, Code)
_TEMPLATES.tests["chips"] = lambda cell: isinstance(cell, tuple)
_TEMPLATES.tests["picture"] = lambda part: isinstance(part, Picture)
