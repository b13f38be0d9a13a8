"""C compilers for tests; those that this machine lacks are skipped, with the reason."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from liquid_control.deploy import CPolicy, compile_c
from liquid_control.deploy.c_policy import WARNINGS
from liquid_control.export.description import Description
from liquid_control.export.facts import metadata_of
from liquid_control.export.to_c import to_c

STRICT = WARNINGS[1:]


def missing(program: str) -> pytest.MarkDecorator:
    """Skip a test if a program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


HOST = missing("gcc")
COMPILERS = [
    pytest.param(["gcc", "-std=c99", "-O3"], marks=missing("gcc"), id="gcc"),
    pytest.param(
        ["clang", "-std=c99", "-O1"], marks=[missing("clang"), pytest.mark.slow], id="clang"
    ),
    pytest.param(["g++", "-x", "c++", "-O0"], marks=[missing("g++"), pytest.mark.slow], id="g++"),
    pytest.param(
        ["clang++", "-x", "c++", "-O0"], marks=[missing("clang++"), pytest.mark.slow], id="clang++"
    ),
]


def write(description: Description, folder: Path) -> Path:
    """Write policy.c and policy.h; return the folder."""
    sources = to_c(description)
    (folder / "policy.c").write_text(sources.source)
    (folder / "policy.h").write_text(sources.header)
    return folder


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program that must succeed; return what it prints."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compiled(description: Description, folder: Path, *flags: str) -> CPolicy:
    """Return a policy that was compiled with gcc, without warnings."""
    write(description, folder)
    flags = (*STRICT, *(flags or ("-O1",)))
    library = compile_c(folder / "policy.c", folder / "policy.so", compiler="gcc", flags=flags)
    return CPolicy(library, metadata_of(description))
