"""Laws of checkpoints: whole or not at all, what was written or nothing, and never a program."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import random
import re
import subprocess
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from liquid_control.checkpoints import CheckpointError, Contents, archive, read, write
from liquid_control.checkpoints.archive import pack_zip, unpack_zip
from liquid_control.checkpoints.durable import HOST
from liquid_control.checkpoints.manifest import dumps


def contents(seed: int = 0) -> Contents:
    generator = torch.Generator().manual_seed(seed)
    policy = {
        "weight": torch.randn(3, 5, generator=generator),
        "transposed": torch.randn(4, 3, generator=generator).T,
        "count": torch.tensor(7),
        "none": torch.empty(0, 3),
        "double": torch.tensor([1 / 3], dtype=torch.float64),
    }
    data = {"agent": {"gamma": 0.99, "sizes": [64, 64], "name": "Kräfte", "nothing": None}}
    return Contents("LiquidPPO", data, {"policy": policy, "policy.optimizer": {}})


def same(one: Contents, other: Contents) -> bool:
    return (
        (one.kind, one.data) == (other.kind, other.data)
        and one.tensors.keys() == other.tensors.keys()
        and all(
            tensors.keys() == other.tensors[name].keys()
            and all(tensor.equal(other.tensors[name][key]) for key, tensor in tensors.items())
            for name, tensors in one.tensors.items()
        )
    )


@pytest.fixture(params=["checkpoint.zip", "checkpoint"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint as one file, and as a folder."""
    path = tmp_path / "new" / str(request.param)
    write(path, contents())
    return path


def damaged(path: Path, change: Callable[[bytearray, random.Random], None], count: int) -> int:
    """How many of so many changes to the files of a checkpoint are loaded as something else.

    A turned bit in a date of the zip file changes nothing.
    """
    original = read(path)
    files = [path] if path.is_file() else sorted(path.iterdir())
    draw, loaded = random.Random(0), 0
    for number in range(count):
        file = files[number % len(files)]
        whole = file.read_bytes()
        content = bytearray(whole)
        change(content, draw)
        file.write_bytes(content)
        if content != whole:
            with suppress(CheckpointError):
                loaded += not same(read(path), original)
        file.write_bytes(whole)
    return loaded


def turn_a_bit(content: bytearray, draw: random.Random) -> None:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def cut_off(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def zero_a_block(content: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(content))
    content[start : start + 32] = bytes(len(content[start : start + 32]))


def test_what_is_read_is_what_was_written(path: Path) -> None:
    assert same(read(path), contents())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_same_agent_is_the_same_bytes_and_any_program_opens_them(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write(tmp_path / name, contents())
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as opened:
        assert opened.testzip() is None
        assert opened.namelist()[-1] == "manifest.json"
        manifest = json.loads(opened.read("manifest.json"))
        for name, described in manifest["files"].items():
            assert described["sha256"] == sha256(opened.read(name)).hexdigest()


@pytest.mark.parametrize("change", [turn_a_bit, cut_off, zero_a_block])
def test_no_damage_is_loaded(path: Path, change: Callable[..., None]) -> None:
    assert damaged(path, change, 100) == 0
    file = path if path.is_file() else path / "policy.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        read(path)


def test_files_that_are_missing_or_too_many_are_named(tmp_path: Path) -> None:
    write(tmp_path / "folder", contents())
    (tmp_path / "folder/extra.json").write_text("1")
    with pytest.raises(CheckpointError, match=r"do not match its manifest: extra\.json"):
        read(tmp_path / "folder")
    (tmp_path / "folder/extra.json").unlink()
    (tmp_path / "folder/policy.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"do not match its manifest: policy\.safetensors"):
        read(tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.zip")


def rewritten(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> Path:
    """A checkpoint whose manifest was changed and sealed again, as an attacker would."""
    path = tmp_path / "sealed.zip"
    write(path, contents())
    files = unpack_zip(path.read_bytes())
    manifest = json.loads(files.pop("manifest.json"))
    change(manifest)
    manifest.pop("sha256")
    manifest["sha256"] = sha256(dumps(manifest)).hexdigest()
    path.write_bytes(pack_zip({**files, "manifest.json": dumps(manifest)}))
    return path


def test_another_version_says_what_to_do(tmp_path: Path) -> None:
    path = rewritten(lambda manifest: manifest.update(version=2), tmp_path)
    with pytest.raises(CheckpointError, match="version is 2, and this program reads 1; install"):
        read(path)


class Payload:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


def sealed(files: dict[str, bytes]) -> bytes:
    """Whatever files, with a manifest that is right about them."""
    manifest = {
        "format": archive.FORMAT,
        "version": archive.VERSION,
        "kind": "LiquidPPO",
        "libraries": {},
        "files": {
            name: {"size": len(content), "sha256": sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    manifest["sha256"] = sha256(dumps(manifest)).hexdigest()
    return pack_zip({**files, "manifest.json": dumps(manifest)})


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def header(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


def artifacts(trace: Path) -> Iterator[tuple[str, bytes]]:
    """Files that try to be run, to write elsewhere, to fill the memory, or to be what they are not.

    Yields:
        a name, and the content of the zip file.
    """
    evil = pickle.dumps(Payload(trace))
    yield "a pickle", evil
    yield "SB3's members", zipped({"data": b"{}", "policy.pth": evil})
    yield "a pickle as tensors", sealed({"policy.safetensors": evil})
    yield "a pickle as JSON", sealed({"agent.json": evil})
    yield "a pickle behind the zip", sealed({"agent.json": b"1"}) + evil
    yield "a pickle ahead of the zip", evil + sealed({"agent.json": b"1"})
    for name in (
        "../agent.json",
        "/tmp/agent.json",
        "..\\agent.json",
        "C:\\agent.json",
        "a/b.json",
    ):
        yield f"the name {name}", sealed({name: b"1"})
    for name in ("policy.pkl", "policy.pt", "agent.py", "agent.yaml", "agent.json\0.pkl"):
        yield f"the name {name!r}", sealed({name: evil})
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as opened, warnings.catch_warnings(action="ignore"):
        for _ in range(2):
            opened.writestr(zipfile.ZipInfo("agent.json"), b"1")
    yield "a member twice", twice.getvalue()
    whole = sealed({"agent.json": b"1"})
    yield "a comment", whole[:-2] + b"\x05\0hello"
    yield "encrypted members", whole.replace(b"PK\1\2\x14\x03\x14\0\0", b"PK\1\2\x14\x03\x14\0\1")
    yield "a bomb", zipped({"agent.json": b" " * 10**7}, zipfile.ZIP_DEFLATED)
    yield "very many members", zipped({f"{number}.json": b"1" for number in range(5_000)})
    yield "YAML tags", sealed({"agent.json": b"!!python/object/apply:os.system ['true']"})
    yield "deep JSON", sealed({"agent.json": b"[" * 10**5 + b"]" * 10**5})
    yield "a huge number", sealed({"agent.json": b"9" * 10**5})
    yield "NaN", sealed({"agent.json": b"NaN"})
    yield "an infinite number", sealed({"agent.json": b"1e400"})
    yield "a key twice", sealed({"agent.json": b'{"a": 1, "a": 2}'})
    shape = '{"w":{"dtype":"F32","shape":[1000000000000,1000000],"data_offsets":[0,4]}}'
    yield "an absurd shape", sealed({"policy.safetensors": header(shape) + b"\0" * 4})
    overlong = '{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,1000000000000]}}'
    yield "absurd offsets", sealed({"policy.safetensors": header(overlong)})
    yield "an absurd header", sealed({"policy.safetensors": (2**62).to_bytes(8, "little")})
    yield "nothing", b""


def test_nothing_malicious_is_run_or_written_or_fills_the_memory(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    path, trace = place / "malicious.zip", tmp_path / "trace"
    names = []
    for name, content in artifacts(trace):
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(CheckpointError):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(content) + 10**7, name
        tracemalloc.stop()
        names.append(name)
    assert len(names) >= 25
    assert list(place.iterdir()) == [path]
    assert [each.name for each in tmp_path.iterdir()] == ["place"]


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    for replace in ("link", "pipe", "folder"):
        folder = tmp_path / replace
        write(folder, contents())
        member = folder / "policy.safetensors"
        elsewhere = member.rename(tmp_path / f"{replace}.safetensors")
        if replace == "link":
            member.symlink_to(elsewhere)
        elif replace == "pipe":
            os.mkfifo(member)
        else:
            member.mkdir()
        with pytest.raises(CheckpointError, match=r"policy\.safetensors is"):
            read(folder)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("failing", ["fsync", "write", "replace"])
@pytest.mark.parametrize("name", ["checkpoint.zip", "checkpoint"])
def test_what_cannot_be_written_leaves_what_was_there(
    name: str, failing: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "checkpoint.zip"
    write(old, contents(seed=1))
    new = tmp_path / ("checkpoint.zip" if name.endswith("zip") else "new")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(new))

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif failing == "write":
        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=os.strerror(number)):
        write(new, contents(seed=2))
    monkeypatch.undo()
    assert same(read(old), contents(seed=1))
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.zip"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    for name in (
        f".checkpoint.{HOST}-{ended.pid}.partial",
        f".checkpoint.{HOST}-{os.getpid()}.partial",
        ".checkpoint.partial",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.safetensors").write_bytes(b"half")
    write(tmp_path / "checkpoint", contents())
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("owner", [f"{HOST}-{os.getppid()}", f"{HOST}-1", "elsewhere-99"])
def test_what_other_processes_write_is_left_alone(owner: str, tmp_path: Path) -> None:
    theirs = tmp_path / f".checkpoint.{owner}.partial"
    theirs.mkdir()
    write(tmp_path / "checkpoint", contents())
    assert theirs.exists()


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", contents(seed=1))
    with pytest.raises(FileExistsError, match="not replaced"):
        write(tmp_path / "checkpoint", contents(seed=2))
    assert same(read(tmp_path / "checkpoint"), contents(seed=1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}])
def test_what_is_no_json_is_refused_before_anything_is_written(value: Any, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError)):
        write(tmp_path / "checkpoint.zip", Contents("LiquidPPO", {"agent": value}, {}))
    assert not list(tmp_path.iterdir())
