"""The chapters of a report as Markdown (GitHub's flavour), for repositories and issues."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from liquid_control.monitoring.report.page import (
    Cell,
    Chapter,
    Code,
    Picture,
    Strong,
    Table,
    number,
    visible,
)

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKS = re.compile(r"([\\`*_\[\]|~$#])")


def to_markdown(
    title: str,
    subtitle: str,
    facts: Mapping[str, str],
    chapters: Sequence[Chapter],
    files: Mapping[str, str],
) -> str:
    """Return a report, of the same parts as `page` takes.

    Args:
        title: The title.
        subtitle: One sentence below the title.
        facts: Short facts, by name.
        chapters: The chapters in order.
        files: Path of each picture, by its title, relative to the report.
    """
    blocks = [f"# {escaped(title)}", escaped(subtitle)]
    blocks.append("\n".join(f"- {escaped(name)}: {escaped(fact)}" for name, fact in facts.items()))
    for chapter in chapters:
        blocks.append(f"## {escaped(chapter.title)}")
        blocks.append("\n".join(f"- {escaped(point)}" for point in chapter.points))
        for part in chapter.parts:
            blocks += _blocks(part, files)
    return "\n\n".join(filter(None, blocks)) + "\n"


def escaped(text: str) -> str:
    """Return text on one line, with Markdown's marks and HTML's tags escaped."""
    line = " ".join(str(visible(text)).split())
    for character, entity in ENTITIES.items():
        line = line.replace(character, entity)
    return MARKS.sub(r"\\\1", line)


def _blocks(part: Picture | Table | Code, files: Mapping[str, str]) -> list[str]:
    if isinstance(part, Picture):
        return [
            f"### {escaped(part.title)}",
            f"![{escaped(part.alt)}]({files[part.title]})",
            escaped(part.caption),
        ]
    if isinstance(part, Code):
        longest = max(map(len, re.findall("`+", part.text)), default=0)
        fence = "`" * max(longest + 1, 3)
        return [f"### {escaped(part.title)}", f"{fence}\n{visible(part.text)}\n{fence}"]
    return [f"### {escaped(part.title)}", _table(part), escaped(part.caption)]


def _table(table: Table) -> str:
    rule = ["---:" if numeric else "---" for numeric in table.numeric]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    lines = [[escaped(name) for name in table.header], rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Strong):
        return f"**{_cell(cell.content)}**"
    if isinstance(cell, tuple):
        return ", ".join(escaped(chip.text) for chip in cell)
    return escaped(cell if isinstance(cell, str) else number(cell))
