"""A policy that is packed and unpacked is the same policy, and no other file is unpacked."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from liquid_control import cli
from liquid_control.checkpoints.archive import FORMAT, VERSION, pack_zip, unpack_zip
from liquid_control.checkpoints.manifest import MANIFEST, dumps, sealed
from liquid_control.commands.controller import load_controller
from tests.checkpoints.test_archive import turn_a_bit
from tests.commands.test_runs import fails as fails
from tests.test_cli import RECIPE, TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training, with a film."""
    runs = tmp_path_factory.mktemp("runs")
    assert cli.main(["train", str(RECIPE), "--quiet", "--runs", str(runs), "--set", *TINY]) == 0
    (folder,) = runs.glob("*/*")
    assert cli.main(["record", str(folder), "--seconds", "0.2", "--quiet"]) == 0
    return folder


@pytest.fixture
def packed(run: Path, tmp_path: Path) -> Path:
    """What is passed on."""
    path = tmp_path / "policy.zip"
    assert cli.main(["pack", str(run), "--output", str(path), "--quiet"]) == 0
    return path


def test_a_policy_that_was_passed_on_is_the_same(run: Path, packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    assert cli.main(["unpack", str(packed), "--output", str(folder), "--quiet"]) == 0
    for name in ("config.yaml", "checkpoints/final.zip", "evaluation.json", "videos/film.mp4"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()
    assert cli.main(["evaluate", str(folder), "--quiet"]) == 0
    (again,) = (folder / "evaluations").glob("*.json")
    assert again.read_text() == (run / "evaluation.json").read_text()


def test_what_acts_is_packed_alone(
    run: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    acting, again = tmp_path / "acting.zip", tmp_path / "again.zip"
    assert cli.main(["pack", str(run), "--output", str(acting), "--acts-only", "--quiet"]) == 0
    assert acting.stat().st_size < 0.7 * packed.stat().st_size
    assert b"cannot be trained further" in acting.read_bytes()
    assert b"cannot be trained further" not in packed.read_bytes()
    folder = tmp_path / "to"
    assert cli.main(["unpack", str(acting), "--output", str(folder), "--quiet"]) == 0
    assert cli.main(["evaluate", str(folder), "--quiet"]) == 0
    (evaluation,) = (folder / "evaluations").glob("*.json")
    assert evaluation.read_text() == (run / "evaluation.json").read_text()
    assert cli.main(["pack", str(folder), "--output", str(again), "--quiet"]) == 0
    assert b"cannot be trained further" in again.read_bytes()
    runs = ["--runs", str(tmp_path / "runs"), "--set", *TINY]
    assert cli.main(["train", str(RECIPE), "--quiet", "--init", str(folder), *runs]) == 2
    assert "holds only what acts, and a training needs critics" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_its_card_says_what_hugging_face_asks_for(packed: Path, run: Path) -> None:
    names = re.compile(r"[\w.]+")
    card = unpack_zip(packed.read_bytes(), names)["README.md"].decode()
    _, front, text = card.split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["library_name"] == "stable-baselines3"
    assert {"reinforcement-learning", "InvertedPendulum-v5"} <= set(data["tags"])
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"]["name"] == "InvertedPendulum-v5"
    trained = json.loads((run / "evaluation.json").read_text())["trained"]
    mean, deviation = map(float, result["metrics"][0]["value"].split(" +/- "))
    assert mean == pytest.approx(trained["mean_return"], abs=0.01)
    assert deviation == pytest.approx(trained["std_return"], abs=0.01)
    assert "# LiquidPPO on InvertedPendulum-v5" in text
    kind = "interval `uniform` (low 0.02, high 0.08)), in seconds."
    assert "at intervals of the kind `per_episode` (share 0.5, even_steps True, " + kind in text
    assert text.count("| fixed |") == 3
    assert "real robot" in text


def test_the_newest_film_goes_along(run: Path, tmp_path: Path) -> None:
    film = run / "videos" / "128.mp4"
    film.write_bytes(b"of the end of the training")
    try:
        later = time.time() + 60
        os.utime(film, (later, later))
        packed = tmp_path / "policy.zip"
        assert cli.main(["pack", str(run), "--output", str(packed), "--quiet"]) == 0
    finally:
        film.unlink()
    with zipfile.ZipFile(packed) as members:
        assert members.read("replay.mp4") == b"of the end of the training"


def test_a_film_of_an_agent_that_trained_since_is_left_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied, packed = tmp_path / "run", tmp_path / "policy.zip"
    shutil.copytree(run, copied)
    (film,) = (copied / "videos").glob("*.mp4")
    earlier = (copied / "checkpoints" / "final.zip").stat().st_mtime - 120
    os.utime(film, (earlier, earlier))
    assert cli.main(["pack", str(copied), "--output", str(packed), "--quiet"]) == 0
    assert f"{film.name} is left out, since it was recorded before" in capsys.readouterr().err
    with zipfile.ZipFile(packed) as members:
        assert "replay.mp4" not in members.namelist()


def test_an_agent_that_a_checkpoint_has_overtaken_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    (copied / "checkpoints" / "step-000000999999").mkdir()
    command = ["pack", str(copied), "--output", str(tmp_path / "policy.zip"), "--quiet"]
    assert cli.main(command) == 0
    assert "is older than step-000000999999 of its training" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="older than step-000000999999"):
        load_controller(copied)


def test_without_evaluation_and_film_it_is_packed_all_the_same(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    (bare / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/final.zip"):
        (bare / name).write_bytes((run / name).read_bytes())
    packed = tmp_path / "bare.zip"
    assert cli.main(["pack", str(bare), "--output", str(packed), "--quiet"]) == 0
    assert cli.main(["unpack", str(packed), "--output", str(tmp_path / "to"), "--quiet"]) == 0


def test_damage_is_found_and_nothing_is_written(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, draw = packed.read_bytes(), random.Random(0)
    contents, refused = unpack_zip(whole, re.compile(r"[\w.]+")), 0
    for _ in range(40):
        content = bytearray(whole)
        turn_a_bit(content, draw)
        packed.write_bytes(content)
        if cli.main(["unpack", str(packed), "--output", str(tmp_path / "to"), "--quiet"]) == 0:
            assert unpack_zip(bytes(content), re.compile(r"[\w.]+")) == contents  # a date
            shutil.rmtree(tmp_path / "to")
        else:
            refused += 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == refused >= 30
    assert all(f"{packed} is not unpacked" in line for line in lines)
    assert [each.name for each in tmp_path.iterdir()] == ["policy.zip"]


@pytest.mark.parametrize("name", ["../README.md", "/README.md", "evil.py", "policy.pkl"])
def test_other_names_are_refused(name: str, packed: Path, tmp_path: Path) -> None:
    names = re.compile(r"[\w.]+")
    files = unpack_zip(packed.read_bytes(), names)
    packed.write_bytes(pack_zip({name: b"1", **files}))
    assert cli.main(["unpack", str(packed), "--output", str(tmp_path / "to")]) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["policy.zip"]


@pytest.mark.parametrize("damage", ["truncated", "link", "sparse", "version", "name"])
def test_a_damaged_package_is_no_run(
    damage: str, packed: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    path, content = tmp_path / "damaged.zip", packed.read_bytes()
    if damage == "link":
        path.symlink_to(packed)
    elif damage == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 42)
    elif damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "version":  # 9.9 is needed to read it
        path.write_bytes(content.replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\x63"))
    else:  # a name that says to be UTF-8, and is none
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("\u00e9\u00e9", b"")
        path.write_bytes(path.read_bytes().replace("\u00e9\u00e9".encode(), b"\xff\xff\xff\xff"))
    line = fails("evaluate", str(path))
    assert "is neither the folder of a run nor a packed policy" in line


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("agent.json", lambda agent: [], "does not say how many control steps"),
        ("agent.json", lambda agent: agent | {"counters": []}, "does not say how many"),
        (MANIFEST, lambda manifest: without(manifest, "kind"), "names no kind"),
        (MANIFEST, lambda manifest: without(manifest, "files"), "lists no files"),
        (MANIFEST, lambda manifest: manifest | {"files": []}, "lists no files"),
    ],
)
def test_a_forged_model_is_one_line(
    name: str,
    change: Callable[[Any], Any],
    words: str,
    run: Path,
    tmp_path: Path,
    fails: Callable[..., str],
) -> None:
    forged = shutil.copytree(run, tmp_path / "run")
    model = forged / "checkpoints/final.zip"
    files = dict(unpack_zip(model.read_bytes()))
    files[name] = dumps(change(json.loads(files[name])))
    if name == MANIFEST:  # with a hash that fits
        manifest = without(json.loads(files[name]), "sha256")
        files[name] = dumps(manifest | {"sha256": sha256(dumps(manifest)).hexdigest()})
    else:
        kind = json.loads(files.pop(MANIFEST))["kind"]
        files = sealed(files, FORMAT, VERSION, kind=kind)
    model.write_bytes(pack_zip(files))
    assert words in fails("evaluate", str(forged), "--quiet")


def without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return all but one key."""
    return {key: value for key, value in mapping.items() if key != name}


@pytest.mark.parametrize("name", ["notes.txt", "notes.zip", "."])
def test_a_package_replaces_nothing_but_packages(
    name: str, run: Path, packed: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    other = tmp_path / name
    if name != ".":
        other.write_text("precious")
    assert "--output" in fails("pack", str(run), "--output", str(other))
    assert other.is_dir() or other.read_text() == "precious"
    assert cli.main(["pack", str(run), "--output", str(packed), "--quiet"]) == 0


def test_what_is_missing_or_there_already_is_one_line(
    run: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["unpack", str(tmp_path / "nothing.zip")]) == 2
    assert cli.main(["unpack", str(packed), "--output", str(tmp_path)]) == 2
    (tmp_path / "half").mkdir()
    (tmp_path / "half/config.yaml").write_bytes((run / "config.yaml").read_bytes())
    assert cli.main(["pack", str(tmp_path / "half")]) == 2
    nothing, there, half = capsys.readouterr().err.splitlines()
    assert "there is no such file" in nothing
    assert "exists; choose another folder" in there
    assert "final.zip" in half
