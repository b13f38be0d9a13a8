"""The control loop: time, missing observations, warnings, memory and logs."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liquid_control.deploy import ControlLoop, Metadata, read_log
from liquid_control.deploy.control_loop import ENOUGH, MOST

FACTS = Metadata(
    task="Test-v0",
    neurons="cfc",
    neuron_names=("a", "b"),
    observation=({"name": "observation", "kind": "box", "shape": [3], "sizes": []},),
    action={"kind": "box", "shape": [2], "sizes": [], "low": [-1.0, 0.5], "high": [1.0, 2.0]},
    state_size=2,
    motor_size=1,
    noise={"size": 0, "kind": "normal"},
    nominal_interval=0.05,
    is_timed=True,
    shortest=0.0005,
    longest=5.0,
    trained_interval=(0.02, 0.1),
)


class Clock:
    """Time that tests set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Recorder:
    """A policy that returns the elapsed time, and counts its steps in its state."""

    def __init__(self, metadata: Metadata = FACTS) -> None:
        self.metadata = metadata
        self.elapsed: list[float] = []
        self.reset()

    def reset(self) -> None:
        self.state = np.zeros(2, np.float32)

    def step(self, observation: Any, elapsed_time: float) -> Any:
        if not np.isfinite(observation).all():
            raise ValueError("not finite")
        self.elapsed.append(elapsed_time)
        self.state += 1
        return np.float32([elapsed_time, 1.0])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(clock: Clock) -> Iterator[ControlLoop]:
    with ControlLoop(Recorder(), clock=clock) as made:
        yield made


SEEN = np.float32([1, 2, 3])


def test_it_measures_the_time_since_the_previous_observation(
    loop: ControlLoop, clock: Clock
) -> None:
    loop.step(SEEN)
    clock.now += 0.03
    loop.step(SEEN)
    clock.now += 0.03
    loop.step(None)
    clock.now += 0.04
    loop.step(SEEN)
    loop.reset()
    clock.now += 0.06
    loop.step(SEEN)
    assert loop.policy.elapsed == pytest.approx([0.05, 0.03, 0.07, 0.05])  # type: ignore[attr-defined]
    assert loop.events == {"missing": 1}


def test_intervals_are_clamped_to_those_of_the_training_and_counted(
    loop: ControlLoop, clock: Clock
) -> None:
    for gap in (0.0, 0.001, 3.0, 0.1):
        clock.now += gap
        loop.step(SEEN)
    assert loop.policy.elapsed == pytest.approx([0.05, 0.02, 0.1, 0.1])  # type: ignore[attr-defined]
    assert loop.events == {"short": 1, "long": 1}
    np.testing.assert_allclose(loop.ring.rows()["elapsed"], [0.05, 0.001, 3.0, 0.1])


def test_a_policy_without_elapsed_time_goes_on_after_a_pause(clock: Clock) -> None:
    loop = ControlLoop(Recorder(replace(FACTS, is_timed=False)), clock=clock)
    for gap in (0.05, 6.0, 0.05, -3.0, 0.05):
        clock.now += gap
        loop.step(SEEN)
    assert loop.policy.elapsed == [0.05] * 5  # type: ignore[attr-defined]
    assert not loop.events


@pytest.mark.parametrize(("missing", "expected"), [("hold", [0.05, 1.0]), ("zero", [0.0, 0.5])])
def test_without_a_usable_observation_it_holds_or_rests(
    missing: Any, expected: list[float], clock: Clock
) -> None:
    loop = ControlLoop(Recorder(), missing=missing, clock=clock)
    np.testing.assert_allclose(loop.step(None), [0.0, 0.5])  # there is nothing to hold yet
    loop.step(SEEN)
    state = loop.policy.state.copy()
    for unusable in (None, np.float32([1, np.nan, 3])):
        clock.now += 0.05
        np.testing.assert_allclose(loop.step(unusable), expected)
        np.testing.assert_array_equal(loop.policy.state, state)
    assert loop.events == {"missing": 2, "refused": 1}
    with pytest.raises(ValueError, match="an observation has 3 numbers, got 2"):
        loop.step(SEEN[:2])
    with pytest.raises(ValueError, match="missing must be"):
        ControlLoop(Recorder(), missing="panic")  # type: ignore[arg-type]


BOX = {"interval": (0.03, 0.07), "delay": (0.0, 0.02), "dropout": (0.0, 0.3)}


@pytest.fixture
def boxed(clock: Clock) -> ControlLoop:
    return ControlLoop(Recorder(replace(FACTS, certificate={"box": BOX})), clock=clock)


def act(
    loop: ControlLoop, clock: Clock, count: int, gap: float, delay: float = 0.0, lost: int = 0
) -> None:
    """Take observations at an interval, each followed by some that are lost."""
    for _ in range(count):
        for seen in [SEEN, *[None] * lost]:
            clock.now += gap
            loop.step(seen, measured_at=clock.now - delay)


@pytest.mark.parametrize(
    ("name", "gap", "delay", "lost"),
    [
        ("interval", 0.09, 0, 0),
        ("interval", 0.021, 0, 0),
        ("delay", 0.05, 0.1, 0),
        ("dropout", 0.05, 0, 2),
    ],
)
def test_it_warns_by_name_when_it_leaves_the_box_of_the_certificate(
    boxed: ControlLoop, clock: Clock, name: str, gap: float, delay: float, lost: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        act(boxed, clock, 20, 0.05, 0.01)
    with pytest.warns(UserWarning, match=rf"{name}: 0\.\d+ over the last minute is outside of the"):
        act(boxed, clock, 60, gap, delay, lost)
    outside = set(BOX) & boxed.events.keys()
    assert outside == {name}
    assert boxed.events[name] == 1
    with warnings.catch_warnings():  # it is said once, until the robot is back
        warnings.simplefilter("error")
        act(boxed, clock, 2, gap, delay)
    act(boxed, clock, 2000, 0.05)
    with pytest.warns(UserWarning, match=name):
        act(boxed, clock, 3000, gap, delay, lost)
    assert boxed.events[name] == 2


def test_the_edge_of_the_box_is_within_it(clock: Clock) -> None:
    box = {"interval": (0.02, 0.05), "delay": (0.0, 0.0), "dropout": (0.0, 0.8)}
    loop = ControlLoop(Recorder(replace(FACTS, certificate={"box": box})), clock=clock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        act(loop, clock, 50, 0.05002, 1e-5)
    assert not loop.events


def test_the_delay_is_that_of_accepted_observations(boxed: ControlLoop, clock: Clock) -> None:
    for step in range(40):
        clock.now += 0.05
        seen = SEEN if step % 4 == 0 else np.full_like(SEEN, np.nan)
        with nullcontext() if step != ENOUGH - 1 else pytest.warns(UserWarning, match="dropout"):
            boxed.step(seen, measured_at=clock.now - 0.01)
    assert boxed.ring.conditions()["delay"] == pytest.approx(0.01)


def test_a_warning_says_how_long_the_steps_lasted(boxed: ControlLoop, clock: Clock) -> None:
    act(boxed, clock, 3000, 0.05)
    with pytest.warns(UserWarning, match="delay: 0.0\\d+ over the last 15\\d s"):
        act(boxed, clock, 1500, 0.05, 0.05)


def test_losses_and_pauses_between_episodes_are_no_long_interval(
    boxed: ControlLoop, clock: Clock
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(200):
            clock.now += 0.06
            boxed.step(None if step % 4 == 3 else SEEN)
            if step % 20 == 19:
                boxed.reset()
                clock.now += 30.0
    conditions = boxed.ring.conditions()
    assert conditions["interval"] == pytest.approx(0.06)
    assert conditions["dropout"] == pytest.approx(0.25)


def test_the_first_steps_are_too_few_for_a_warning(boxed: ControlLoop, clock: Clock) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        boxed.step(None)
        act(boxed, clock, 1, 0.4)
        act(boxed, clock, 7, 0.03)
    with pytest.warns(UserWarning, match="interval"):
        act(boxed, clock, 1, 0.03)


def test_the_ring_has_the_last_rows_and_their_means(clock: Clock) -> None:
    loop = ControlLoop(Recorder(), clock=clock)
    rows = len(loop.ring._numbers)
    assert rows == 60 / 0.02 + 1
    rng = np.random.default_rng(0)
    gaps = rng.uniform(0.02, 0.1, rows + 500)
    for gap in gaps:
        clock.now += gap
        loop.step(SEEN)
    kept = loop.ring.rows()
    assert len(loop.ring) == rows
    np.testing.assert_allclose(kept["elapsed"], gaps[-rows:])
    assert (np.diff(kept["now"]) > 0).all()
    assert loop.ring.conditions()["interval"] == pytest.approx(gaps[-rows:].mean())
    assert loop.ring.conditions()["dropout"] == pytest.approx(0.0)


def test_memory_does_not_grow(clock: Clock) -> None:
    loop = ControlLoop(Recorder(), clock=clock)
    loop.policy.elapsed = type("Forgets", (list,), {"append": lambda *_: None})()  # type: ignore[attr-defined]

    def act(steps: int) -> None:
        for _ in range(steps):
            clock.now += 0.05
            loop.step(SEEN)

    act(2000)
    tracemalloc.start()
    act(100)
    before, _ = tracemalloc.get_traced_memory()
    act(5000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 10_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a log."""
    pytest.importorskip("mcap", reason="the extra `deploy` is not installed")
    return tmp_path / "robot.mcap"


def test_a_log_has_every_step(path: Path, clock: Clock) -> None:
    buffer = SEEN.copy()  # that the robot reuses
    with ControlLoop(Recorder(), clock=clock, log=path) as loop:
        for step in range(50):
            clock.now += 0.05
            buffer += 1
            loop.step(None if step % 10 == 9 else buffer)
        ring = loop.ring.rows()
    facts, rows = read_log(path)
    assert facts == FACTS
    assert rows.keys() == ring.keys()
    for name, values in rows.items():
        np.testing.assert_allclose(values, ring[name], rtol=1e-6, err_msg=name)


def test_a_log_never_replaces_another(path: Path, clock: Clock) -> None:
    for name in ("robot.mcap", "robot-2.mcap", "robot-3.mcap"):
        seen = np.full_like(SEEN, len(name))
        with nullcontext() if name == path.name else pytest.warns(UserWarning, match=name):
            loop = ControlLoop(Recorder(), clock=clock, log=path)
        with loop:
            clock.now += 0.05
            loop.step(seen)
        np.testing.assert_array_equal(read_log(path.with_name(name))[1]["observation"], [seen])
    assert len([*path.parent.iterdir()]) == 3
    with pytest.raises(IsADirectoryError):
        ControlLoop(Recorder(), clock=clock, log=path.parent)
    with ControlLoop(Recorder(), clock=clock, log=Path(os.devnull)):
        pass


def test_an_infinite_measurement_ends_neither_the_loop_nor_the_log(
    path: Path, clock: Clock
) -> None:
    with ControlLoop(Recorder(), clock=clock, log=path) as loop:
        for value in (1.0, np.inf, -np.inf, 2.0):
            clock.now += 0.05
            loop.step(np.full_like(SEEN, value))
    seen = read_log(path)[1]["observation"]
    np.testing.assert_array_equal(seen[:, 0], [1, np.nan, np.nan, 2])


@pytest.mark.parametrize("start", [0.0, -5.0])
def test_a_time_stamp_that_is_none_ends_neither_the_loop_nor_the_log(
    start: float, path: Path, clock: Clock
) -> None:
    clock.now = start
    with ControlLoop(Recorder(), clock=clock, log=path) as loop:
        for measured_at in (start, np.nan, np.inf, start + 0.1):
            clock.now += 0.05
            loop.step(SEEN, measured_at=measured_at)
    np.testing.assert_allclose(read_log(path)[1]["delay"], [0.05, 0, 0, 0.1])
    np.testing.assert_allclose(loop.ring.rows()["delay"], [0.05, 0, 0, 0.1], rtol=1e-6)


def test_a_row_that_cannot_be_written_as_json_is_an_os_error(path: Path, clock: Clock) -> None:
    loop = ControlLoop(Recorder(), clock=clock, log=path)
    clock.now = np.nan
    loop.step(SEEN)
    with pytest.raises(OSError, match="a row could not be written"):
        loop.close()


def test_a_log_with_flipped_bits_is_refused_and_never_another_log(path: Path, clock: Clock) -> None:
    with ControlLoop(Recorder(), clock=clock, log=path) as loop:
        for step in range(20):
            clock.now += 0.05
            loop.step(SEEN + step)
    whole, (facts, rows) = path.read_bytes(), read_log(path)
    named: list[bool] = []
    start = whole.index(b'"trained_interval"')
    for place in [*range(0, len(whole), 11), *range(start, start + 40)]:
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        try:
            theirs, found = read_log(path)
        except ValueError as error:
            named.append(str(path) in str(error))
            continue
        assert theirs == facts
        np.testing.assert_equal(found, rows)
    assert all(named)
    assert len(named) > len(whole) / 11 / 2


def test_files_that_are_no_log_are_named(path: Path, clock: Clock) -> None:
    from mcap.writer import Writer

    with ControlLoop(Recorder(), clock=clock, log=path) as loop:
        for _ in range(20):
            clock.now += 0.05
            loop.step(SEEN)
    whole = path.read_bytes()
    for length in [0, 4, *range(8, len(whole), len(whole) // 12), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a complete MCAP file"):
            read_log(path)
    with pytest.raises(FileNotFoundError):
        read_log(path.with_name("none.mcap"))

    def write(facts: str | None, *messages: bytes, topic: str = "/step") -> None:
        with path.open("wb") as file:
            writer = Writer(file)
            writer.start()
            schema = writer.register_schema("other", "jsonschema", b"{}")
            channel = writer.register_channel(topic, "json", schema)
            if facts is not None:
                writer.add_metadata("liquid_control", {"policy": facts})
            for message in messages:
                writer.add_message(channel, 0, message, 0)
            writer.finish()

    row = b'{"now": 1, "elapsed": 1, "latency": 0, "delay": 0, "acted": true, "starts": true, '
    row += b'"observation": [1, 2, 3], "action": [0, 1], "state": [0, null]}'
    facts = FACTS.to_json()
    write(facts, row)
    assert np.isnan(read_log(path)[1]["state"][0, 1])
    for wrong, reason in [
        ((None, row), "it has no steps"),
        ((facts,), "it has no steps"),
        (("{}", row), "cannot be read"),
        ((facts, b"{}"), "not a log of a control loop: 'now'"),
        ((facts, b"not json"), "not a log of a control loop"),
        ((facts, b"[" * 100_000), "not a log of a control loop"),
        ((facts, row.replace(b'"now": 1', b'"now": 1' + b"0" * 400)), "not a log of a control"),
        ((facts, row, row.replace(b"[1, 2, 3]", b"[1, 2]")), "not a log of a control loop"),
        ((facts, row.replace(b"[1, 2, 3]", b"[1, 2]")), "a step needs 3 numbers of observation"),
    ]:
        write(*wrong)
        with pytest.raises(ValueError, match=reason):
            read_log(path)
    write(facts, row, topic="/other")
    with pytest.raises(ValueError, match="it has no steps"):
        read_log(path)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_log_that_would_fill_the_memory_is_refused(path: Path, compression: str) -> None:
    from mcap.writer import CompressionType, Writer

    with path.open("wb") as file:
        kind = CompressionType[compression.upper()]
        writer = Writer(file, chunk_size=1 << 30, compression=kind)
        writer.start()
        writer.add_metadata("liquid_control", {"policy": FACTS.to_json()})
        schema = writer.register_schema("other", "jsonschema", b"{}")
        channel = writer.register_channel("/step", "json", schema)
        writer.add_message(channel, 0, b'{"now": ' + b" " * 200_000_000 + b"1}", 0)
        writer.finish()
    reason = {"zstd": "expands to 200 MB", "lz4": "compressed with lz4"}[compression]
    tracemalloc.start()
    with pytest.raises(ValueError, match=reason):
        read_log(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


def test_the_log_says_where_episodes_start(loop: ControlLoop, clock: Clock) -> None:
    for seen in (None, SEEN, None, SEEN):
        clock.now += 0.05
        loop.step(seen)
    loop.reset()
    for seen in (SEEN, SEEN):
        clock.now += 0.05
        loop.step(seen)
    assert loop.ring.rows()["starts"].tolist() == [1, 1, 0, 0, 1, 0]


def test_a_log_that_cannot_be_written_is_an_error(path: Path, clock: Clock) -> None:
    loop = ControlLoop(Recorder(), clock=clock, log=path)
    assert loop._log is not None

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space")

    log = loop._log
    log._writer.add_message = fail
    loop.step(SEEN)
    log._thread.join()
    with pytest.warns(UserWarning, match="the log has no further rows: no space"):
        acted = loop.step(SEEN)
    np.testing.assert_array_equal(acted, loop.step(SEEN))  # the robot acts on
    assert log.dropped == 2
    with pytest.raises(OSError, match="no space"):
        loop.close()


def test_a_full_disk_does_not_replace_the_error_that_ended_the_loop(clock: Clock) -> None:
    pytest.importorskip("mcap", reason="the extra `deploy` is not installed")
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    loop = ControlLoop(Recorder(), clock=clock, log=Path("/dev/full"))
    loop.step(SEEN)
    with pytest.warns(UserWarning, match="the log is incomplete"):
        loop.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    loop = ControlLoop(Recorder(), clock=clock, log=Path("/dev/full"))
    loop.step(SEEN)
    with pytest.raises(OSError, match="space"):
        loop.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("trained_interval", (0.0, 0.1), "trained_interval must be positive"),
        ("trained_interval", (0.2, 0.1), "trained_interval must be positive, and in order"),
        ("nominal_interval", 0.0, "nominal_interval must be positive"),
        ("longest", 0.0001, "longest must be above 0.0005"),
        ("state_size", -1, "state_size must not be negative"),
        ("certificate", {"box": "wide"}, "the box of the certificate must be an object"),
        ("certificate", {"box": {"delay": "short"}}, "certificate.box.delay"),
    ],
)
def test_impossible_facts_are_refused(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Metadata.from_json(replace(FACTS, **{name: value}).to_json())


def test_a_tiny_interval_does_not_fill_the_memory() -> None:
    loop = ControlLoop(Recorder(replace(FACTS, trained_interval=(1e-12, 0.1))))
    assert len(loop.ring._numbers) == MOST


def test_it_is_imported_quickly_and_without_pytorch() -> None:
    code = """
import sys, time
start = time.process_time()
import liquid_control.deploy
print(time.process_time() - start, *(name for name in ("torch", "gymnasium", "onnxruntime",
    "stable_baselines3", "liquid_control.policies") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *names = done.stdout.split()
    assert names == []
    assert float(seconds) < 0.3


def test_a_robot_needs_only_the_packages_that_the_documentation_names(tmp_path: Path) -> None:
    for name in ("numpy", "numpy.libs"):
        place = Path(np.__file__).parents[1] / name
        if place.exists():
            (tmp_path / name).symlink_to(place)
    code = """
import sys
from liquid_control.deploy import ControlLoop, CPolicy, Metadata, OnnxPolicy, read_log
assert Metadata.from_json(sys.argv[1]).to_json() == sys.argv[1]
"""
    command = [sys.executable, "-S", "-c", code, FACTS.to_json()]
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True, timeout=100)
