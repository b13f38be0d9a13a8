"""Links between the pages, and from the documents at the root, lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from markdown.extensions.toc import slugify

from tests.docs.blocks import PAGES, ROOT

DOCUMENTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCED.sub("", page.read_text())


@cache
def anchors(page: Path) -> set[str]:
    """What a link into a page can name: its headings."""
    return {slugify(heading.replace("`", ""), "-") for heading in HEADING.findall(prose(page))}


def broken(page: Path) -> Iterator[str]:
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        generated = target.parent.name == "reference"  # its headings come with the site
        if not target.exists() or (anchor and not generated and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert not list(broken(page))


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n\n[a](#a-title) [b](#no-title) [c](page.md) [d](no-page.md)\n")
    assert list(broken(page)) == ["#no-title", "no-page.md"]


def test_every_page_is_in_the_navigation_once() -> None:
    def pages(items: object) -> Iterator[str]:
        for item in items if isinstance(items, list) else [items]:
            if isinstance(item, dict):
                yield from pages(*item.values())
            else:
                yield item

    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(
        page.relative_to(ROOT / "docs").as_posix()
        for page in PAGES
        if page.is_relative_to(ROOT / "docs")
    )


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
