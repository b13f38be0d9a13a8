"""The tutorials as notebooks: they are those of the pages, and run in a kernel of Jupyter."""

from __future__ import annotations

import os
import runpy
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT, blocks_of

pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")
BUILD = runpy.run_path(str(ROOT / "docs/notebooks.py"), run_name="notebooks")


def small(page: Path) -> Any:
    """A page as a notebook, with the replacements that its comments give to the tests."""
    blocks = [each for each in blocks_of(page) if each.language == "python"]
    sources = iter(blocks)

    def change(source: str) -> str:
        block = next(sources)
        shown = [line.split("(")[0] for line in source.splitlines()]
        ran = textwrap.dedent(block.source).rstrip() + "\n"
        assert [line.split("(")[0] for line in ran.splitlines()][:1] == shown[:1]
        return ran

    return BUILD["notebook_of"](page, change)


@pytest.mark.parametrize("page", BUILD["PAGES"], ids=lambda page: page.stem)
def test_a_notebook_is_that_of_its_page(page: Path) -> None:
    notebook = page.with_suffix(".ipynb")
    assert notebook.read_text() == BUILD["written"](page), "run python docs/notebooks.py"
    assert f"({notebook.name})" in page.read_text()  # the page links to it
    blocks = [each for each in blocks_of(page) if each.language == "python"]
    code = [each for each in BUILD["notebook_of"](page).cells if each.cell_type == "code"]
    assert len([each for each in code if "IPython.display" not in each.source]) == len(blocks)


@pytest.mark.slow
@pytest.mark.parametrize("page", BUILD["PAGES"], ids=lambda page: page.stem)
def test_a_notebook_runs_and_shows_its_films_and_pictures(page: Path, tmp_path: Path) -> None:
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    client = nbclient.NotebookClient(
        small(page), timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    done = client.execute(env=os.environ | paths)
    shown = [each for each in done.cells if "IPython.display" in each.get("source", "")]
    kinds = {"text/html", "image/png"}
    assert shown
    for each in shown:
        assert any(kinds & {*output.get("data", {})} for output in each.outputs)
