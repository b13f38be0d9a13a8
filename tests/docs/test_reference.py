"""The reference has every public name, every key of a recipe and every argument of a command."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from liquid_control import cli
from liquid_control.commands import hub
from liquid_control.commands.usage import EXAMPLES
from liquid_control.recipes import CommandError, Recipe, RecipeError
from liquid_control.recipes.schema import Linear
from tests.docs.blocks import ROOT
from tests.docs.commands import ParsedError, parse_only
from tests.docs.test_links import anchors

PARTS: dict[str, Callable[[], str]] = runpy.run_path(str(ROOT / "docs/reference/generate.py"))[
    "PARTS"
]
MODULES = sorted(
    path.parent.name
    for path in (ROOT / "liquid_control").glob("*/__init__.py")
    if "__all__" in path.read_text() and path.parent.name != "commands"  # they have a page
)
REMOTE = re.compile(
    r'<(?:script|img|iframe|link[^>]*rel="stylesheet")[^>]*(?:src|href)="(?:https?:)?//'
)


def described() -> set[str]:
    pages = (page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    return set(re.findall(r"^::: (\S+)$", "\n".join(pages), re.MULTILINE))


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_described(module: str) -> None:
    names = import_module(f"liquid_control.{module}").__all__
    assert {f"liquid_control.{module}.{name}" for name in names} <= described()


def test_the_names_of_the_package_are_described_where_they_are_defined() -> None:
    package = import_module("liquid_control")
    last = {name.split(".")[-1] for name in described()}
    assert {*package.__all__} - {"__version__", "envs"} <= last


def keys_of(section: type[BaseModel]) -> Iterator[str]:
    """The names of all keys of a section, and of the sections in it."""
    for name, field in section.model_fields.items():
        yield name
        for part in parts_of(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from keys_of(part)


def parts_of(hint: object) -> Iterator[object]:
    """A type, and the types that it is made of."""
    yield hint
    for part in get_args(hint):
        yield from parts_of(part)


def test_every_key_of_a_recipe_is_described() -> None:
    text = PARTS["recipe"]()
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    keys = {*keys_of(Recipe)} - {*Linear.model_fields}  # a value of two numbers, not a section
    assert {"n_steps", "buffer_size", "neurons", "film_seconds"} < keys <= rows
    assert not re.search(r"\| *\|$", text, re.MULTILINE)  # a key without a meaning


def test_every_verb_is_described_with_its_arguments() -> None:
    text = PARTS["commands"]()
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(cli.MODULES.values())
    for flag in (
        "RECIPE",
        "--set KEY=VALUE ...",
        "--lesion-episodes",
        "--import MODULE",
        "--against RUN",
    ):
        assert f"<dt><code>{flag}" in text
    assert "<dd></dd>" not in text
    for lines in EXAMPLES.values():
        assert "```sh\n" + "\n".join(lines) + "\n```" in text


def test_every_example_of_a_command_is_accepted() -> None:
    """Their arguments are parsed; pages run most of them."""
    assert [*EXAMPLES] == [*cli.MODULES.values()]
    for verb, lines in EXAMPLES.items():
        for line in lines:
            program, *words = shlex.split(line.partition(" > ")[0])
            assert (program, words[0]) == ("liquid-control", verb)
            with pytest.raises(ParsedError):
                parse_only(lambda words=words: cli.main(words))


def test_pages_that_errors_name_exist() -> None:
    pages = {CommandError.page, RecipeError.page, hub.PAGE, cli.KERNELS} - {""}
    for path in (ROOT / "liquid_control").rglob("*.py"):
        pages |= {*re.findall(r'page="([^"]+)"', path.read_text())}
    assert len(pages) > 5
    for page in pages:
        path, _, heading = page.partition("#")
        assert (ROOT / "docs" / path).exists(), page
        assert not heading or heading in anchors(ROOT / "docs" / path), page


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 30
    assert not [page for page in pages if REMOTE.search(page.read_text())]
