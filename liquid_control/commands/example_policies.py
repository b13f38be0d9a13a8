"""The trained policies in the package, by the name of their recipe."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SUFFIX = ".zip"


def names() -> list[str]:
    """Return the names of all example policies, such as half_cheetah/ncp_ppo."""
    place = _folder()
    return sorted(
        path.relative_to(place).with_suffix("").as_posix() for path in place.glob(f"*/*{SUFFIX}")
    )


def find(path: Path) -> Path | None:
    """Return the file of a named example policy; None if the path exists or no policy has it."""
    if path.exists() or path.as_posix() not in names():
        return None
    return _folder() / path.with_suffix(SUFFIX)


def _folder() -> Path:
    return Path(str(files("liquid_control"))) / "zoo"
