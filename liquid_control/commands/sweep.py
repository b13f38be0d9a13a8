"""`liquid-control sweep`."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from rich.live import Live
from rich.table import Table

from liquid_control.checkpoints.signals import stop_on_signals
from liquid_control.commands.arguments import Sweep
from liquid_control.commands.terminal import INTERRUPTED, console, say
from liquid_control.recipes import CommandError, load_recipe
from liquid_control.recipes.text import cut
from liquid_control.sweeps.driver import ENDED, Driver, Run
from liquid_control.sweeps.engines import Engine, Local, Ray, Slurm
from liquid_control.sweeps.search import has_ranges, load_search
from liquid_control.sweeps.sources import Grid, Source, Trials
from liquid_control.sweeps.study import Study, parse_seeds, study_name

INCOMPLETE = 1  # exit code if a run was given up
SHOWN = 40  # rows of the live table


def execute(arguments: Sweep) -> int:
    """Execute the command; return the exit code."""
    if arguments.jobs is not None and arguments.jobs < 1:
        raise CommandError(f"--jobs {arguments.jobs}: give at least 1")
    if arguments.trials < 1:
        raise CommandError(f"--trials {arguments.trials}: give at least 1")
    if arguments.address is not None and arguments.on != "ray":
        raise CommandError("--address is for --on ray")
    if arguments.slurm and arguments.on != "slurm":
        raise CommandError("--slurm is for --on slurm")
    if not arguments.recipes:
        raise CommandError("give a recipe to sweep, such as configs/half_cheetah/ncp_ppo.yaml")
    folder = arguments.runs / (arguments.name or study_name(arguments.recipes))
    engine = engine_of(arguments, folder)  # may be missing, so it comes before the study
    try:
        study, source = study_of(arguments, folder)
        with stop_on_signals() as stop, shown(quiet=arguments.quiet) as show:
            driver = Driver(study, source, engine, arguments.jobs or engine.capacity(), show)
            runs = driver.run(stop)
    finally:
        engine.close()
    return summary(study, runs)


def study_of(arguments: Sweep, folder: Path) -> tuple[Study, Source]:
    """Return the requested study in a folder, and the source of its jobs."""
    overrides, seeds = tuple(chain(*arguments.overrides)), parse_seeds(arguments.seeds)
    command = shlex.join(["liquid-control", *sys.argv[1:]])
    searches = [path for path in arguments.recipes if has_ranges(path, overrides)]
    if searches:
        if len(arguments.recipes) > 1:
            raise CommandError(f"{searches[0]} is a search; a study searches only one file")
        search = load_search(arguments.recipes[0], overrides)
        recipes = {search.data["name"]: search.described()}
        study = Study.begin(folder, "search", recipes, seeds, command)
        return study, Trials(study, search, study.file.seeds, arguments.trials)
    grid = {}
    for path in arguments.recipes:
        recipe = load_recipe(path, overrides)
        if recipe.name in grid:
            raise CommandError(f"{path}: another recipe has the name {recipe.name}; rename one")
        grid[recipe.name] = recipe
    recipes = {
        name: recipe.model_dump(mode="json", exclude={"seed"}) for name, recipe in grid.items()
    }
    study = Study.begin(folder, "grid", recipes, seeds, command)
    return study, Grid(study, grid, seeds)


def engine_of(arguments: Sweep, folder: Path) -> Engine:
    """Return the requested engine, for a study in a folder."""
    if arguments.on == "ray":
        return Ray(arguments.address)
    if arguments.on == "slurm":
        return Slurm(folder / "slurm", parameters=arguments.slurm)
    return Local()


@contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[list[Run]], None]]:
    """Yield a function that shows runs: as a live table, or as a line for each change."""
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda runs: live.update(table(runs), refresh=True)
    else:
        before: dict[Path, str] = {}

        def print_changes(runs: list[Run]) -> None:
            for run in runs:
                if before.get(run.job.folder, "waiting") != run.state:
                    say(f"{time.strftime('%H:%M:%S')}  {line(run)}")
                before[run.job.folder] = run.state

        yield print_changes


def line(run: Run) -> str:
    """Return a run's state on one line."""
    share = f"{run.progress.steps:,} of {run.job.total:,} steps"
    mean = run.progress.mean_return
    returned = f", return {mean:,.1f}" if math.isfinite(mean) else ""
    return f"{run.job.name} seed {run.job.seed}: {run.state}, {share}{returned}"


def table(runs: Sequence[Run]) -> Table:
    """Return a table of the runs, with running ones first."""
    counts = Counter(run.state for run in runs)
    title = ", ".join(f"{count} {state}" for state, count in counts.items())
    left = [run.seconds_left for run in runs]
    known = [seconds for seconds in left if seconds is not None]
    todo = sum(run.job.total - run.progress.steps for run in runs if run.state not in ENDED)
    speed = sum(
        (run.job.total - run.progress.steps) / seconds
        for run, seconds in zip(runs, left, strict=True)
        if seconds
    )
    if known and speed > 0:
        title += f"; {duration(todo / speed)} left"
    result = Table(title=title, title_justify="left")
    result.add_column("run")
    for heading in ("seed", "state", "steps", "%", "return", "left"):
        result.add_column(heading, justify="right")
    order = {"training": 0, "stopping": 0, "elsewhere": 1, "waiting": 2}
    for run in sorted(runs, key=lambda run: order.get(run.state, 3))[:SHOWN]:
        mean, seconds = run.progress.mean_return, run.seconds_left
        result.add_row(
            run.job.name,
            str(run.job.seed),
            run.state,
            f"{run.progress.steps:,}",
            f"{100 * run.progress.steps / run.job.total:.0f}",
            f"{mean:,.1f}" if math.isfinite(mean) else "",
            "" if seconds is None else duration(seconds),
        )
    if len(runs) > SHOWN:
        result.caption = f"and {len(runs) - SHOWN} more"
    return result


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds, such as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def summary(study: Study, runs: Sequence[Run]) -> int:
    """Print the outcome of a study; return the exit code."""
    counts = Counter(run.state for run in runs)
    for run in runs:
        if run.state == "failed":
            say(f"Given up: {line(run)}; see {run.job.folder / 'output.log'}")
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    say(f"{study.folder}: {states or 'all trials have ended; raise --trials for more'}")
    if any(run.state not in ENDED for run in runs):
        say("Interrupted; the same command resumes it")
        return INTERRUPTED
    say(f"Report: liquid-control report {cut(str(study.folder), 500)}")
    return INCOMPLETE if counts["failed"] else 0
