"""The form of a checkpoint: numbers in safetensors, the rest in JSON, and a manifest of both.

A checkpoint is a folder, or the same files in one zip. The manifest names every file with its size
and SHA-256, and comes last; nothing is looked into before all of it was found right. No file holds
code, and no name in one is ever imported.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from liquid_control.checkpoints import canonical_zip
from liquid_control.checkpoints.canonical_json import dumps, loads
from liquid_control.checkpoints.errors import CheckpointError
from liquid_control.checkpoints.manifest import opened, sealed

FORMAT = "liquid_control checkpoint"
VERSION = 1
MOST_FILES = 64


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        kind: whose it is, such as "LiquidPPO".
        data: JSON-able values; each is a file of that name.
        tensors: named tensors; each mapping is a file of that name.
    """

    kind: str
    data: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]


def write(path: Path | str, contents: Contents) -> None:
    """Write a checkpoint, whole or not at all; what was there before stays until then.

    Args:
        path: if it ends in ".zip" one file, which is replaced if it exists; else a new folder.
        contents: what to write.

    Raises:
        OSError: the disk is full, a permission is missing, or the folder exists.
        ValueError: the contents are not JSON-able.
    """
    path = Path(path)
    files = _files(contents)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)  # what a process that was killed has left
    try:
        if path.suffix == ".zip":
            write_file(partial, canonical_zip.pack(files))
            partial.replace(path)
        else:
            if path.exists():
                raise FileExistsError(f"{path} exists; checkpoints in folders are not replaced")
            partial.mkdir()
            for name, content in files.items():
                write_file(partial / name, content)
            sync_folder(partial)
            partial.rename(path)
        sync_folder(path.parent)
    finally:
        _remove(partial)


def read(path: Path | str) -> Contents:
    """Read a checkpoint, once all of it was found to be what was written.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged, of another version, or something else.
    """
    path = Path(path)
    try:
        found = _read_folder(path) if path.is_dir() else canonical_zip.unpack(read_file(path))
        manifest, files = opened(found, FORMAT, VERSION)
        data, tensors = {}, {}
        for name, content in files.items():
            stem, _, suffix = name.rpartition(".")
            if suffix == "json":
                data[stem] = loads(content)
            else:
                tensors[stem] = safetensors.load(content)
        return Contents(manifest["kind"], data, tensors)
    except (CheckpointError, SafetensorError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path} is not loaded: {error}") from error


def _files(contents: Contents) -> dict[str, bytes]:
    """All files of a checkpoint by name, the manifest last."""
    files = {f"{name}.json": dumps(value) for name, value in contents.data.items()}
    for name, tensors in contents.tensors.items():
        whole = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        files[f"{name}.safetensors"] = safetensors.save(whole)
    return sealed(files, FORMAT, VERSION, kind=contents.kind)


def _read_folder(folder: Path) -> dict[str, bytes]:
    names = sorted(entry.name for entry in os.scandir(folder))
    if len(names) > MOST_FILES:
        raise CheckpointError(f"it holds {len(names)} files; a checkpoint has at most {MOST_FILES}")
    for name in names:
        canonical_zip.check_name(name)
    return {name: read_file(folder / name) for name in names}


def read_file(path: Path) -> bytes:
    """The bytes of a plain file; nothing that a link or a device would give."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise CheckpointError(f"{path.name} is a link; a checkpoint holds its files itself")
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path.name} is no plain file")
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlast a loss of power, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)
