"""Results of a study's runs, and results.csv, their table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from liquid_control.agents.evaluation import TRAINED
from liquid_control.checkpoints.durable import write_text
from liquid_control.sweeps.run_files import Log

FINISHED, UNKNOWN, WAITING = "finished", "unknown", "not started"


@dataclass(frozen=True)
class Condition:
    """Returns of a trained agent under one evaluation condition.

    Attributes:
        name: "as trained", or the multiple of the nominal interval, such as "0.5x nominal".
        interval: Mean control interval in seconds.
        mean: Mean return of the episodes.
        deviation: Standard deviation of the returns.
        episodes: Number of episodes.
    """

    name: str
    interval: float
    mean: float
    deviation: float
    episodes: int


@dataclass(frozen=True)
class Row:
    """A row of results.csv: a run under one evaluation condition; None for unknown values."""

    task: str
    observe: str
    agent: str
    neurons: str
    recipe: str
    seed: int | None
    steps: int
    """Control steps trained."""
    status: str
    interval: float | None
    """Mean control interval of the evaluation, in seconds."""
    condition: str
    """Empty for a run without an evaluation."""
    mean_return: float | None
    std_return: float | None
    episodes: int | None
    seconds: float | None
    """Wall time of the training."""
    total_timesteps: int | None
    """Control steps that the recipe asks for."""


@dataclass(frozen=True)
class RunResult:
    """A run of a study, from its readable files.

    Attributes:
        path: Path of its folder in the study, such as half_cheetah-ncp_ppo/3.
        recipe: Name of its recipe or trial.
        seed: Its seed; None if unknown.
        task: The task; empty if unknown, as are the next three.
        observe: The part of the observation for agents.
        agent: The algorithm.
        neurons: The kind of neurons.
        intervals: The intervals of the training, as in its recipe.
        status: "finished", or another word of run.json, "not started" or "unknown".
        steps: Control steps trained.
        total_timesteps: Control steps in its recipe; None if unknown.
        conditions: Its evaluation.
        log: Its progress.csv.
        version: The version of liquid_control that trained it; empty if unknown.
        reason: Why it is not finished; empty if it is.
        problems: Unusable files, and why.
    """

    path: str
    recipe: str
    seed: int | None
    task: str
    observe: str
    agent: str
    neurons: str
    intervals: str
    status: str
    steps: int
    total_timesteps: int | None
    conditions: tuple[Condition, ...]
    log: Log
    version: str
    reason: str
    problems: tuple[str, ...]

    @property
    def score(self) -> float | None:
        """Mean return at the intervals of the training; None unless the run is finished."""
        trained = self.under(TRAINED)
        return trained.mean if trained is not None and self.status == FINISHED else None

    @property
    def seconds(self) -> float | None:
        """Wall time of the training; None if it is not in its log."""
        return float(self.log.seconds[-1]) if len(self.log.seconds) else None

    def under(self, name: str) -> Condition | None:
        """Return the results under a condition; None if it was not evaluated."""
        return next((each for each in self.conditions if each.name == name), None)

    def rows(self) -> Iterator[Row]:
        """Yield a row for each condition, or one for a run that was not evaluated."""
        shared: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("task", "observe", "agent", "neurons", "recipe", "seed", "steps", "status")
        }
        shared |= {"seconds": self.seconds, "total_timesteps": self.total_timesteps}
        for each in self.conditions:
            yield Row(
                **shared,
                interval=each.interval,
                condition=each.name,
                mean_return=each.mean,
                std_return=each.deviation,
                episodes=each.episodes,
            )
        if not self.conditions:
            nothing = dict.fromkeys(("interval", "mean_return", "std_return", "episodes"))
            yield Row(**shared, condition="", **nothing)  # type: ignore[arg-type]


@dataclass(frozen=True)
class StudyResults:
    """A study: many runs with one purpose.

    Attributes:
        name: The name of its folder.
        command: The command that started it; empty if unknown.
        runs: Its runs, in the order of its recipes and their seeds.
        problems: Unreadable files, apart from those of runs.
    """

    name: str
    command: str
    runs: tuple[RunResult, ...]
    problems: tuple[str, ...]

    def rows(self) -> list[Row]:
        """Return the rows of results.csv."""
        return [row for run in self.runs for row in run.rows()]


def write_results(path: Path, rows: Sequence[Row]) -> None:
    """Write results.csv atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(path, text.getvalue())


def read_results(path: Path) -> list[Row]:
    """Read a table that `write_results` wrote.

    Raises:
        ValueError: It is not such a table.
    """
    kinds = {each.name: str(each.type).split(" ")[0] for each in fields(Row)}
    convert = {"str": str, "int": int, "float": float}
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file, strict=True)
        if table.fieldnames != list(kinds):
            raise ValueError(f"{path}: its columns are not {', '.join(kinds)}")
        for cells in table:
            if None in cells or None in cells.values():
                raise ValueError(f"{path}: line {table.line_num} has not as many cells as columns")
            values: dict[str, Any] = {
                name: convert[kind](cells[name]) if kind == "str" or cells[name] else None
                for name, kind in kinds.items()
            }
            rows.append(Row(**values))
    return rows
