"""The code blocks of a page, and what the page asks of the tests that run them.

A comment before a block, which readers do not see, speaks to the tests:

    <!-- tests: 1_000_000 as 256, num_envs=16 as num_envs=2 -->
    <!-- tests: slow -->, or before replacements: <!-- tests: slow, 1_000_000 as 256 -->
    <!-- tests: not run: it needs a cluster -->

The first replaces text of the block; text that the block does not have is an error, so that what is
replaced follows the page. A slow block runs with the marker `slow` alone. One that is not run gives
the reason. A block with a title is a file of that name, which later blocks use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sybil import Document, Region
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCES = RawFencedCodeBlockLexer(re.compile(r"(?P<language>\w*)(?P<options>[^\n]*)$\n", re.M))
COMMENTS = DirectiveInHTMLCommentLexer("tests")
TITLE = re.compile(r'title="([^"]+)"')
SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        line: its first line of code, from one.
        language: "python", "sh", "yaml", ...; empty if the page names none.
        title: the name of the file that it is; empty for none.
        source: its code, with the replacements of the page.
        slow: whether it runs in slow tests alone.
        why_not: why it is not run; empty if it is.
    """

    line: int
    language: str
    title: str
    source: str
    slow: bool = False
    why_not: str = ""


def blocks_of(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = page.read_text()
    document = Document(text, str(page))
    comments = {region.end: region for region in COMMENTS(document)}
    used = set()
    blocks = []
    for region in FENCES(document):
        ends = [end for end in comments if not text[end : region.start].strip("- >\n")]
        before = [end for end in ends if end <= region.start]
        used |= {*before}
        blocks.append(_block(document, region, comments[before[0]] if before else None))
    assert used == set(comments), f"{page}: a comment for tests is not before a block"
    return blocks


def _block(document: Document, region: Region, comment: Region | None) -> Block:
    source = SNIPPET.sub(lambda found: (ROOT / found[1]).read_text(), region.lexemes["source"])
    words = comment.lexemes["arguments"].strip() if comment else ""
    slow, why_not = words.startswith("slow"), ""
    words = words.removeprefix("slow").removeprefix(", ")
    if words.startswith("not run: "):
        why_not = words.removeprefix("not run: ")
    elif words:
        for replacement in words.split(", "):
            shown, _, small = replacement.partition(" as ")
            assert shown in source, f"{document.path}: the block has no {shown!r} to replace"
            source = source.replace(shown, small)
    title = TITLE.search(region.lexemes["options"])
    return Block(
        line=document.text.count("\n", 0, region.start) + 2,
        language=region.lexemes["language"],
        title=title[1] if title else "",
        source=source,
        slow=slow,
        why_not=why_not,
    )
