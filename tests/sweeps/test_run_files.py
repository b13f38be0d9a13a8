"""Files of runs are read as far as they make sense, whoever wrote them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liquid_control.sweeps import run_files
from liquid_control.sweeps.run_files import (
    FileError,
    count,
    number,
    printable,
    read_json,
    read_log,
    read_text,
    read_yaml,
    shown,
    wall_clock,
)
from tests.sweeps.studies import write_log

READERS: list[Callable[[Path], Any]] = [read_text, read_json, read_yaml, read_log]


def clocked(*trainings: tuple[int, float, int]) -> tuple[list[list[float]], list[float]]:
    """What SB3 logs of a training in parts, and the true seconds at each row.

    A part is its control steps, its steps per second, and the steps between two rows.
    """
    rows: list[list[float]] = []
    truth: list[float] = []
    begin, before = 0, 0.0
    for steps, rate, every in trainings:
        for step in range(every, steps + 1, every):
            seconds = step / rate
            rows.append([begin + step, int(seconds), int(step / max(seconds, 1e-9))])
            truth.append(before + seconds)
        begin, before = begin + steps, truth[-1]
    return rows, truth


@pytest.mark.parametrize(
    "trainings",
    [
        [(100_000, 900.0, 2048)],
        [(50_000, 900.0, 2000), (50_000, 900.0, 2000)],
        [(4000, 100.0, 2000), (90_000, 100.0, 2000), (10_000, 50.0, 2000)],
        [(2000, 200.0, 2000), (40_000, 100.0, 2000)],  # the clock does not run backwards here
        [(10_000, 1000.0, 10_000), (10_000, 700.0, 10_000), (10_000, 300.0, 10_000)],
        [(30_000, 500.0, 3000), (3000, 20.0, 3000)],  # nor here, on a slower machine
    ],
)
def test_seconds_of_a_resumed_training_add_up(trainings: list[tuple[int, float, int]]) -> None:
    rows, truth = clocked(*trainings)
    seconds = wall_clock(*np.array(rows, dtype=float).T)
    # SB3 rounds down to whole seconds, once for each part of the training.
    assert np.all(np.abs(seconds - truth) <= len(trainings))


NUMBERS = st.floats(-10, 1e15) | st.just(float("nan"))


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=20))
def test_the_clock_never_runs_backwards(rows: list[tuple[float, float, float]]) -> None:
    steps, elapsed, rates = np.array(rows, dtype=float).reshape(-1, 3).T
    steps = np.sort(np.nan_to_num(steps))
    seconds = wall_clock(steps, elapsed, rates)
    assert np.isfinite(seconds).all()
    assert (np.diff(seconds) >= 0).all()


def test_a_log_has_rows_in_order_and_leaves_out_what_makes_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    rows: list[Any] = [
        (100, 1, 100, None),  # no episode has ended
        (200, 2, 100, 5.0),
        (150, 2, 100, 9.0),  # steps back
        ("nan", 3, 100, 9.0),
        ("inf", 3, 100, 9.0),
        ("1e300", 3, 100, 9.0),
        ("<b>", 3, 100, 9.0),
        (300, 3, 100, "nan"),
        (400, "", "", 7.0),
        (500, 5, 100, "1e999"),
    ]
    write_log(path, rows)
    with path.open("a") as file:
        file.write("600,6,100,8.0")  # is being written
    log = read_log(path)
    assert log.steps.tolist() == [100, 200, 300, 400, 500]
    assert log.seconds.tolist() == [1, 2, 3, 3, 5]
    steps, seconds, returns = log.curve
    assert (steps.tolist(), seconds.tolist(), returns.tolist()) == ([200, 400], [2, 3], [5, 7])


def test_columns_may_come_late_and_rows_may_be_short(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("b,time/total_timesteps,rollout/ep_rew_mean\n1,100\n\n2,200,3.5,7,7\n")
    assert read_log(path).returns.tolist()[1:] == [3.5]
    path.write_text("")
    assert len(read_log(path).steps) == 0
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FileError, match="no column time/total_timesteps"):
        read_log(path)


@pytest.mark.parametrize("read", READERS)
def test_links_devices_folders_and_huge_files_are_refused(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "true").write_text("{}\n")
    (tmp_path / "link").symlink_to("true")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(FileError, match="not a regular file"):
            read(tmp_path / name)
    monkeypatch.setattr(run_files, "LARGEST", 1)
    with pytest.raises(FileError, match="more than 1 bytes"):
        read(tmp_path / "true")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"a": ' + "[" * 40 + "]" * 40 + "}",
        "3",
        "{",
        "[" * 99_999,
        '{"a": ' * 9999,
        "9" * 9999,
        "null",
        "\x00\xff",
    ],
)
@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_what_is_no_mapping_is_refused(
    text: str, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FileError):
        read(path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("prefix", [b"", b"time/total_timesteps,time/time_elapsed\n"])
@given(content=st.binary(max_size=300))
def test_any_content_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    read: Callable[[Path], Any],
    prefix: bytes,
    content: bytes,
) -> None:
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(prefix + content)
    complaint = ""
    try:
        read(path)
    except FileError as error:
        complaint = str(error)
    assert "\n" not in complaint


@pytest.mark.parametrize(
    "value", [True, None, "3", [], {}, float("nan"), float("inf"), -1e300, 10**400]
)
def test_only_finite_numbers_of_a_sensible_size_count(value: object) -> None:
    assert number(value) is None
    assert count(value) is None


def test_counts_are_whole_and_not_negative() -> None:
    assert [count(value) for value in (0, 7, 2e6)] == [0, 7, 2_000_000]
    assert [count(value) for value in (-1, 0.5)] == [None, None]
    assert number(-0.5) == -0.5


@given(st.text())
def test_names_are_plain_or_quoted(name: str) -> None:
    text = shown(name)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= 10 * run_files.LONGEST + 2
    assert text[:1] not in {"=", "+", "-", "@", "<"}  # formulas, tags


def test_plain_names_stay_as_they_are() -> None:
    for name in ("half_cheetah-ncp_ppo", "HalfCheetah-v5", "module:Task-v0", "dm_control/hop-v0"):
        assert shown(name) == name
    assert shown("<script>") == "'<script>'"
    assert shown("a\nb") == "'a\\nb'"
    assert shown("\udcff") == "'\\udcff'"


@given(st.text())
def test_printable_text_is_one_line(text: str) -> None:
    line = printable(text, 50)
    assert line.isprintable()
    assert len(line) <= 50
