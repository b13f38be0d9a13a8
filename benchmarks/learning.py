"""Learning curves of several recipes over several seeds.

    python benchmarks/learning.py configs/half_cheetah/*.yaml --seeds 0 1 2 --nominal

Trains every recipe with every seed through the command line, each in a process of its own, and
prints the mean return of the last 100 training episodes. Runs that are finished already are not
repeated, so that an interrupted comparison goes on where it stopped.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from picture import COLOURS, picture
from table import print_table

RETURN, STEPS, SECONDS = "rollout/ep_rew_mean", "time/total_timesteps", "time/time_elapsed"


@dataclass
class Arguments:
    """Train recipes over several seeds, and compare their learning curves."""

    recipes: tyro.conf.Positional[tuple[Path, ...]]
    """YAML files."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds to train each of them with."""

    nominal: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train at the task's nominal rate instead of the recipe's intervals."""

    set: tuple[str, ...] = ()
    """Further changes to the recipes, such as agent.total_timesteps=300000."""

    jobs: int = 1
    """Number of parallel trainings."""

    runs: Path = Path("runs/learning")
    """Folder of the runs; a finished run in it counts for its recipe and seed."""

    picture: Path | None = None
    """Draw the curves into this file, such as docs/half_cheetah.svg."""


@dataclass(frozen=True)
class Curve:
    """The log of one run: training return against control steps, and its duration."""

    steps: NDArray[np.float64]
    returns: NDArray[np.float64]
    minutes: float


def train(arguments: Arguments, recipe: Path, seed: int) -> Curve:
    """Train one recipe with one seed unless a finished run exists, and read its log."""
    folder = arguments.runs / f"{recipe.parent.name}-{recipe.stem}"
    finished = sorted(folder.glob(f"*-{seed}/evaluation.json"))
    if not finished:
        changes = (*arguments.set, *(("env.interval=null",) if arguments.nominal else ()))
        command = [sys.executable, "-m", "liquid_control", "train", str(recipe)]
        options = ["--seed", str(seed), "--runs", str(arguments.runs), "--quiet"]
        settings = [word for change in changes for word in ("--set", change)]
        subprocess.run([*command, *options, *settings], check=True)
        finished = sorted(folder.glob(f"*-{seed}/evaluation.json"))
    return read(finished[-1].with_name("progress.csv"))


def read(log: Path) -> Curve:
    """Read SB3's progress.csv; rows before the first finished episode have no return."""
    with log.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(RETURN)]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in (STEPS, RETURN)}
    return Curve(columns[STEPS], columns[RETURN], float(rows[-1][SECONDS]) / 60)


def draw(curves: dict[str, list[Curve]], path: Path, title: str) -> None:
    """Draw the mean over seeds of each recipe, with the range of its seeds."""
    x, y = "control steps (millions)", "mean return of the last 100 training episodes"
    with picture(path, title, x, y) as axes:
        for (name, seeds), colour in zip(curves.items(), COLOURS, strict=False):
            steps = seeds[0].steps
            returns = np.stack([np.interp(steps, seed.steps, seed.returns) for seed in seeds])
            axes.plot(steps / 1e6, returns.mean(axis=0), color=colour, label=name)
            low, high = returns.min(axis=0), returns.max(axis=0)
            axes.fill_between(steps / 1e6, low, high, color=colour, alpha=0.2, linewidth=0)


def main(arguments: Arguments) -> None:
    """Train missing runs, print a table, and draw the curves if requested."""
    work = list(product(arguments.recipes, arguments.seeds))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = list(pool.map(lambda pair: train(arguments, *pair), work))
    curves: dict[str, list[Curve]] = {}
    for (recipe, _), curve in zip(work, done, strict=True):
        curves.setdefault(f"{recipe.parent.name}/{recipe.stem}", []).append(curve)
    rows = []
    for name, seeds in curves.items():
        last = [seed.returns[-1] for seed in seeds]
        rows.append(
            [
                name,
                f"{np.mean(last):,.0f}",
                " / ".join(f"{each:,.0f}" for each in last),
                f"{seeds[0].steps[-1]:,.0f}",
                f"{np.mean([seed.minutes for seed in seeds]):.1f}",
            ]
        )
    print_table(("recipe", "mean return", "by seed", "steps", "minutes"), rows)
    if arguments.picture is not None:
        rate = "nominal rate" if arguments.nominal else "variable rate"
        draw(curves, arguments.picture, f"{arguments.recipes[0].parent.name}, {rate}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
