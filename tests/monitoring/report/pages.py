"""A parser of HTML reports, for tests of their content."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"img", "input", "meta", "source"}


@dataclass
class Element:
    """A tag with what lies inside it, in order: elements and texts."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    content: list[Element | str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Element]:
        """All elements inside, at any depth."""
        for each in self.content:
            if isinstance(each, Element):
                yield each
                yield from each

    def all(self, *tags: str) -> list[Element]:
        return [each for each in self if each.tag in tags]

    @property
    def text(self) -> str:
        parts = (each if isinstance(each, str) else each.text for each in self.content)
        return " ".join("".join(parts).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, dict(attrs))
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"<{self.open[-1].tag}> is closed by </{tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def read(html: str) -> Element:
    """Read a page, every tag of which must be closed."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.root]
    return reader.root


def image(element: Element, attribute: str = "src") -> bytes:
    """The file that lies inside an image."""
    head, _, data = (element.attributes[attribute] or "").partition(",")
    assert head.startswith("data:image/")
    assert head.endswith(";base64")
    return b64decode(data, validate=True)


def rows(table: Element) -> list[list[str]]:
    """The texts of a table, without its header."""
    (body,) = table.all("tbody")
    return [[cell.text for cell in row.all("th", "td")] for row in body.all("tr")]


def check(html: str) -> Element:
    """Read a page that must be sound, open to every reader, and in need of no other file."""
    page = read(html)
    assert html.startswith("<!DOCTYPE html>")

    ids = [each.attributes["id"] for each in page if "id" in each.attributes]
    assert len(set(ids)) == len(ids)
    for each in page:
        assert each.attributes.get("aria-labelledby", ids[0]) in ids
    for link in page.all("a"):
        assert (link.attributes["href"] or "").removeprefix("#") in ids

    headings = [int(each.tag[1]) for each in page.all("h1", "h2", "h3")]
    assert headings.count(1) == 1
    assert headings[0] == 1
    assert max(below - above for above, below in pairwise(headings)) <= 1

    for picture in page.all("img"):
        assert (picture.attributes["alt"] or "").strip()
        assert image(picture)
    for table in page.all("table"):
        scopes = {each.attributes["scope"] for each in table.all("th")}
        assert scopes == {"row", "col"}

    assert not page.all("script", "link", "iframe", "object")
    fetched = [
        each.attributes[name] or ""
        for each in page
        for name in ("src", "srcset", "href", "poster", "action")
        if name in each.attributes
    ]
    assert all(each.startswith(("data:image/", "#")) for each in fetched)
    (style,) = page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    return page
