"""Code blocks and command lines of the site and of the README run, with small numbers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil.evaluators.python import pad

from liquid_control import cli
from liquid_control.recipes import recipe_from
from liquid_control.recipes.stress import Stress
from liquid_control.recipes.text import parse_yaml
from tests.docs.blocks import PAGES, ROOT, Block, blocks_of
from tests.docs.commands import TINY, TINY_PPO, command_lines, run, working_directory
from tests.undone import imports_undone

RECIPE = ROOT / "configs/half_cheetah/ncp_ppo.yaml"
NOT_RUN = {"", "js", "text", "html", "make", "xml"}  # diagrams, output, and files of others
WITH_BLOCKS = [page for page in PAGES if any(b.language not in NOT_RUN for b in blocks_of(page))]
WITH_SLOW_BLOCKS = [page for page in PAGES if any(block.slow for block in blocks_of(page))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained for a moment."""
    folder = tmp_path_factory.mktemp("docs") / "run"
    tiny = ["--folder", str(folder), "--quiet", "--set", *TINY, *TINY_PPO]
    assert cli.main(["train", str(RECIPE), *tiny]) == 0
    return folder


@pytest.fixture
def page_folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a page; what its blocks import and register is undone afterwards."""
    working_directory(tmp_path, trained)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with imports_undone(tmp_path):
        yield tmp_path


def run_page(page: Path, *, slow: bool) -> None:
    """Run the blocks of a page in order, in one namespace."""
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks_of(page):
        if block.why_not or (block.slow and not slow):
            continue
        try:
            run_block(block, page, namespace, slow=slow)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{page}, line {block.line}") from error


def run_block(block: Block, page: Path, namespace: dict[str, object], *, slow: bool) -> None:
    if block.title:
        Path(block.title).write_text(block.source)
    elif block.language == "python":
        source = pad(block.source, block.line - 1)
        exec(compile(source, str(page), "exec", dont_inherit=True), namespace)
    elif block.language == "sh":
        for words in command_lines(block.source):
            run(words, slow=slow)
    elif block.language == "yaml" and block.source.startswith("# stress.yaml"):
        Stress.model_validate(parse_yaml(block.source, str(page)))
    elif block.language == "yaml":
        check_recipe(parse_yaml(block.source, str(page)))
    else:
        assert block.language in NOT_RUN, f"the tests cannot run {block.language!r}"


def check_recipe(keys: dict[str, object]) -> None:
    """Check a part of a recipe, in the place of the keys of a whole one."""
    recipe = parse_yaml(RECIPE.read_text(), str(RECIPE)) | {"name": "page"}
    for name, value in keys.items():
        if isinstance(value, dict) and isinstance(recipe.get(name), dict):
            value = recipe[name] | value
        recipe[name] = value
    recipe_from(recipe, "the page")


@pytest.mark.usefixtures("page_folder")
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_the_blocks_of_a_page_run(page: Path) -> None:
    if any(block.language == "c" for block in blocks_of(page)) and not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    run_page(page, slow=False)


@pytest.mark.slow
@pytest.mark.usefixtures("page_folder")
@pytest.mark.parametrize("page", WITH_SLOW_BLOCKS, ids=name_of)
def test_the_slow_blocks_of_a_page_run(page: Path) -> None:
    run_page(page, slow=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_command_lines_and_code_stand_in_blocks_that_are_run(page: Path) -> None:
    """An indented block has no language, so that nothing would run it."""
    inside, fenced = page.read_text().splitlines(), False
    for number, line in enumerate(inside, start=1):
        fenced ^= line.lstrip().startswith("```")
        starts = ("    liquid-control ", "    python ", "    make ", "    pip ", "    import ")
        assert fenced or not line.startswith(starts), f"{name_of(page)}, line {number}"
    for block in blocks_of(page):
        first = (block.source.split() or [""])[0]
        assert block.language or first not in {"liquid-control", "make", "pip", "python", "import"}


@pytest.mark.parametrize(
    "block",
    [
        "python\nassert 1 + 1 == 3\n",
        "python\nassert 1\nfrom liquid_control import no_such_name\n",
        "sh\nliquid-control train no_such_recipe.yaml\n",
        "sh\nliquid-control evaluate RUN --no-such-flag\n",
        "sh\npython benchmarks/training.py --no-such-flag\n",
        "sh\npython benchmarks/cluster.py --no-such-flag\n",
        "sh\nliquid-control verify no_such_folder --against RUN\n",
        "sh\ncc no_such_file.c -o program\n",
        "sh\nmake no-such-target\n",
        'sh\npip install "liquid-control[no_such_extra]"\n',
        "sh\nno-such-program\n",
        "yaml\nagent: {no_such_key: 1}\n",
        "cobol\n",
    ],
)
def test_a_block_that_fails_is_named(page_folder: Path, block: str) -> None:
    page = page_folder / "page.md"
    page.write_text(f"# A page\n\n```{block}```\n")
    with pytest.raises(AssertionError, match=r"page\.md, line 4$"):
        run_page(page, slow=False)


def test_a_comment_must_replace_what_the_block_has(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    block = "```python\nsteps = 1_000\n```\n"
    page.write_text(f"<!-- tests: 1_000 as 8 -->\n\n{block}")
    assert [each.source for each in blocks_of(page)] == ["steps = 8\n"]
    page.write_text(f"<!-- tests: 2_000 as 8 -->\n\n{block}")
    with pytest.raises(AssertionError, match="2_000"):
        blocks_of(page)
    page.write_text(f"<!-- tests: slow -->\n\nSome words.\n\n{block}")
    with pytest.raises(AssertionError, match="not before a block"):
        blocks_of(page)
