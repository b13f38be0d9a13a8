"""The evaluation of a trained robot under conditions of rising severity and under changes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents.evaluation import evaluate
from liquid_control.checkpoints.durable import replacing
from liquid_control.commands.run_folder import Run, new_stress
from liquid_control.commands.run_loader import unseen_robots
from liquid_control.commands.terminal import console, say
from liquid_control.monitoring.figures import confidence_band
from liquid_control.monitoring.figures.stress import change as change_figure
from liquid_control.monitoring.figures.stress import sweep as sweep_figure
from liquid_control.monitoring.stress import WINDOWS, courses, in_windows
from liquid_control.recipes import CommandError, Recipe
from liquid_control.recipes.stress import Stress, changed, under

Array = NDArray[np.float64]
MakeRobots = Callable[[Recipe], VecEnv]


class Row(NamedTuple):
    """A line of the table: a test and its returns.

    Attributes:
        test: the key of the stress file, or the name of a change.
        value: the severity; "changed" or "not changed".
        window: the part of the episode, or "all".
        unit: "return" or "return per second".
        returns: (episodes,).
    """

    test: str
    value: str
    window: str
    unit: str
    returns: Array

    def cells(self) -> list[str]:
        """The line in the CSV file."""
        known = self.returns[np.isfinite(self.returns)]
        low, high = confidence_band(known)
        mean = float(known.mean()) if len(known) else np.nan
        numbers = (mean, low, high, float(known.std()) if len(known) else np.nan)
        words = (self.test, self.value, self.window, self.unit, str(len(known)))
        return [*words, *(f"{number:.6g}" for number in numbers)]


HEADER = ("test", "value", "window", "unit", "episodes", "mean", "low_95", "high_95", "deviation")


class Results(NamedTuple):
    """The returns of one agent.

    Attributes:
        sweeps: returns (episodes,) at each value, by condition.
        changes: returns per second (windows, episodes) with and without, by change.
    """

    sweeps: Mapping[str, Mapping[float, Array]]
    changes: Mapping[str, tuple[Array, Array]]

    def rows(self) -> Iterator[Row]:
        """Yield the lines of the table."""
        for test, returns in self.sweeps.items():
            for value, found in returns.items():
                yield Row(test, f"{value:g}", "all", "return", found)
        for test, pair in self.changes.items():
            for what, rates in zip(("changed", "not changed"), pair, strict=True):
                for window, found in zip(WINDOWS, rates, strict=True):
                    yield Row(test, what, window, "return per second", found)


def put_under_stress(
    recipe: Recipe, agent: BaseAlgorithm, stress: Stress, run: Run, *, quiet: bool
) -> Results:
    """Evaluate a robot by a stress file; print the results, and write them into its run.

    Raises:
        CommandError: a value or a change does not fit the task.
    """
    _check(recipe, stress)
    try:
        results = stressed(recipe, agent, stress, quiet=quiet)
    except ValueError as error:  # of a policy that observes numbers beyond those of float32
        raise CommandError(f"stress file: the robot cannot be evaluated: {error}") from error
    table = Table(*HEADER)
    for row in results.rows():
        table.add_row(*row.cells())
    console.print(table)
    say(f"Results and figures: {_written(results, recipe, stress, run)}")
    return results


def _written(results: Results, recipe: Recipe, stress: Stress, run: Run) -> Path:
    """Write results into a new folder of a run; return it."""
    run.stress.mkdir(exist_ok=True)
    while True:
        folder = new_stress(run, datetime.now())
        with suppress(FileExistsError), replacing(folder) as partial:  # taken in the meantime
            partial.mkdir()
            write_results(partial, {recipe.name: results}, stress, recipe.task)
            return folder


def _check(recipe: Recipe, stress: Stress) -> None:
    """Build one environment for each condition and change of a stress file."""
    tests = {
        f"{sweep.name}.{place}": under(recipe, sweep.name, value)
        for sweep in stress.sweeps
        for place, value in enumerate(sweep.values)
    }
    tests |= {f"changes.{name}": changed(recipe, each) for name, each in stress.changes.items()}
    for name, each in tests.items():
        try:
            unseen_robots(each, 1).close()
        except CommandError as error:
            raise CommandError(f"stress file: {name}: {error}") from error


def stressed(
    recipe: Recipe,
    agent: BaseAlgorithm,
    stress: Stress,
    *,
    make_robots: MakeRobots | None = None,
    quiet: bool = True,
) -> Results:
    """Return an agent's returns under each condition and change of a stress file.

    Args:
        recipe: of its training; its own conditions are kept, except the tested one.
        agent: an SB3 algorithm, recurrent or not.
        stress: the file.
        make_robots: from a recipe to environments with unseen episodes; the recipe's by default.
        quiet: show no progress.
    """
    make = make_robots or (lambda each: unseen_robots(each, stress.episodes))
    tests = [(sweep.name, value) for sweep in stress.sweeps for value in sweep.values]
    sweeps: dict[str, dict[float, Array]] = {}
    for name, value in track(tests, "conditions", disable=quiet):
        robots = make(under(recipe, name, value))
        try:
            sweeps.setdefault(name, {})[value] = evaluate(agent, robots).returns
        finally:
            robots.close()
    changes = {
        name: _before_and_after(recipe, agent, change, stress.after, make)
        for name, change in track([*stress.changes.items()], "changes", disable=quiet)
    }
    return Results(sweeps, changes)


def _before_and_after(
    recipe: Recipe, agent: BaseAlgorithm, change: Mapping[str, Any], after: float, make: MakeRobots
) -> tuple[Array, Array]:
    """Return returns per second with a change and without, in the same episodes."""
    found = []
    for each in (dict(change), None):
        robots = make(changed(recipe, each))
        try:
            (steps,) = robots.get_attr("horizon_substeps", indices=[0])
            (timestep,) = robots.get_attr("timestep", indices=[0])
            found.append(courses(agent, robots))
        finally:
            robots.close()
    moments = np.array([course.drawn["events.0.at"] for course in found[0]])
    longest = max(course.ends[-1] for each in found for course in each)
    horizon = longest if steps is None else steps * timestep
    with_change, without = (in_windows(each, moments, after, horizon) for each in found)
    return with_change, without


def write_results(folder: Path, results: Mapping[str, Results], stress: Stress, task: str) -> None:
    """Write stress.csv, and a figure for each condition and change, of one or several agents."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("agent", *HEADER))
    for name, each in results.items():
        lines.writerows([name, *row.cells()] for row in each.rows())
    (folder / "stress.csv").write_text(text.getvalue(), "utf-8")
    for sweep in stress.sweeps:
        curves = {name: each.sweeps[sweep.name] for name, each in results.items()}
        sweep_figure(curves, sweep.label, task).savefig(folder / f"{sweep.name}.png", dpi=150)
    for test in stress.changes:
        rates = {name: each.changes[test] for name, each in results.items()}
        figure = change_figure(rates, WINDOWS, f"{task}: {test}")
        figure.savefig(folder / f"change-{test.replace(' ', '_')}.png", dpi=150)
