"""Trains the runs of a study to their ends, whatever happens to them on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from filelock import FileLock

from liquid_control.checkpoints.signals import StopRequest
from liquid_control.sweeps.engines import Engine, Process, train_command
from liquid_control.sweeps.progress import (
    Progress,
    claim,
    is_locked,
    newest_checkpoint,
    progress_of,
)
from liquid_control.sweeps.sources import Source
from liquid_control.sweeps.study import Job, Study

RETRIES = 2  # times that a run may fail without a new checkpoint before it is given up
INVALID = 2  # exit code of a command that no retry can mend
POLL = 0.5  # seconds

State = Literal["waiting", "training", "elsewhere", "stopping", "finished", "failed", "pruned"]
ENDED = ("finished", "failed", "pruned")


@dataclass
class Run:
    """A job and what became of it.

    Attributes:
        job: The job.
        state: "elsewhere" is a training in another process than the driver's; "stopping" one that
            was asked to end.
        progress: As its files say.
        failures: Times that it ended early since its last new checkpoint.
        started: When it was started, on the clock of `time.monotonic`, at which step.
        claim: This driver's lock on its folder, while it has a process.
    """

    job: Job
    state: State = "waiting"
    progress: Progress = field(default_factory=Progress)
    failures: int = 0
    process: Process | None = None
    checkpoint: str = ""
    started: tuple[float, int] = (0.0, 0)
    last_code: int | None = None
    claim: FileLock | None = None

    def left(self) -> None:
        """Forget the process, which has ended, and let other drivers have the run."""
        self.process = None
        if self.claim is not None:
            self.claim.release()
            self.claim = None

    @property
    def seconds_left(self) -> float | None:
        """Return an estimate of the seconds of training that are left, None without one."""
        begun, first = self.started
        done = self.progress.steps - first
        if self.state != "training" or done <= 0:
            return None
        return (time.monotonic() - begun) * (self.job.total - self.progress.steps) / done


class Driver:
    """Starts the jobs of a study on an engine, watches them, and starts again what was lost.

    A finished run is left alone. A run that another process trains is waited for. A run that ends
    early goes on from its last checkpoint; after `RETRIES` failures without a new checkpoint it is
    given up, and the others go on.

    Args:
        study: The study.
        source: Its jobs.
        engine: Where they are trained.
        limit: How many are trained at once.
        show: Called with all runs after every look at them.
    """

    def __init__(
        self,
        study: Study,
        source: Source,
        engine: Engine,
        limit: int,
        show: Callable[[list[Run]], None],
    ) -> None:
        self._study, self._source, self._engine = study, source, engine
        self._limit, self._show = limit, show
        self.runs = [Run(job) for job in source.jobs()]

    def run(self, stop: StopRequest) -> list[Run]:
        """Train until all runs have ended, or a stop is requested; return the runs.

        At a stop, and at an error, trainings save a checkpoint; they are waited for.
        """
        try:
            while not stop:
                for run in self.runs:
                    self._look(run)
                self._prune()
                self._start()
                self._show(self.runs)
                if all(run.state in ENDED for run in self.runs):
                    break
                time.sleep(POLL)
        finally:
            self._stop()
        return self.runs

    def _stop(self) -> None:
        """Ask the trainings under way to end, and wait for them."""
        under_way = [(run, run.process) for run in self.runs if run.process is not None]
        for run, process in under_way:
            process.stop()
            run.state = "stopping"
        while any(process.poll() is None for _, process in under_way):
            self._show(self.runs)
            time.sleep(POLL / 5)
        for run, _ in under_way:
            run.left()
            run.state = "waiting"
            run.progress = progress_of(run.job.folder)

    def _start(self) -> None:
        """Start waiting runs as long as there is room, and ask the source for more."""
        busy = sum(run.process is not None for run in self.runs)
        waiting = [run for run in self.runs if run.state == "waiting"]
        while busy < self._limit:
            if not waiting:
                waiting = [Run(job) for job in self._source.more()]
                self.runs += waiting
                if not waiting:
                    return
            run = waiting.pop(0)
            self._look(run)
            if run.state != "waiting":
                continue
            job = run.job
            job.folder.mkdir(parents=True, exist_ok=True)
            run.claim = claim(job.folder)
            if run.claim is None:
                run.state = "elsewhere"
                continue
            run.checkpoint = newest_checkpoint(job.folder)
            recipe = self._study.recipe_path(job.name)
            run.process = self._engine.start(train_command(recipe, job.seed, job.folder))
            run.started = time.monotonic(), progress_of(job.folder).steps
            run.state = "training"
            busy += 1

    def _look(self, run: Run) -> None:
        """Update a run from its process and its files."""
        if run.state in ENDED:
            return
        folder = run.job.folder
        if run.process is not None:
            code = run.process.poll()
            run.progress = progress_of(folder)
            if code is None:
                return
            run.left()
            run.last_code = code
            pruned = run.state == "stopping"
            if pruned and code != 0:
                self._end(run, "pruned")
            elif code == 0:
                self._end(run, "finished")
            elif is_locked(folder):
                run.state = "elsewhere"
            else:
                self._failed(run, code)
            return
        run.progress = progress_of(folder)
        if is_locked(folder):
            run.state = "elsewhere"
        elif run.progress.status == "finished" and run.progress.steps >= run.job.total:
            self._end(run, "finished")
        else:
            run.state = "waiting"

    def _failed(self, run: Run, code: int) -> None:
        """Start a run again later, or give it up."""
        if newest_checkpoint(run.job.folder) != run.checkpoint:
            run.failures = 0
        run.failures += 1
        if code == INVALID or run.failures > RETRIES:
            self._end(run, "failed")
        else:
            run.state = "waiting"

    def _prune(self) -> None:
        """Stop the trainings that the source does not want to go on."""
        unwanted = {job.folder for job in self._source.to_stop()}
        for run in self.runs:
            if run.job.folder not in unwanted or run.state in ENDED:
                continue
            if run.process is not None and run.state != "stopping":
                run.process.stop()
                run.state = "stopping"
            elif run.process is None and run.state == "waiting":
                self._end(run, "pruned")

    def _end(self, run: Run, outcome: Literal["finished", "failed", "pruned"]) -> None:
        run.state = outcome
        self._source.ended(run.job, outcome)
