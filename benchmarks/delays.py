"""One policy, every clock, every delay: returns over control intervals and delays of the actuators.

    python benchmarks/delays.py
    python benchmarks/delays.py --agents LiquidPPO:cfc --seeds 201 202

Agents train with intervals from 0.4 times to twice the nominal one, a fifth of them each of the two
and the rest between, constant in half of the episodes, and equally many control steps at each
constant rate; and with actuators that are up to 133 ms late (a hobby servo), drawn for each
episode. They are evaluated at constant intervals and delays, 20 unseen episodes each. Settings are
those of comparison.py: `stack` is an MLP over four observations, and all agents observe the elapsed
time.

Each training is a row of the table, and is not repeated; the printed table has the means over
seeds, and their share of the return at the nominal interval without delay.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import tyro
from comparison import Robot, commit, learn, unseen_robots
from comparison_rows import Observe, Training
from rows import append, read
from table import print_table

from liquid_control import envs
from liquid_control.agents.evaluation import evaluate

RATIOS = (0.4, 1.0, 2.0)  # of control intervals, to the nominal one
LONGEST = 0.133  # seconds
CELLS = tuple(product(RATIOS, (0.0, 0.05, LONGEST)))
REFERENCE = CELLS.index((1.0, 0.0))


@dataclass
class Arguments:
    """Returns over control intervals and delays."""

    task: str = "HalfCheetah-v5"
    """Gymnasium's MuJoCo task."""

    observe: Observe = "positions"
    """Part of the observation that agents get."""

    agents: tuple[str, ...] = ("LiquidPPO:cfc", "LiquidPPO:lstm", "PPO:stack")
    """Algorithms and policies of comparison.py."""

    seeds: tuple[int, ...] = (201, 202, 203)
    """Seeds of the trainings."""

    steps: int = 1_000_000
    """Control steps of a training."""

    table: Path = Path("docs/results/delays.csv")
    """Table of the results, to which rows are appended."""


@dataclass(frozen=True)
class Key:
    """A training."""

    task: str
    observe: Observe
    agent: str
    seed: int
    steps: int


@dataclass(frozen=True)
class Result(Key):
    """A row: mean returns at each of `CELLS`, in their order."""

    commit: str
    returns: tuple[int, ...]


def measure(key: Key) -> Result:
    """Train an agent, and evaluate it at every interval and delay."""
    algorithm, policy = key.agent.split(":")
    training = Training(
        key.task, key.observe, "varying", True, algorithm, policy, 3e-4, key.seed, key.steps
    )
    robot = Robot.of(key.task)
    slow, quick = robot.interval(max(RATIOS)), robot.interval(min(RATIOS))
    drawn = envs.Endpoints(quick, slow, middle=0.6)
    intervals = envs.PerEpisode(drawn, share=0.5, even_steps=True)
    late = {"interval": intervals, "actuators": [envs.Delay(0.0, LONGEST)]}
    model, env = learn(training, late)
    returns = [
        evaluate(
            model,
            unseen_robots(
                training,
                env,
                {"interval": robot.interval(ratio), "actuators": [envs.Delay(delay)]},
            ),
        ).mean
        for ratio, delay in CELLS
    ]
    return Result(**vars(key), commit=commit(), returns=tuple(map(round, returns)))


def summary(results: list[Result]) -> list[list[str]]:
    """Return the table's cells."""
    rows = []
    for agent in dict.fromkeys(each.agent for each in results):
        chosen = [each.returns for each in results if each.agent == agent]
        means = np.mean(chosen, axis=0)
        cells = [
            f"{mean:,.0f} ({share:.0%})"
            for mean, share in zip(means, means / means[REFERENCE], strict=True)
        ]
        worst = [min(returns) / returns[REFERENCE] for returns in chosen]
        rows.append([agent, str(len(chosen)), *cells, " ".join(f"{each:.0%}" for each in worst)])
    return rows


def main(arguments: Arguments) -> None:
    """Train what is not in the table yet, and print the table."""
    keys = [
        Key(arguments.task, arguments.observe, agent, seed, arguments.steps)
        for seed, agent in product(arguments.seeds, arguments.agents)
    ]
    done = {
        Key(**{name: getattr(each, name) for name in Key.__dataclass_fields__})
        for each in read(arguments.table, Result)
    }
    for key in keys:
        if key not in done:
            append(arguments.table, measure(key))
    header = [f"{ratio:g}x, {1000 * delay:.0f} ms" for ratio, delay in CELLS]
    alike = [
        each
        for each in read(arguments.table, Result)
        if (each.task, each.observe, each.steps)
        == (arguments.task, arguments.observe, arguments.steps)
    ]
    print_table(("agent", "seeds", *header, "worst, by seed"), summary(alike))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
