"""Policies are pushed to the Hub and pulled from it, without a network."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import liquid_control
from liquid_control import cli
from liquid_control.commands import hub
from liquid_control.recipes import CommandError
from tests.test_cli import RECIPE, TINY

REPO = "someone/pendulum"


class RefusedError(OSError):
    """What the Hub answers when it refuses; the real one is an OSError and an error of HTTP."""


class NoRepositoryError(RefusedError):
    """There is no such repository."""


@dataclass
class AddedFile:
    """A file of a commit."""

    path_in_repo: str
    path_or_fileobj: bytes


ERRORS = SimpleNamespace(HfHubHTTPError=RefusedError, RepositoryNotFoundError=NoRepositoryError)


class LocalHub:
    """The part of huggingface_hub that is used, over a folder in the place of the Hub."""

    CommitOperationAdd = AddedFile

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []

    def HfApi(self) -> LocalHub:  # noqa: N802
        return self

    def create_repo(self, **options: Any) -> str:
        self.calls.append(options)
        (self.folder / options["repo_id"]).mkdir(parents=True, exist_ok=True)
        return f"https://hub/{options['repo_id']}"

    def create_commit(self, *, repo_id: str, operations: list[AddedFile], **_: Any) -> None:
        for each in operations:
            (self.folder / repo_id / each.path_in_repo).write_bytes(each.path_or_fileobj)

    def hf_hub_download(self, *, repo_id: str, filename: str, revision: str | None) -> str:
        if not (self.folder / repo_id).is_dir():
            raise NoRepositoryError("404")
        blob = self.folder / repo_id / filename
        link = self.folder / f"snapshot-{filename}"  # as in the Hub's cache
        link.unlink(missing_ok=True)
        link.symlink_to(blob)
        return str(link)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """A Hub in a folder, and an empty working directory."""
    library = LocalHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", ERRORS)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return library


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    tiny = ["--quiet", "--folder", str(folder), "--set", *TINY, "evaluation.ratios=[1]"]
    assert cli.main(["train", str(RECIPE), *tiny, "evaluation.episodes=1"]) == 0
    return folder


def test_a_pushed_policy_is_evaluated_by_its_address(
    run: Path, local: LocalHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pack", str(run), "--push", REPO, "--private"]) == 0
    assert local.calls == [{"repo_id": REPO, "private": True, "exist_ok": True}]
    pushed = local.folder / REPO
    assert {each.name for each in pushed.iterdir()} == {"README.md", "evaluation.png", hub.FILE}
    card = (pushed / "README.md").read_text()
    assert f"liquid-control unpack hub:{REPO} --output RUN" in card
    (pushed / "README.md").write_text(card + "\nA word of its author.\n")  # readers' page only

    assert cli.main(["evaluate", f"hub:{REPO}", "--quiet"]) == 0
    folder = Path("runs/unpacked/someone-pendulum")
    assert f"hub:{REPO} is unpacked into {folder}" in capsys.readouterr().err
    (again,) = (folder / "evaluations").glob("*.json")
    assert again.read_text() == (run / "evaluation.json").read_text()

    assert cli.main(["evaluate", f"hub:{REPO}", "--quiet"]) == 0  # unpacked once
    assert "unpacked" not in capsys.readouterr().err
    assert len([*(folder / "evaluations").glob("*.json")]) == 2
    one, other = (liquid_control.load_controller(each) for each in (run, f"hub:{REPO}"))
    assert np.array_equal(one.step(np.zeros(2), 0.0), other.step(np.zeros(2), 0.0))
    assert cli.main(["unpack", f"hub:{REPO}@main", "--output", "elsewhere", "--quiet"]) == 0


def test_what_was_changed_on_the_way_is_refused(
    run: Path, local: LocalHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pack", str(run), "--push", REPO, "--quiet"]) == 0
    packed = local.folder / REPO / hub.FILE
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-200] + bytes(200))
    assert cli.main(["evaluate", f"hub:{REPO}", "--quiet"]) == 2
    assert "is not unpacked" in capsys.readouterr().err
    assert not Path("runs/unpacked/someone-pendulum").exists()

    packed.write_bytes(whole)
    assert cli.main(["unpack", f"hub:{REPO}", "--output", "runs/unpacked/someone-pendulum"]) == 0
    recipe = Path("runs/unpacked/someone-pendulum/config.yaml")
    recipe.write_text(recipe.read_text() + "# changed\n")
    assert cli.main(["evaluate", f"hub:{REPO}", "--quiet"]) == 2
    assert "holds another policy" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoRepositoryError("404"), "there is no such repository, or you may not see it"),
        (RefusedError("403 forbidden"), "403 forbidden (documentation"),
        (ConnectionError("no route"), "no route; is this machine online? (documentation"),
        (ValueError("bad name"), "bad name (documentation"),
    ],
)
def test_what_the_hub_raises_is_one_line(
    error: Exception,
    words: str,
    run: Path,
    local: LocalHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: Any) -> None:
        raise error

    for name in ("create_repo", "hf_hub_download"):
        monkeypatch.setattr(local, name, fail)
    for command in (["pack", str(run), "--push", REPO, "--quiet"], ["record", f"hub:{REPO}"]):
        assert cli.main(command) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert words in line


def test_without_the_library_the_extra_is_named(
    run: Path,
    local: LocalHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert cli.main(["evaluate", f"hub:{REPO}"]) == 2
    assert "pip install 'liquid-control[hub]'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["pendulum", "a/b/c", "../x/y", "someone/pen dulum", "a/b@"])
def test_other_addresses_are_refused_before_anything_is_packed(
    text: str, run: Path, local: LocalHub
) -> None:
    assert cli.main(["pack", str(run), "--push", text, "--quiet"]) == 2
    assert not [*Path().iterdir()]
    with pytest.raises(CommandError, match="OWNER/NAME"):
        hub.Address.of(text)


def test_the_real_library_takes_these_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("huggingface_hub")
    api = library.HfApi
    inspect.signature(api.create_repo).bind(None, repo_id=REPO, private=True, exist_ok=True)
    inspect.signature(api.create_commit).bind(
        None, repo_id=REPO, operations=[], commit_message="", revision=None
    )
    inspect.signature(library.CommitOperationAdd).bind(path_in_repo="a", path_or_fileobj=b"")
    inspect.signature(library.hf_hub_download).bind(repo_id=REPO, filename="a", revision=None)
    monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CommandError, match=f"hub:{REPO} is not pulled: .*is this machine online"):
        hub.pull(hub.Address.of(REPO))
    with pytest.raises(CommandError, match=f"hub:{REPO} is not pushed: .*is this machine online"):
        hub.push({"a": b""}, hub.Address.of(REPO), private=False)


@pytest.mark.slow  # quick tests say it in this process
def test_a_process_that_has_imported_nothing_else_says_that_it_is_offline(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    done = subprocess.run(
        [sys.executable, "-m", "liquid_control", "evaluate", f"hub:{REPO}"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(RECIPE.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"hub:{REPO} is not pulled" in done.stderr
    assert "Traceback" not in done.stderr
