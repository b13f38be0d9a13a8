"""Pages contain what they are given, are accessible, and need no network."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from liquid_control.monitoring.report.page import (
    Chapter,
    Chip,
    Code,
    Picture,
    Strong,
    Table,
    number,
    page,
)
from tests.monitoring.report import pages


def png(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 3), colour).save(file, "png")
    return file.getvalue()


def picture(title: str = "a plot", **others: Any) -> Picture:
    arguments = {"image": png("red"), "kind": "png", "alt": "a red box", "caption": "It is red."}
    return Picture(title, **(arguments | others))


NEURONS = Table(
    "neurons",
    ("neuron", "loss", "hears"),
    [
        ("inter_0", 1234.5, (Chip("knee +0.50", "#d55e00"), Chip("hip −0.25", "#0072b2"))),
        ("inter_1", -0.125, ()),
    ],
    "Sorted by loss.",
)
CHAPTERS = [
    Chapter("First", ["one point", "another"], [picture(), NEURONS]),
    Chapter("Second", parts=[picture(still=png("blue")), NEURONS]),
    Chapter("First", parts=[Table("settings", ("key", "value"), [("a", "b")], folded=True)]),
]
PAGE = page("HalfCheetah", "what it does", {"Seed": "3"}, CHAPTERS)


def test_a_page_is_sound_and_needs_no_other_file() -> None:
    pages.check(PAGE)


def test_a_table_of_contents_leads_to_every_chapter() -> None:
    read = pages.read(PAGE)
    (contents,) = read.all("nav")
    targets = {each.attributes.get("id"): each for each in read}
    led_to = [targets[(link.attributes["href"] or "")[1:]] for link in contents.all("a")]
    assert [each.all("h2")[0].text for each in led_to] == ["First", "Second", "First"]
    assert [each.text for each in led_to[0].all("li")] == ["one point", "another"]


def test_images_lie_inside_bit_for_bit() -> None:
    read = pages.read(PAGE)
    assert [pages.image(each) for each in read.all("img")] == [png("red")] * 2
    (still,) = read.all("source")
    assert pages.image(still, "srcset") == png("blue")
    assert "prefers-reduced-motion" in (still.attributes["media"] or "")


def test_tables_hold_their_cells_and_numbers_stand_right() -> None:
    table, *_ = pages.read(PAGE).all("table")
    assert pages.rows(table) == [
        ["inter_0", "1,234", "knee +0.50 hip −0.25"],
        ["inter_1", "−0.125", ""],
    ]
    right = [each.text for each in table if each.attributes.get("class") == "number"]
    assert right == ["loss", "1,234", "−0.125"]
    dots = [each.attributes["style"] for each in table.all("span")]
    assert dots == ["--colour: #d55e00", "--colour: #0072b2"]


def test_a_folded_table_can_be_opened() -> None:
    (folded,) = pages.read(PAGE).all("details")
    assert "open" not in folded.attributes
    assert folded.all("summary")[0].text == "settings"
    assert pages.rows(folded) == [["a", "b"]]


def test_control_characters_are_escaped() -> None:
    text = "a\x1b[31mb\x00c\u202ed\n\te"
    content = Chapter(text, [text], [Table(text, (text,), [(text,)], text)])
    read = page(text, text, {text: text}, [content])
    assert "a\\x1b[31mb\\x00c\\u202ed\n\te" in read
    assert not {"\x1b", "\x00", "\u202e"} & set(read)


@pytest.mark.parametrize("text", ["<b>&\"'", "<script>alert(1)</script>", "a\u2028b &lt;"])
def test_texts_are_escaped(text: str) -> None:
    table = Table(text, (text,), [(text,), ((Chip(text, "#000000"),),)], text)
    content = Chapter(text, [text], [picture(text, alt=text, caption=text), table])
    read = pages.check(page(text, text, {text: text}, [content]))
    shown = " ".join(text.split())
    assert read.all("img")[0].attributes["alt"] == text
    for tag in ("title", "h1", "h2", "h3", "dt", "dd", "li", "a", "figcaption"):
        assert read.all(tag)[-1].text == shown
    assert pages.rows(read) == [[shown], [shown]]


def test_cells_that_stand_out_are_strong_and_numbers_still_stand_right() -> None:
    rows = [("a", Strong(1234.5)), ("b", 2.0), ("c", Strong("<b>"))]
    read = pages.check(page("", "", {}, [Chapter("One", parts=[Table("t", ("x", "y"), rows)])]))
    assert [each.text for each in read.all("strong")] == ["1,234", "<b>"]
    assert pages.rows(read) == [["a", "1,234"], ["b", "2"], ["c", "<b>"]]
    assert {each.attributes.get("class") for each in read.all("td")} == {"number"}


def test_code_is_shown_as_it_is() -> None:
    text = "train <a> &amp;\n  --set b"
    read = pages.check(page("", "", {}, [Chapter("One", parts=[Code("Command", text)])]))
    (code,) = read.all("code")
    assert code.content == [text]
    assert "Command" in [each.text for each in read.all("h3")]


def test_long_names_of_rows_break_into_lines() -> None:
    long = "n" * 100
    rows = [(long, 1), ((Chip(long, "#000000"),), 2), ("short", 3)]
    read = pages.check(page("", "", {}, [Chapter("One", parts=[Table("t", ("x", "y"), rows)])]))
    names = [each for each in read.all("th") if each.attributes["scope"] == "row"]
    assert [each.attributes.get("class") for each in names] == ["long", "long", None]


def test_a_picture_without_alt_text_raises() -> None:
    with pytest.raises(ValueError, match="'a plot' has no alt text"):
        picture(alt=" ")


def test_a_row_of_the_wrong_length_raises() -> None:
    with pytest.raises(ValueError, match="'sizes' has 2 columns, but a row of 1"):
        Table("sizes", ("name", "size"), [("a", 1), ("b",)])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.04162, "0.0416"),
        (-2.5, "−2.5"),
        (99.96, "100"),
        (2702.4, "2,702"),
        (-1234567.0, "−1,234,567"),
        (1000, "1,000"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "—"),
    ],
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    assert number(value) == text
