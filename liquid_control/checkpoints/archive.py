"""The checkpoint format: numbers in safetensors, the rest in JSON, and a manifest of both.

A checkpoint is a folder, or the same files in one zip. The manifest lists every file with its size
and SHA-256, and is checked before any file is parsed. Files hold no code, and names in them are
never imported.
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
ZIP_ERRORS = (
    BadZipFile,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""Raised by `ZipFile` where a file is damaged, or of another kind."""


@dataclass(frozen=True)
class Contents:
    """The contents of a checkpoint.

    Attributes:
        kind: its class, such as "LiquidPPO".
        data: JSON values, each in a file of that name.
        tensors: mappings of named tensors, each in a file of that name.
    """

    kind: str
    data: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]


def write(path: Path | str, contents: Contents) -> None:
    """Write a checkpoint atomically; on an error the previous one is unchanged.

    Args:
        path: with a suffix such as ".zip", a file, which is replaced if it exists; otherwise, a new
            folder.
        contents: of the checkpoint.

    Raises:
        OSError: the disk is full, a permission is missing, or the folder exists.
        ValueError: the data cannot be written as JSON.
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


def zipped(contents: Contents) -> bytes:
    """Return the zip file that `write` writes."""
    return pack_zip(_files(contents))


def read(path: Path | str) -> Contents:
    """Read a checkpoint and verify its integrity.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged, of another version, or not a checkpoint.
    """
    path = Path(path)
    try:
        return contents_of(_read_folder(path) if path.is_dir() else unpack_zip(read_file(path)))
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not loaded: {error}") from error


def contents_of(files: Mapping[str, bytes]) -> Contents:
    """Return the contents of a checkpoint, after checking its files.

    Raises:
        CheckpointError: they are damaged, of another version, or not a checkpoint.
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
        kind = manifest.get("kind")
        if not isinstance(kind, str):
            raise CheckpointError(f"its manifest names no kind; it is not a {FORMAT}")
        return Contents(kind, data, tensors)
    except KeyError as error:  # of safetensors
        raise CheckpointError(f"a tensor has a type that PyTorch lacks: {error}") from error
    except (SafetensorError, RuntimeError, OverflowError) as error:
        raise CheckpointError(str(error)) from error


def _files(contents: Contents) -> dict[str, bytes]:
    """Return all files of a checkpoint by name, the manifest last."""
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
            raise CheckpointError(f"it holds {name!r}, which is not a checkpoint file")
    return {name: read_file(folder / name) for name in names}


def read_file(path: Path) -> bytes:
    """Read a regular file; links and devices are rejected."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise CheckpointError(f"{path.name} is a link; a checkpoint must hold the file itself")
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path.name} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read()
        except MemoryError as error:
            size = os.fstat(file.fileno()).st_size
            raise CheckpointError(f"{path.name} has {size:,} bytes, more than memory") from error


def pack_zip(files: Mapping[str, bytes]) -> bytes:
    """Return an uncompressed zip file; the same files give the same bytes.

    Raises:
        CheckpointError: they exceed 4 GiB in total.
    """
    content = io.BytesIO()
    try:
        with ZipFile(content, "w", ZIP_STORED, allowZip64=False) as archive:
            for name, member in files.items():
                archive.writestr(ZipInfo(name), member)  # dated 1980-01-01
    except LargeZipFile as error:
        raise CheckpointError("a zip file holds 4 GiB at most; write a folder instead") from error
    return content.getvalue()


def unpack_zip(content: bytes, names: re.Pattern[str] = NAME) -> dict[str, bytes]:
    """Return the members of a zip file that `pack_zip` made.

    Members must be uncompressed and, with their names, account for every byte of the file, so that
    no member exceeds the file, overlaps another, or is followed by other data.

    Args:
        content: the zip file.
        names: pattern of allowed member names.

    Raises:
        CheckpointError: it is damaged, or another kind of file.
    """
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            sizes = (76 + 2 * len(each.filename) + each.file_size for each in members)
            if 22 + sum(sizes) != len(content) or any(each.flag_bits for each in members):
                raise BadZipFile("it holds data outside its members")
            if any(each.compress_type or not names.fullmatch(each.filename) for each in members):
                raise BadZipFile("a member is compressed, or has an unexpected name")
            files = {each.filename: archive.read(each) for each in members}
    except ZIP_ERRORS as error:
        raise CheckpointError(
            "it is not a liquid_control file, or it is damaged. If liquid_control before 0.2 wrote "
            "it, and you trust its author as much as a program of theirs, load it with trust=True"
        ) from error
    if len(files) != len(members):
        raise CheckpointError("it holds a file twice")
    return files
