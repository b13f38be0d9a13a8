"""The sketch for Arduino: it compiles for a board, and a simulated one obeys the policy."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from liquid_control.export.policies import describe_policy
from liquid_control.export.to_c import to_c
from tests.export import cases, compilers

ROOT = Path(__file__).parents[2]
SKETCH = ROOT / "examples/arduino/balance/balance.ino"
BOARD = Path(__file__).parent / "arduino"
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
LOW, HIGH = 0.03, 0.08
SPACE = spaces.Dict(
    {
        "observation": spaces.Box(-np.inf, np.inf, (2,)),
        "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
    }
)


@pytest.fixture(scope="module")
def policy() -> Any:
    """A policy of two observations and one action that varies."""
    wiring = {"kind": "auto_ncp", "neurons": 12, "motor": 4}
    actions = spaces.Box(-3.0, 3.0, (1,))
    return cases.make_policy(observations=SPACE, actions=actions, wiring=wiring)


def write(policy: Any, folder: Path) -> None:
    sources = to_c(describe_policy(policy), trained_interval=(LOW, HIGH))
    (folder / "policy.c").write_text(sources.source)
    (folder / "policy.h").write_text(sources.header)
    (folder / "sketch.cpp").write_text(f'#include "Arduino.h"\n{SKETCH.read_text()}')


@pytest.fixture(scope="module")
def board(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated board with the sketch."""
    folder = tmp_path_factory.mktemp("board")
    write(policy, folder)
    flags = ("-O1", "-Wall", "-Wextra", "-Werror", f"-I{BOARD}", "-I.")
    compilers.run("gcc", "-std=c99", *flags, "-c", "policy.c", "-o", "policy.o", cwd=folder)
    sources = (BOARD / "board.cpp", "sketch.cpp", "policy.o")
    compilers.run("g++", *flags, *sources, "-o", "board", cwd=folder)
    return folder / "board"


def play(board: Path, lines: list[tuple[int, int, int]]) -> list[int]:
    """Return what the motor gets after each "microseconds slider angle"."""
    text = "".join(f"{now} {slider} {angle}\n" for now, slider, angle in lines)
    done = subprocess.run([board], input=text, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def expected(policy: Any, moments: list[tuple[float | None, int, int]]) -> list[int]:
    """Return the same, by the policy in PyTorch, from elapsed times; None starts an episode."""
    state, found = None, []
    for elapsed, slider, angle in moments:
        seen = np.float32([slider / 511.5 - 1, math.pi / 4 * (angle / 511.5 - 1)])
        start = elapsed is None
        observation = {
            "observation": seen,
            "elapsed_time": np.float32([cases.NOMINAL if elapsed is None else elapsed]),
        }
        action, state = policy.predict(observation, state, np.array([start]), deterministic=True)
        found.append(math.copysign(1, action[0]) * int(255 * abs(action[0]) / 3 + 0.5))
    return found


@compilers.HOST
@compilers.missing("g++")
def test_the_board_gives_the_motor_what_the_policy_says(policy: Any, board: Path) -> None:
    rng = np.random.default_rng(0)
    gaps = rng.integers(50_000, 120_000, 60)
    times = np.cumsum(gaps) + 2**32 - 2_000_000  # the board's 32 bits overflow on the way
    readings = rng.integers(100, 900, (60, 2))
    moved = play(
        board, [(int(now), *map(int, row)) for now, row in zip(times, readings, strict=True)]
    )
    elapsed = [None, *np.minimum(gaps[1:] * 1e-6, HIGH)]
    moments = [(gap, *map(int, row)) for gap, row in zip(elapsed, readings, strict=True)]
    np.testing.assert_allclose(moved, expected(policy, moments), atol=1)
    assert len(set(moved)) > 10


@compilers.HOST
@compilers.missing("g++")
def test_the_board_waits_for_the_interval_and_rests_without_sensors(
    policy: Any, board: Path
) -> None:
    early = play(board, [(0, 300, 700), (10_000, 800, 200), (49_000, 800, 200), (50_001, 800, 200)])
    assert early[0] == early[1] == early[2] != early[3]
    broken = [(60_000 * step, 0 if step else 300, 700) for step in range(10)]
    moved = play(board, broken)
    assert len({*moved[:6]}) == 1  # held
    assert moved[0] != 0
    assert moved[6:] == [0] * 4
    glitch = [(0, 300, 700), *((50_001 + 100 * step, 0, 700) for step in range(20))]
    assert len({*play(board, glitch)}) == 1  # of two milliseconds
    again = play(board, [*broken, (700_000, 300, 700)])[-1]
    assert again == moved[0]  # an episode begins


@compilers.missing("arm-none-eabi-g++")
def test_the_sketch_compiles_for_a_cortex_m4(policy: Any, tmp_path: Path) -> None:
    write(policy, tmp_path)
    flags = (*CPU, "-Os", "-Wall", "-Wextra", "-Werror", f"-I{BOARD}", "-I.")
    for compiler, source in (("gcc", "policy.c"), ("g++", "sketch.cpp")):
        compilers.run(f"arm-none-eabi-{compiler}", *flags, "-c", source, "-o", "it.o", cwd=tmp_path)
