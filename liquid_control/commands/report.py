"""`liquid-control report`."""

from __future__ import annotations

import math
from collections.abc import Iterable

from liquid_control.commands.arguments import Report
from liquid_control.commands.terminal import note, say
from liquid_control.recipes import CommandError
from liquid_control.recipes.text import cut
from liquid_control.sweeps.reading import read_study
from liquid_control.sweeps.report import report_on_study, write_report
from liquid_control.sweeps.results import StudyResults


def execute(arguments: Report) -> int:
    """Execute the command; return the exit code."""
    limits = limits_from(arguments.threshold)
    study = read_study(arguments.study)
    check_tasks(limits, study)
    for problem in study.problems:
        note(problem)
    report = report_on_study(study, limits)
    paths = write_report(study, report, arguments.output or arguments.study)
    for point in report.chapters[0].points:
        say(point)
    for name, path in zip(("Results", "Report", "Page"), paths, strict=True):
        say(f"{name}: {path}")
    return 0


def limits_from(texts: Iterable[str]) -> dict[str, float]:
    """Return returns by task from texts such as 1000 or Hopper-v5=1000; "" stands for all tasks.

    Raises:
        CommandError: One is not a finite number, or a task is given twice.
    """
    limits: dict[str, float] = {}
    for text in texts:
        task, _, value = text.rpartition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise CommandError(f"--threshold {cut(text)}: must be a return, or TASK=return")
        if task in limits:
            raise CommandError(
                f"--threshold: {cut(task) or 'a return of all tasks'} is given twice"
            )
        limits[task] = limit
    return limits


def check_tasks(limits: Iterable[str], study: StudyResults) -> None:
    """Raise a CommandError if a threshold is given for a task that is not in the study."""
    tasks = sorted({run.task for run in study.runs if run.task})
    for task in limits:
        if task and task not in tasks:
            raise CommandError(
                f"--threshold {cut(task)}: no run of this task; there are {', '.join(tasks)}"
            )
