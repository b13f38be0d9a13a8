"""A study whose runs are killed at random; it must end complete, with undisturbed weights.

    python benchmarks/study.py
    python benchmarks/study.py --on local --seeds 0-1 --every 5

Trains recipes x seeds twice through `liquid-control sweep`, each run on one processor: undisturbed
on processes of this machine, and on the engine that is asked for while, in every period, one
training that is under way is killed (SIGKILL). Both studies and the report of the second stay in
`runs/`; the same command goes on with them. Finds processes in /proc, so it needs Linux.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from table import print_table

from liquid_control import LiquidPPO

RECIPES = Path(__file__).parents[1] / "configs" / "inverted_pendulum"
SHORT = (
    "checkpoint_every=2048",
    "monitoring.every=null",
    "evaluation.episodes=5",
    "agent.learning_rate=1e-3",
    "agent.recurrent_learning_rate=null",
)


@dataclass
class Arguments:
    """Kill runs of a study at random, and compare it to an undisturbed one."""

    recipes: tuple[Path, ...] = tuple(
        RECIPES / f"{name}_ppo.yaml" for name in ("ncp", "ncp_ltc", "lstm")
    )
    """Recipes of LiquidPPO."""

    seeds: str = "0-19"
    """Seeds of every recipe, as `sweep` takes them."""

    steps: int = 8192
    """Control steps of a run."""

    on: Literal["local", "ray"] = "ray"
    """Engine of the study whose runs are killed."""

    jobs: int = 2
    """Runs at once."""

    every: float = 60.0
    """Seconds between two kills."""

    runs: Path = Path("runs/study")
    """Folder of both studies."""


def sweep(arguments: Arguments, name: str, engine: str) -> list[str]:
    """Return the command that trains a study."""
    changes = (*SHORT, f"agent.total_timesteps={arguments.steps}")
    return [
        *(sys.executable, "-m", "liquid_control", "sweep", *map(str, arguments.recipes)),
        *("--seeds", arguments.seeds, "--runs", str(arguments.runs), "--name", name, "--quiet"),
        *("--on", engine, "--jobs", str(arguments.jobs), "--set", *changes),
    ]


def trainings(study: Path) -> dict[str, int]:
    """Return the processes that train runs of a study now, by recipe and seed."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:  # it has ended
            continue
        if "train" in words and "--folder" in words:
            folder = Path(words[words.index("--folder") + 1]).resolve()
            if folder.is_relative_to(study.resolve()):
                found[f"{folder.parent.name}/{folder.name}"] = int(path.parent.name)
    return found


def kill_at_random(study: Path, every: float, done: threading.Event, killed: list[str]) -> None:
    """Kill one training of a study in every period until `done`, and list their names."""
    draw = random.Random(0)
    while not done.wait(every):
        under_way = trainings(study)
        if under_way:
            name = draw.choice(sorted(under_way))
            os.kill(under_way[name], signal.SIGKILL)
            killed.append(name)


def weights(study: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the final weights of every run of a study, by recipe and seed."""
    return {
        f"{path.parents[2].name}/{path.parents[1].name}": LiquidPPO.load(path).policy.state_dict()
        for path in study.glob("*/*/checkpoints/final.zip")
    }


def main(arguments: Arguments) -> None:
    """Train both studies, report the disturbed one, and compare their weights."""
    undisturbed, disturbed = arguments.runs / "undisturbed", arguments.runs / "disturbed"
    subprocess.run(sweep(arguments, undisturbed.name, "local"), check=True)
    killed: list[str] = []
    done = threading.Event()
    killer = threading.Thread(
        target=kill_at_random, args=(disturbed, arguments.every, done, killed), daemon=True
    )
    killer.start()
    try:
        subprocess.run(sweep(arguments, disturbed.name, arguments.on), check=True)
    finally:
        done.set()
        killer.join()
    subprocess.run([sys.executable, "-m", "liquid_control", "report", disturbed], check=True)
    expected, found = weights(undisturbed), weights(disturbed)
    equal = sum(
        all(found[name][key].equal(tensor) for key, tensor in tensors.items())
        for name, tensors in expected.items()
        if name in found
    )
    row = [str(len(expected)), str(len(found)), str(len(killed)), str(len(set(killed))), str(equal)]
    print_table(("runs", "complete", "kills", "runs killed", "equal weights"), [row])
    if not equal == len(expected) == len(found):
        raise SystemExit(1)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
