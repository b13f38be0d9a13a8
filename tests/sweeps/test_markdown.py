"""Markdown holds what a report has, and nothing that a reader's program would act on."""

from __future__ import annotations

import pytest

from liquid_control.monitoring.report.page import Chapter, Chip, Code, Picture, Strong, Table
from liquid_control.sweeps.markdown import escaped, to_markdown

PICTURE = Picture("Curves", b"png", "png", "two [curves]", "They rise.")
TABLE = Table(
    "Scores",
    ("recipe", "score", "note"),
    [((Chip("a|b", "#000000"),), Strong(1234.5), "<b>"), ("c", float("nan"), "")],
    "Higher is better.",
)


def test_every_part_of_a_report_is_there() -> None:
    chapters = [Chapter("First", ["one", "two"], [PICTURE, TABLE]), Chapter("Last")]
    text = to_markdown("Study", "What came of it.", {"Runs": "3"}, chapters, {"Curves": "f/c.png"})
    assert text.split("\n\n") == [
        "# Study",
        "What came of it.",
        "- Runs: 3",
        "## First",
        "- one\n- two",
        "### Curves",
        r"![two \[curves\]](f/c.png)",
        "They rise.",
        "### Scores",
        "| recipe | score | note |\n| --- | ---: | --- |\n"
        r"| a\|b | **1,234** | &lt;b&gt; |" + "\n| c | — |  |",
        "Higher is better.",
        "## Last\n",
    ]


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("half_cheetah-ncp", r"half\_cheetah-ncp"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[x](javascript:1)", r"\[x\](javascript:1)"),
        ("a\n# b\n\n| c", r"a \# b \| c"),
        ("`rm`\\", r"\`rm\`\\"),
        ("&lt;", "&amp;lt;"),
        ("\x1b[31m", r"\\x1b\[31m"),
    ],
)
def test_marks_and_tags_lose_their_meaning(text: str, markdown: str) -> None:
    assert escaped(text) == markdown


@pytest.mark.parametrize("command", ["a b", "a ``` b", "````\n<b>"])
def test_a_command_stays_inside_its_fence(command: str) -> None:
    chapter = Chapter("Made", parts=[Code("Command", command)])
    *_, block = to_markdown("S", "T", {}, [chapter], {}).rstrip("\n").split("\n\n")
    fence, *lines, end = block.split("\n")
    assert fence == end
    assert set(fence) == {"`"}
    assert fence not in command
    assert "\n".join(lines) == command
