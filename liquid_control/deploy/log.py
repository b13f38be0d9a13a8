"""Logs of robots as MCAP files, which Foxglove opens.

A log has one topic, `/step`, of JSON messages with the fields of `Row`, and the facts of the policy
as metadata. A thread writes them, so that the disk never delays an action.
"""

from __future__ import annotations

import json
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from liquid_control.deploy.metadata import Metadata
from liquid_control.deploy.ring import NUMBERS, Row

if TYPE_CHECKING:
    from mcap.records import McapRecord

TOPIC = "/step"
HASH = "sha256"  # of the facts, which are outside of what MCAP checks
FACTS = "liquid_control"
CHUNK = 1 << 16  # bytes of rows that are written at once; a process that is killed loses them
LARGEST = 1 << 25  # bytes of a chunk that is read; other tools write more than `CHUNK`
UNKNOWN = 2**64 - 1  # size of a chunk that was compressed as a stream
MOST = 10_000  # queued rows; further ones are dropped
VECTORS = Row._fields[NUMBERS:]
FLAGS = ("acted", "starts")
KINDS: dict[str, Any] = {
    name: np.float32 if name in VECTORS else np.bool_ if name in FLAGS else np.float64
    for name in Row._fields
}
"""Of the columns of a log."""

DAMAGES = KeyError, OSError, OverflowError, UnicodeDecodeError, struct.error, zlib.error
"""Raised by readers of MCAP where a file is damaged, besides their own errors."""

SCHEMA = {
    "title": "step of a control loop",
    "type": "object",
    "properties": {
        **{name: {"type": "number"} for name in Row._fields[:4]},
        **{name: {"type": "boolean"} for name in FLAGS},
        **{name: {"type": "array", "items": {"type": ["number", "null"]}} for name in VECTORS},
    },
}


class LogWriter:
    """Writes a log.

    Args:
        path: of the file. If it exists, as after a restart, a number is appended to its name, with
            a warning.
        facts: of the policy.

    Attributes:
        path: of the file that is written.
        dropped: rows that were not written, because the disk was too slow, or failed.

    Raises:
        ImportError: mcap is missing.
    """

    def __init__(self, path: Path, facts: Metadata) -> None:
        from mcap.writer import Writer  # an extra

        self.dropped = 0
        self.path, self._file = _new_file(path)
        if self.path != path:
            warnings.warn(f"{path} exists; this log is {self.path}", stacklevel=3)
        self._writer = Writer(self._file, chunk_size=CHUNK)
        self._writer.start(profile="", library="liquid_control")
        schema = self._writer.register_schema(
            name="liquid_control.Step", encoding="jsonschema", data=json.dumps(SCHEMA).encode()
        )
        self._channel = self._writer.register_channel(
            topic=TOPIC, message_encoding="json", schema_id=schema
        )
        text = facts.to_json()
        self._writer.add_metadata(FACTS, {"policy": text, HASH: sha256(text.encode()).hexdigest()})
        self._rows: SimpleQueue[Row | None] = SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, row: Row) -> None:
        """Queue a row for writing; after a row that could not be written, none is.

        It warns once instead of raising an error, so that a full disk does not stop the robot.
        """
        if self._error is not None:
            if not self.dropped:
                warnings.warn(f"the log has no further rows: {self._error}", stacklevel=3)
            self.dropped += 1
            return
        if self._rows.qsize() >= MOST:
            self.dropped += 1
            return
        vectors = {name: getattr(row, name).copy() for name in VECTORS}  # their owners reuse them
        self._rows.put(row._replace(**vectors))

    def close(self) -> None:
        """Write the queued rows, and finish the file.

        Raises:
            OSError: a row could not be written.
        """
        self._rows.put(None)
        self._thread.join()
        try:
            if self._error is not None:
                raise OSError(f"a row could not be written: {self._error}") from self._error
            self._writer.finish()
        finally:
            self._file.close()

    def _work(self) -> None:
        try:
            while (row := self._rows.get()) is not None:
                nanoseconds = max(0, round(row.now * 1e9))  # MCAP knows no times before zero
                self._writer.add_message(
                    self._channel, log_time=nanoseconds, publish_time=nanoseconds, data=_json(row)
                )
        except Exception as error:  # is raised by `close`
            self._error = error


def read_log(path: Path) -> tuple[Metadata, dict[str, NDArray[Any]]]:
    """Return the facts of the policy in a log, and its columns by their names in `Row`.

    Raises:
        ImportError: mcap is missing.
        OSError: the file cannot be opened.
        ValueError: it is not a log of a control loop.
    """
    from mcap.exceptions import McapError
    from mcap.stream_reader import CRCValidationError
    from zstandard import ZstdError

    with path.open("rb") as file:
        try:
            texts, steps = _contents(file)
        except (*DAMAGES, McapError, CRCValidationError, ZstdError) as error:
            reason = str(error) or type(error).__name__  # an OSError: it is shorter than a footer
            raise ValueError(
                f"{path} is not a complete MCAP file: {reason}; of one that was cut off, `mcap "
                "recover` saves the rows that are whole"
            ) from error
        except _ContentError as error:
            raise ValueError(f"{path} is not a log of a control loop: {error}") from error
    if not steps or not texts:
        raise ValueError(f"{path} is not a log of a control loop: it has no steps")
    text = texts[0].get("policy", "")
    if texts[0].get(HASH, found := sha256(text.encode()).hexdigest()) != found:  # early logs: none
        raise ValueError(f"{path} is damaged: the facts of its policy were changed")
    try:
        facts = Metadata.from_json(texts[0]["policy"])
        columns = dict(zip(KINDS, map(np.array, zip(*steps, strict=True)), strict=True))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a log of a control loop: {error}") from error
    sizes = (facts.observation_size, facts.action_size, facts.state_size)
    for name, size in zip(VECTORS, sizes, strict=True):
        if columns[name].shape != (len(steps), size):
            raise ValueError(
                f"{path} is not a log of its policy: a step needs {size} numbers of {name}"
            )
    return facts, columns


class _ContentError(Exception):
    """A file has content that a log of a control loop has not."""


def _contents(file: BinaryIO) -> tuple[list[dict[str, str]], list[list[NDArray[Any]]]]:
    """Return the metadata with the facts of the policy, and the steps, as `_step` does."""
    from mcap.records import Channel, Message
    from mcap.records import Metadata as Named

    texts, topics, steps = [], {}, []
    for record in _records(file):
        if isinstance(record, Named) and record.name == FACTS:
            texts.append(record.metadata)
        elif isinstance(record, Channel):
            topics[record.id] = record.topic
        elif isinstance(record, Message) and topics[record.channel_id] == TOPIC:
            steps.append(_step(record.data))  # at once, as its text is several times as large
    return texts, steps


def _records(file: BinaryIO) -> Iterator[McapRecord]:
    """Yield the records of an MCAP file in their order, those within chunks as well.

    Raises:
        _ContentError: a chunk could fill the memory.
    """
    from mcap.records import Chunk
    from mcap.stream_reader import StreamReader, breakup_chunk
    from zstandard import get_frame_parameters

    for record in StreamReader(file, emit_chunks=True, validate_crcs=True).records:
        if not isinstance(record, Chunk):
            yield record
            continue
        sizes = [record.uncompressed_size]
        if record.compression == "zstd":
            size = get_frame_parameters(record.data).content_size
            sizes += [] if size == UNKNOWN else [size]
        elif record.compression:
            raise _ContentError(f"it is compressed with {record.compression}, and logs with zstd")
        if max(sizes) > LARGEST:
            raise _ContentError(
                f"a chunk of it expands to {max(sizes) / 1e6:,.0f} MB; those of a log have less "
                f"than {LARGEST / 1e6:.0f}"
            )
        yield from breakup_chunk(record, validate_crc=True)


def _step(message: bytes) -> list[NDArray[Any]]:
    """Return the fields of a step, in the order of `KINDS`."""
    try:
        row = json.loads(message)
        return [np.array(row[name], kind) for name, kind in KINDS.items()]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _ContentError(str(error)) from error


def _new_file(path: Path) -> tuple[Path, BinaryIO]:
    """Create a file: name.mcap, or name-2.mcap if that exists, and so on."""
    if path.exists() and not path.is_file():
        return path, path.open("wb")  # of a device, or the error of a folder
    free, numbers = path, count(2)
    while True:
        try:
            return free, free.open("xb")
        except FileExistsError:
            free = path.with_stem(f"{path.stem}-{next(numbers)}")


def _json(row: Row) -> bytes:
    fields: dict[str, Any] = {
        name: getattr(row, name) for name in Row._fields if name not in VECTORS
    }
    for name in VECTORS:
        # JSON has neither NaN nor infinities; what is missing or refused is null.
        values = getattr(row, name).astype(float).tolist()
        fields[name] = [value if math.isfinite(value) else None for value in values]
    return json.dumps(fields, allow_nan=False).encode()
