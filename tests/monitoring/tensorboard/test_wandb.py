"""What TensorBoard shows, Weights & Biases shows as well, without a network."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from tests.test_cli import RECIPE, TINY

# As docs/sweeps.md has it, but that it stays on this machine.
TRAINING = """
import sys, wandb
wandb.init(sync_tensorboard=True, mode="offline", dir=sys.argv[1])
from liquid_control.cli import main
main(sys.argv[2:])
"""
BLOCK, HEADER = 32_768, 7  # bytes of LevelDB's log format, in which W&B stores an offline run
FULL, FIRST, LAST = 1, 2, 4  # kinds of a record's parts


def records(run: Path) -> Iterator[bytes]:
    """Yield the records of an offline run of W&B."""
    data, place, record = run.read_bytes(), HEADER, b""
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", data, place + 4)
        place += HEADER + size
        part = data[place - size : place]
        record = part if kind in (FULL, FIRST) else record + part
        if kind in (FULL, LAST):
            yield record


def history(run: Path) -> dict[str, list[object]]:
    """Return the values of an offline run of W&B by their names."""
    from wandb.proto.wandb_internal_pb2 import Record

    values: dict[str, list[object]] = {}
    for data in records(run):
        record = Record.FromString(data)
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            values.setdefault(name, []).append(json.loads(item.value_json))
    return values


@pytest.mark.slow
def test_scalars_and_pictures_of_a_training_arrive(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="not among the extras: pip install wandb")
    command = ["train", str(RECIPE), "--runs", str(tmp_path / "runs"), "--set", *TINY]
    subprocess.run(
        [sys.executable, "-c", TRAINING, str(tmp_path), *command, "monitoring.every=64"], check=True
    )
    (events,) = tmp_path.glob("runs/**/events.out.tfevents.*")
    board = EventAccumulator(str(events), size_guidance={IMAGES: 0}).Reload()
    (run,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    arrived = history(run)
    for name in board.Tags()["scalars"]:
        values = [scalar.value for scalar in board.Scalars(name)]
        assert arrived[name] == pytest.approx(values), name
    pictures = {
        picture.encoded_image_string
        for tag in board.Tags()["images"]
        for picture in board.Images(tag)
    }
    assert pictures
    assert {file.read_bytes() for file in run.parent.glob("files/media/images/*")} == pictures
