"""Return against decisions per second: policies that choose when to act, and fixed rates.

    python benchmarks/decisions.py
    python benchmarks/decisions.py --tasks Hopper-v5 --costs 0.5 1 2 --ratios

NCP-CfC circuits learn with LiquidPPO and the settings of comparison.py: at fixed intervals, as
ratios of the nominal one, and with intervals that the policy chooses at a cost for each decision.
Returns are those of the task, without costs, over 20 unseen episodes with deterministic actions.

Each training is a row of the table, and is not repeated. Writes a figure for each task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

import numpy as np
import tyro
from comparison import Robot, commit, learn, unseen_robots
from comparison_rows import Observe, Training
from picture import COLOURS, picture
from rows import append, read
from table import print_table

from liquid_control import envs
from liquid_control.monitoring.stress import courses

SHORTEST, LONGEST = 0.2, 8.0  # ratios to the nominal interval between which a policy chooses


@dataclass
class Arguments:
    """Return against decisions per second."""

    tasks: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5")
    """Gymnasium's MuJoCo tasks."""

    observe: Observe = "full"
    """Part of the observation that agents get."""

    ratios: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Fixed intervals, as ratios of the nominal one."""

    costs: tuple[float, ...] = (0.1, 0.5, 1.0)
    """Costs of a decision, in units of the reward."""

    seeds: tuple[int, ...] = (201, 202, 203)
    """Seeds of the trainings."""

    steps: int = 1_000_000
    """Decisions of a training."""

    table: Path = Path("docs/results/decisions.csv")
    """Table of the results, to which rows are appended."""


@dataclass(frozen=True)
class Key:
    """A training.

    Attributes:
        ratio: fixed interval over the nominal one; 0 where the policy chooses.
        cost: of a decision; 0 at a fixed interval.
    """

    task: str
    observe: Observe
    ratio: float
    cost: float
    seed: int
    steps: int


@dataclass(frozen=True)
class Result(Key):
    """A row: means over episodes.

    Attributes:
        commit: that trained.
        task_return: without costs.
        deviation: of these returns.
        decisions: per second.
        seconds: of an episode.
    """

    commit: str
    task_return: float
    deviation: float
    decisions: float
    seconds: float

    @property
    def key(self) -> Key:
        """The training."""
        return Key(**{field.name: getattr(self, field.name) for field in fields(Key)})


def measure(key: Key) -> Result:
    """Train an agent, and evaluate it."""
    training = Training(
        key.task, key.observe, "nominal", True, "LiquidPPO", "cfc", 3e-4, key.seed, key.steps
    )
    robot = Robot.of(key.task)
    interval = (
        robot.interval(key.ratio)
        if key.ratio
        else envs.Chosen(robot.interval(SHORTEST), robot.interval(LONGEST), cost=key.cost)
    )
    model, env = learn(training, {"interval": interval})
    found = courses(model, unseen_robots(training, env, {"interval": interval}))
    returns = [course.rewards.sum() + key.cost * len(course.rewards) for course in found]
    seconds = [course.ends[-1] for course in found]
    return Result(
        **vars(key),
        commit=commit(),
        task_return=round(float(np.mean(returns)), 1),
        deviation=round(float(np.std(returns)), 1),
        decisions=round(sum(len(course.ends) for course in found) / sum(seconds), 2),
        seconds=round(float(np.mean(seconds)), 2),
    )


def groups(results: list[Result]) -> Iterator[tuple[str, list[Result]]]:
    """Yield trainings that differ in their seed alone, with a name for them."""
    found: dict[tuple[float, float], list[Result]] = defaultdict(list)
    for each in sorted(results, key=lambda each: (each.cost, each.ratio)):
        found[each.ratio, each.cost].append(each)
    for (ratio, cost), rows in found.items():
        yield f"fixed, {ratio:g}x nominal" if ratio else f"chosen, cost {cost:g}", rows


def means(rows: list[Result]) -> tuple[float, float]:
    """Return decisions per second and return, means over seeds."""
    return (
        float(np.mean([each.decisions for each in rows])),
        float(np.mean([each.task_return for each in rows])),
    )


def draw(results: list[Result], path: Path) -> None:
    """Draw returns over decisions per second."""
    title = f"{results[0].task}, {results[0].observe}: when to act"
    with picture(path, title, "decisions per second (1/s)", "return") as axes:
        for fixed, label, colour, marker in (
            (True, "fixed intervals", COLOURS[0], "o"),
            (False, "chosen intervals, by cost", COLOURS[1], "s"),
        ):
            chosen = [rows for _, rows in groups(results) if bool(rows[0].ratio) is fixed]
            for rows in chosen:
                x, y = zip(*((each.decisions, each.task_return) for each in rows), strict=True)
                axes.plot(x, y, ".", color=colour, alpha=0.5)
            if chosen:
                points = sorted(means(rows) for rows in chosen)
                x, y = zip(*points, strict=True)
                axes.plot(x, y, marker=marker, color=colour, label=label)
        axes.set_xlim(left=0)
        least, most = axes.get_ylim()
        axes.set_ylim(min(0.0, least), 1.05 * most)


def main(arguments: Arguments) -> None:
    """Train what is not in the table yet, print the table, and draw the figures."""
    keys = [
        Key(task, arguments.observe, ratio, cost, seed, arguments.steps)
        for seed, task in product(arguments.seeds, arguments.tasks)
        for ratio, cost in (
            *((ratio, 0.0) for ratio in arguments.ratios),
            *((0.0, cost) for cost in arguments.costs),
        )
    ]
    done = {each.key for each in read(arguments.table, Result)}
    for key in keys:
        if key not in done:
            append(arguments.table, measure(key))
    lines = []
    for task in arguments.tasks:
        alike = [
            each
            for each in read(arguments.table, Result)
            if (each.task, each.observe, each.steps) == (task, arguments.observe, arguments.steps)
        ]
        draw(alike, arguments.table.parent / f"decisions_{task}.png")
        best = max((means(rows)[1] for _, rows in groups(alike) if rows[0].ratio), default=None)
        for name, rows in groups(alike):
            decisions, earned = means(rows)
            lines.append(
                [
                    f"{task}, {name}",
                    str(len(rows)),
                    f"{decisions:.1f}",
                    f"{earned:,.0f}",
                    "" if best is None else f"{earned / best:.0%}",
                ]
            )
    header = ("intervals", "seeds", "decisions per second", "return", "of the best fixed rate")
    print_table(header, lines)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
