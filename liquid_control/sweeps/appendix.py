"""The last chapters of a study's report: its runs, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Iterator

from liquid_control.monitoring.report.page import Cell, Chapter, Code, Table
from liquid_control.sweeps.comparison import unfinished
from liquid_control.sweeps.provenance import commit, versions
from liquid_control.sweeps.results import StudyResults
from liquid_control.sweeps.statistics import REPLICATIONS, SEED
from liquid_control.sweeps.words import listed


def appendix(study: StudyResults) -> Iterator[Chapter]:
    """Yield the chapters that need no scores."""
    yield _unfinished(study)
    yield _all_runs(study)
    yield _provenance(study)


def _unfinished(study: StudyResults) -> Chapter:
    """Return the chapter of runs that failed, are not finished, or could not be read."""
    title = "Runs that failed or are not finished"
    rows: list[list[Cell]] = [
        [run.path, run.status, run.steps, "; ".join(filter(None, (run.reason, *run.problems)))]
        for run in unfinished(study)
    ]
    points = [*study.problems]
    if not rows:
        return Chapter(title, ["There are none.", *points])
    table = Table(f"{len(rows)} runs", ("run", "status", "steps", "reason"), rows)
    return Chapter(title, points, [table])


def _all_runs(study: StudyResults) -> Chapter:
    """Return the chapter with a row for each run."""
    header = ("run", "task", "observes", "agent", "neurons", "seed", "status", "steps")
    rows: list[list[Cell]] = [
        [
            run.path,
            run.task,
            run.observe,
            run.agent,
            run.neurons,
            "" if run.seed is None else str(run.seed),
            run.status,
            run.steps,
            math.nan if run.seconds is None else run.seconds / 60,
            math.nan if run.score is None else run.score,
        ]
        for run in study.runs
    ]
    table = Table(
        f"All {len(rows)} runs",
        (*header, "minutes", "return"),
        rows,
        "results.csv has them at each control rate.",
        folded=True,
    )
    return Chapter("Runs", parts=[table])


def _provenance(study: StudyResults) -> Chapter:
    """Return the chapter of the command and the versions."""
    kinds = sorted({run.version for run in study.runs if run.version})
    made_with = {
        "runs trained with liquid-control": listed(kinds) or "unknown",
        **{f"report made with {name}": version for name, version in versions().items()},
        "commit of the report's code": commit() or "not in a clone",
        "bootstrap": f"{REPLICATIONS:,} replications, seed {SEED}",
    }
    rows = [list(pair) for pair in made_with.items()]
    table = Table("Versions", ("what", "which"), rows)
    if not study.command:
        return Chapter("How it was made", ["The study does not say with which command."], [table])
    return Chapter("How it was made", parts=[Code("Command", study.command), table])
