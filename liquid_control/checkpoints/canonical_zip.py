"""Zip files in one form only: stored members one after the other, and nothing between them.

Any program opens them. Reading accepts exactly the bytes that writing makes, which leaves no room
for what zip files are feared for: members that unpack to terabytes, lead out of the folder, hide
behind one another or are links. A bit that turned in a name or a date is found as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from struct import Struct
from zlib import crc32

from liquid_control.checkpoints.errors import CheckpointError

NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*\.(json|safetensors)")

# APPNOTE.TXT of PKWARE, 4.3.7, 4.3.12 and 4.3.16; all dates are 1980-01-01.
_LOCAL = Struct("<4s5H3I2H")
_CENTRAL = Struct("<4s6H3I5H2I")
_END = Struct("<4s4H2IH")
_NEEDED, _DATE = 20, 0x21
_LIMIT = 2**32 - 1


def pack(files: Mapping[str, bytes]) -> bytes:
    """The zip file that holds some files.

    Raises:
        CheckpointError: together they are larger than 4 GiB, which needs another form.
    """
    members, directory, offset = [], [], 0
    for name, content in files.items():
        raw = name.encode()
        sizes = crc32(content), len(content), len(content)
        local = _LOCAL.pack(b"PK\3\4", _NEEDED, 0, 0, 0, _DATE, *_fitting(sizes), len(raw), 0)
        central = (b"PK\1\2", _NEEDED, _NEEDED, 0, 0, 0, _DATE, *sizes, len(raw), 0, 0, 0, 0, 0)
        members += [local, raw, content]
        directory += [_CENTRAL.pack(*central, *_fitting((offset,))), raw]
        offset += len(local) + len(raw) + len(content)
    size, count = sum(map(len, directory)), len(files)
    end = _END.pack(b"PK\5\6", 0, 0, count, count, *_fitting((size, offset)), 0)
    return b"".join([*members, *directory, end])


def unpack(content: bytes, names: re.Pattern[str] = NAME) -> dict[str, bytes]:
    """The files of a zip file that `pack` made.

    Args:
        content: of the zip file.
        names: that its files may have.

    Raises:
        CheckpointError: it is none, or damaged.
    """
    files: dict[str, bytes] = {}
    start = 0
    while content[start : start + 4] == b"PK\3\4" and len(content) >= start + _LOCAL.size:
        *_, size, length, _ = _LOCAL.unpack_from(content, start)
        start += _LOCAL.size
        name = content[start : start + length].decode("ascii", "replace")
        if not names.fullmatch(name):
            break
        start += length
        files[name] = content[start : start + size]
        start += size
    if not files or pack(files) != content:
        raise CheckpointError(
            "it is no file of liquid_control, or a damaged one. If Stable-Baselines3 wrote "
            "it, and you trust who made it as much as a program of theirs, load it with trust=True"
        )
    return files


def check_name(name: str) -> None:
    """Raise a CheckpointError unless a file of a checkpoint may have this name."""
    if not NAME.fullmatch(name):
        raise CheckpointError(f"it holds {name!r}, which is no file of a checkpoint")


def _fitting(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if max(numbers) >= _LIMIT:
        raise CheckpointError("a zip file holds 4 GiB at most; write a folder instead")
    return numbers
