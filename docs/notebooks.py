"""Writes tutorials as notebooks beside their pages, with films and pictures inline.

python docs/notebooks.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import jupytext
import nbformat

DOCS = Path(__file__).parent
PAGES = (DOCS / "start/first_robot.md", DOCS / "tutorials/read_a_circuit.md")
COMMENT = re.compile(r"<!-- tests: .*? -->\n+")
TAB = re.compile(r'=== "(?P<title>.*)"\n\n?')
CELL = re.compile(r"^```python\n(?P<source>.*?)^```\n", re.MULTILINE | re.DOTALL)
WRITTEN = re.compile(r'"(?P<name>\w+\.(?:mp4|png))"')
SHOWN = {
    "mp4": 'from IPython.display import Video\n\nVideo("{}", embed=True)\n',
    "png": 'from IPython.display import Image\n\nImage("{}")\n',
}


def notebook_of(
    page: Path, change: Callable[[str], str] = lambda source: source
) -> nbformat.NotebookNode:
    """Return a page as a notebook without outputs.

    Args:
        page: its blocks of Python become cells; other tabs than Python's are left out.
        change: is given the source of each block, and returns that of its cell.
    """
    text = COMMENT.sub("", without_tabs(page.read_text("utf-8")))
    text = text.replace("```sh\n", "```text\n")  # commands are to be read

    def cell(found: re.Match[str]) -> str:
        shown = (
            f"```python\n{SHOWN[name.rpartition('.')[2]].format(name)}```\n"
            for name in dict.fromkeys(WRITTEN.findall(found["source"]))
        )
        return "\n".join([f"```python\n{change(found['source'])}```\n", *shown])

    notebook = jupytext.reads(CELL.sub(cell, text), "md")
    for number, each in enumerate(notebook.cells):
        each["id"] = f"{page.stem}-{number}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return notebook


def without_tabs(text: str) -> str:
    """Return a page with the content of its tab "In Python" in the place of its tabs."""

    def lines() -> Iterator[str]:
        title = None
        for line in text.splitlines(keepends=True):
            if found := TAB.fullmatch(line):
                title = found["title"]
            elif title is None or (line.strip() and not line.startswith("    ")):
                title = None
                yield line
            elif title == "In Python":
                yield line.removeprefix("    ")

    return "".join(lines())


def written(page: Path) -> str:
    """Return the file of a page's notebook."""
    return nbformat.writes(notebook_of(page)) + "\n"


if __name__ == "__main__":
    for each in PAGES:
        each.with_suffix(".ipynb").write_text(written(each), "utf-8")
        print(each.with_suffix(".ipynb"))
