"""JSON that writes equal values as equal bytes, and manifests of files.

A manifest lists files with their sizes and SHA-256, and holds its own hash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from typing import Any, NoReturn

from liquid_control.checkpoints.errors import CheckpointError

MANIFEST = "manifest.json"
LIBRARIES = ("gymnasium", "mujoco", "numpy", "stable-baselines3", "torch")


def sealed(files: Mapping[str, bytes], what: str, number: int, **head: str) -> dict[str, bytes]:
    """Return the files and their manifest, which comes last.

    Args:
        files: by name.
        what: the name of the format.
        number: the version of the format.
        **head: other entries of the manifest.
    """
    manifest = {
        "format": what,
        "version": number,
        **head,
        "libraries": _libraries(),
        "files": {
            name: {"size": len(content), "sha256": sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    return {**files, MANIFEST: dumps({**manifest, "sha256": _seal(manifest)})}


def opened(
    files: Mapping[str, bytes], what: str, number: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the files that it lists, if they are as sealed.

    Raises:
        CheckpointError: something is damaged, missing, extra, or of another format or version.
    """
    files = dict(files)
    text = files.pop(MANIFEST, None)
    if text is None:
        raise CheckpointError(f"there is no {MANIFEST}; it is not a {what}, or not a complete one")
    manifest = loads(text)
    if not isinstance(manifest, dict) or manifest.get("format") != what:
        raise CheckpointError(f"{MANIFEST} does not belong to a {what}")
    if manifest.get("version") != number:
        raise CheckpointError(
            f"its version is {manifest.get('version')!r}, and this program reads {number}; "
            "install the version of liquid_control that wrote it"
        )
    if text != dumps(manifest) or manifest.get("sha256") != _seal(manifest):
        raise CheckpointError(f"{MANIFEST} is damaged; take another copy")
    expected = manifest.get("files")
    if not isinstance(expected, dict):
        raise CheckpointError(f"{MANIFEST} lists no files; take another copy")
    if expected.keys() != files.keys():
        different = ", ".join(sorted(expected.keys() ^ files.keys()))
        raise CheckpointError(f"its files do not match its manifest: {different}")
    for name, content in files.items():
        found = {"size": len(content), "sha256": sha256(content).hexdigest()}
        if expected[name] != found:
            raise CheckpointError(f"{name} is damaged; take another copy")
    return manifest, files


@cache
def _libraries() -> dict[str, str]:
    """The versions of the libraries, which are slow to read."""
    return {name: version(name) for name in LIBRARIES}


def _seal(manifest: Mapping[str, Any]) -> str:
    """Return a manifest's hash of everything but the hash itself."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return sha256(dumps(rest)).hexdigest()


def dumps(value: Any) -> bytes:
    """Serialise a value, with sorted keys.

    Raises:
        ValueError, TypeError: it cannot be written as JSON, or is not finite.
    """
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()


def loads(text: bytes) -> Any:
    """Parse a value.

    Raises:
        CheckpointError: the text is not JSON, holds a non-finite number, or repeats a key.
    """
    try:
        return json.loads(
            text.decode(),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_of_64_bits,
            object_pairs_hook=_without_repetition,
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"it holds JSON that cannot be read: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is too large")
    return number


def _of_64_bits(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (number := int(digits)) < 2**64:  # also of uint64
        raise ValueError(f"{digits[:20]} is too large")
    return number


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content
