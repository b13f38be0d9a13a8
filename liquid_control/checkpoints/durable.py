"""Atomic and durable writes of files and folders."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

HOST = re.sub(r"\W", "-", platform.node())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, which replaces `path` at the end.

    Until then, and on an error, `path` is unchanged. A folder does not replace another. Processes
    may write to the same path at once: the last one stays.

    Raises:
        OSError: the disk is full, a permission is missing, or a folder exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{HOST}-{os.getpid()}.partial{path.suffix}")
    _remove(partial)
    for each in _abandoned(path):
        with suppress(FileNotFoundError):  # another process removes it as well
            _remove(each)
    try:
        yield partial
        if partial.is_dir() and path.exists():
            raise FileExistsError(f"{path} exists; a folder is not replaced")
        for each in (*(partial.rglob("*") if partial.is_dir() else ()), partial):
            _sync(each)
        partial.replace(path)
        _sync(path.parent)
    except OSError as error:
        # A full disk names no path, and other errors name the temporary one.
        is_ours = error.filename is None or str(partial) in str(error.filename)
        if error.errno is not None and is_ours:
            error.filename = str(path)
        raise
    finally:
        _remove(partial)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as partial:
        partial.write_text(text, "utf-8")


def _abandoned(path: Path) -> Iterator[Path]:
    """Yield what processes of this machine that were killed left for a path."""
    partial = re.compile(
        rf"\.{re.escape(path.stem)}(\.{re.escape(HOST)}-(\d+))?\.partial{re.escape(path.suffix)}"
    )
    for each in path.parent.iterdir():
        found = partial.fullmatch(each.name)
        if found and not (found[1] and _is_alive(int(found[2]))):  # earlier versions have no number
            yield each


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # there, no signal is without effect
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _sync(path: Path) -> None:
    """Flush a file to disk, or a folder's entries where the system supports it."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        rmtree(path)
    elif os.path.lexists(path):  # on a read-only disk, removing nothing fails as well
        path.unlink(missing_ok=True)
