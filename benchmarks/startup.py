"""Time until the command line answers, and until the package is imported, over `import torch`.

    python benchmarks/startup.py
    python benchmarks/startup.py --clock cpu

Each side is a process of its own; all sides run in turns. stable_baselines3 is the least that an
agent imports. On a shared machine, count processor time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import tyro
from table import print_table
from timing import Clock, in_turns

TORCH = "import torch"
IMPORTS = (
    TORCH,
    "import stable_baselines3",
    "import liquid_control",
    "from liquid_control import LiquidPPO",
)
COMMANDS = (("--version",), ("--help",), ("train", "--help"), ("train", "--no-such-option"))


@dataclass
class Arguments:
    """Time until the command line answers, and until the package is imported."""

    rounds: int = 7
    """Turns of each side; the table shows medians over them."""

    clock: Literal["wall", "cpu"] = "wall"
    """Measure wall time, or processor time."""


def processor_time() -> float:
    """Return the seconds that ended processes of this one have used."""
    times = os.times()
    return times.children_user + times.children_system


def process(*arguments: str) -> Callable[[], object]:
    """Return a function that runs Python once."""

    def run() -> object:
        return subprocess.run([sys.executable, *arguments], capture_output=True)

    return run


def main(arguments: Arguments) -> None:
    """Print the table."""
    clock: Clock = time.perf_counter if arguments.clock == "wall" else processor_time
    sides = {code: process("-c", code) for code in IMPORTS} | {
        f"liquid-control {' '.join(command)}": process("-m", "liquid_control", *command)
        for command in COMMANDS
    }
    turns = in_turns(sides, rounds=arguments.rounds, clock=clock)
    rows = [
        [side, f"{turns.median(side):.2f}", f"{turns.ratio(side, TORCH):.2f}"] for side in sides
    ]
    print_table((f"{arguments.clock} time", "s", "x torch"), rows)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
