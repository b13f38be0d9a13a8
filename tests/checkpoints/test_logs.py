"""Logs that were cut back and go on: no row and no point is missing, or there twice."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Image, configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.logs import LogState, ResumableLogger, load_state_dict, state_dict


def log(logger: Any, steps: range) -> None:
    """A row for each step; the loss comes late, as it does in a training."""
    for step in steps:
        logger.record("rollout/reward", step / 7)
        if step >= 3:
            logger.record("train/loss", np.float32(1 / step))
            logger.record("train/beta", 0.1, exclude="tensorboard")
        logger.dump(step)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return sorted((event.step, event.value) for event in events.Scalars(tag))


def test_logs_cut_back_and_continued_are_those_of_one_run(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    log(ResumableLogger(straight), range(8))

    first = ResumableLogger(broken)
    log(first, range(2))
    marks = state_dict(first).marks
    log(first, range(2, 6))  # lost, with a new column
    first.close()
    second = ResumableLogger(broken)
    log(second, range(6, 7))  # a process that never saved anything
    second.close()
    third = ResumableLogger(broken)
    third.rewind(marks)
    log(third, range(2, 8))

    assert rows(broken) == rows(straight)
    assert list(rows(broken)[0]) == ["rollout/reward", "train/beta", "train/loss"]
    for tag in ("rollout/reward", "train/loss"):
        assert points(broken, tag) == points(straight, tag)
    assert len(points(broken, "train/loss")) == 5


def test_a_log_is_continued_where_it_ends(tmp_path: Path) -> None:
    for steps in (range(4), range(4, 6)):
        logger = ResumableLogger(tmp_path)
        log(logger, steps)
        logger.close()
    assert [float(row["rollout/reward"]) for row in rows(tmp_path)] == [s / 7 for s in range(6)]
    assert [step for step, _ in points(tmp_path, "rollout/reward")] == list(range(6))


def test_logs_of_sb3_can_be_cut_back_too(tmp_path: Path) -> None:
    theirs = configure(str(tmp_path), ["csv", "tensorboard"])
    log(theirs, range(4))
    marks = state_dict(theirs).marks
    log(theirs, range(4, 9))
    theirs.close()
    ours = ResumableLogger(tmp_path)
    ours.rewind(marks)
    log(ours, range(4, 6))
    assert [float(row["rollout/reward"]) for row in rows(tmp_path)] == [s / 7 for s in range(6)]
    assert [step for step, _ in points(tmp_path, "rollout/reward")] == list(range(6))


def test_marks_of_a_row_half_written_are_whole(tmp_path: Path) -> None:
    logger = ResumableLogger(tmp_path, ["csv"])
    log(logger, range(4))
    marks = state_dict(logger).marks
    logger.close()
    with (tmp_path / "progress.csv").open("a") as file:
        file.write("0.57,0.")
    ResumableLogger(tmp_path, ["csv"]).rewind(marks)
    assert [float(row["rollout/reward"]) for row in rows(tmp_path)] == [s / 7 for s in range(4)]
    assert (tmp_path / "progress.csv").read_text().endswith("\n")


def test_a_new_column_never_leaves_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = ResumableLogger(tmp_path, ["csv"])
    log(logger, range(3))
    before = (tmp_path / "progress.csv").read_text()

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        log(logger, range(3, 4))
    assert (tmp_path / "progress.csv").read_text() == before


def test_a_log_that_lost_points_is_reported(tmp_path: Path) -> None:
    logger = ResumableLogger(tmp_path, ["csv"])
    log(logger, range(3))
    marks = state_dict(logger).marks
    (tmp_path / "progress.csv").write_text("rollout/reward\n0.0\n")
    with pytest.warns(UserWarning, match="progress.csv is shorter than it was"):
        logger.rewind(marks)
    assert len(rows(tmp_path)) == 1


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'json' cannot be resumed; choose from stdout, line, csv"):
        ResumableLogger(tmp_path, ["csv", "json"])


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    logger = ResumableLogger(tmp_path)
    (tmp_path / "config.yaml").write_text("name: x\n")
    (tmp_path / "notes.csv").write_text("a\n1\n2\n")
    logger.rewind({})
    assert (tmp_path / "config.yaml").read_text() == "name: x\n"
    assert (tmp_path / "notes.csv").read_text() == "a\n1\n2\n"


@pytest.mark.parametrize("name", ["events.out.tfevents.1.vm.2", "progress.csv"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "device"])
def test_a_log_that_is_no_file_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    folder, target = tmp_path / "logs", tmp_path / "target"
    logger = ResumableLogger(folder)
    log(logger, range(2))
    marks = state_dict(logger).marks
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "device":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    if kind == "link":
        target.write_text("not a log\n")
    before = target.exists() and target.read_text()
    for use in (
        lambda: ResumableLogger(folder),
        lambda: state_dict(logger),
        lambda: logger.rewind({**marks, name: 1}),
    ):
        with pytest.raises(CheckpointError, match=f"{name} is a link, .* regular file; remove"):
            use()
    assert (target.exists() and target.read_text()) == before


def test_what_is_not_written_yet_is_recorded_again(tmp_path: Path) -> None:
    straight, broken = (ResumableLogger(tmp_path / each, ["csv"]) for each in "ab")
    straight.record("int", 3)
    straight.record("float", 0.1)
    straight.record("lost", float("nan"))
    straight.record("single", np.float32(0.1))
    straight.record("yes", True)
    straight.record("text", "fast", exclude=("tensorboard", "stdout"))
    straight.record_mean("mean", 1.0)
    straight.record_mean("mean", 2.0)
    straight.record("weights", torch.arange(3.0), exclude="csv")
    straight.record("picture", Image(np.zeros((1, 1, 3)), "HWC"), exclude="csv")
    _, notes, arrays = state_dict(straight)
    notes = json.loads(json.dumps(notes, allow_nan=False))
    load_state_dict(broken, LogState(state_dict(broken).marks, notes, arrays))
    assert broken.name_to_excluded["text"] == ("tensorboard", "stdout")
    np.testing.assert_array_equal(broken.name_to_value["weights"], [0, 1, 2])
    assert "picture" not in broken.name_to_value
    for logger in (straight, broken):
        logger.record_mean("mean", 6.0)
        logger.dump(1)
    assert rows(tmp_path / "b") == rows(tmp_path / "a")
    assert rows(tmp_path / "a")[0]["mean"] == "3.0"
