"""The format of a checkpoint: numbers in safetensors, the rest in JSON, and a manifest of both.

A checkpoint is a folder, or the same files in one zip. The manifest lists every file with its size
and SHA-256, and is checked before any file is parsed. No file holds code, and no name in one is
ever imported.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, LargeZipFile, ZipFile, ZipInfo

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from liquid_control.checkpoints.durable import replacing
from liquid_control.checkpoints.errors import CheckpointError
from liquid_control.checkpoints.manifest import dumps, loads, opened, sealed

FORMAT = "liquid_control checkpoint"
VERSION = 1
MOST_FILES = 64
NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*\.(json|safetensors)")


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
    """Write a checkpoint, whole or not at all; on an error the previous one is unchanged.

    Args:
        path: with a suffix, such as ".zip", one file, which is replaced if it exists; without
            one, a new folder.
        contents: what to write.

    Raises:
        OSError: the disk is full, a permission is missing, or the folder exists.
        ValueError: the contents are not JSON-able.
    """
    path, files = Path(path), _files(contents)
    if not path.suffix and path.exists():
        raise FileExistsError(f"{path} exists; checkpoints in folders are not replaced")
    with replacing(path) as partial:
        if path.suffix:
            partial.write_bytes(pack_zip(files))
            return
        partial.mkdir()
        for name, content in files.items():
            (partial / name).write_bytes(content)


def read(path: Path | str) -> Contents:
    """Read a checkpoint and check that it is what was written.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged, of another version, or something else.
    """
    path = Path(path)
    try:
        return contents_of(_read_folder(path) if path.is_dir() else unpack_zip(read_file(path)))
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not loaded: {error}") from error


def contents_of(files: Mapping[str, bytes]) -> Contents:
    """The contents of a checkpoint, whose files are checked.

    Raises:
        CheckpointError: they are damaged, of another version, or something else.
    """
    try:
        manifest, files = opened(files, FORMAT, VERSION)
        data, tensors = {}, {}
        for name, content in files.items():
            stem, _, suffix = name.rpartition(".")
            if suffix == "json":
                data[stem] = loads(content)
            else:
                tensors[stem] = safetensors.load(content)
        return Contents(manifest["kind"], data, tensors)
    except (SafetensorError, RuntimeError, OverflowError) as error:
        raise CheckpointError(str(error)) from error


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
        if not NAME.fullmatch(name):
            raise CheckpointError(f"it holds {name!r}, which is no file of a checkpoint")
    return {name: read_file(folder / name) for name in names}


def read_file(path: Path) -> bytes:
    """The bytes of a regular file; links and devices are refused."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise CheckpointError(f"{path.name} is a link; a checkpoint holds its files itself")
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path.name} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def pack_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip file with members that are stored as they are; the same files make the same bytes.

    Raises:
        CheckpointError: together they are larger than 4 GiB.
    """
    content = io.BytesIO()
    try:
        with ZipFile(content, "w", ZIP_STORED, allowZip64=False) as archive:
            for name, member in files.items():
                archive.writestr(ZipInfo(name), member)  # of 1980-01-01
    except LargeZipFile as error:
        raise CheckpointError("a zip file holds 4 GiB at most; write a folder instead") from error
    return content.getvalue()


def unpack_zip(content: bytes, names: re.Pattern[str] = NAME) -> dict[str, bytes]:
    """The members of a zip file that `pack_zip` made.

    Members must be stored, and together with their names account for each byte of the file, so
    that no member is larger than the file, overlaps another, or is followed by something else.

    Args:
        content: of the zip file.
        names: that its members may have.

    Raises:
        CheckpointError: it is another file, or damaged.
    """
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            sizes = (76 + 2 * len(each.filename) + each.file_size for each in members)
            if 22 + sum(sizes) != len(content) or any(each.flag_bits for each in members):
                raise BadZipFile("there is more in it than its members")
            if any(each.compress_type or not names.fullmatch(each.filename) for each in members):
                raise BadZipFile("a member is compressed, or has another name")
            files = {each.filename: archive.read(each) for each in members}
    except (
        BadZipFile,
        EOFError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:
        raise CheckpointError(
            "it is no file of liquid_control, or a damaged one. If Stable-Baselines3 wrote "
            "it, and you trust who made it as much as a program of theirs, load it with trust=True"
        ) from error
    if len(files) != len(members):
        raise CheckpointError("it holds a file twice")
    return files
