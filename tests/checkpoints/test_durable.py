"""Errors of atomic writes name the file that the caller asked for."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from liquid_control.checkpoints.durable import replacing


@pytest.mark.parametrize("named", ["nothing", "temporary", "other"])
def test_an_error_names_the_file_that_was_asked_for(named: str, tmp_path: Path) -> None:
    path, other = tmp_path / "results.csv", tmp_path / "elsewhere"

    def fail() -> None:
        with replacing(path) as partial:
            names = {"nothing": [], "temporary": [str(partial)], "other": [str(other)]}[named]
            raise OSError(errno.ENOSPC, "No space left on device", *names)

    with pytest.raises(OSError, match="No space left") as caught:
        fail()
    assert caught.value.filename == str(other if named == "other" else path)
    assert not [*tmp_path.iterdir()]
