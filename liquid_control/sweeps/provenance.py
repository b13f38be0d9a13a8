"""Provenance of a report: versions of packages, and the commit of the code."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("liquid-control", "torch", "mujoco", "gymnasium", "stable-baselines3")
TIMEOUT = 10.0  # seconds, for each call of git


def versions() -> dict[str, str]:
    """Return the versions of this package and the packages that results depend on, by name."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit(module: Path = Path(__file__)) -> str:
    """Return the commit of the code if it is in a clone, and whether files differ from it.

    It is empty without git, and for code that the repository does not contain, such as an
    environment inside another project.
    """
    if _git(module.parent, "ls-files", "--error-unmatch", module.name) is None:
        return ""
    revision = _git(module.parent, "rev-parse", "HEAD")
    changes = _git(module.parent, "status", "--porcelain", "--untracked-files=no")
    return f"{revision}{', with changes' if changes else ''}" if revision else ""


def _git(folder: Path, *arguments: str) -> str | None:
    """Return git's output; None if it fails."""
    try:
        done = subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
