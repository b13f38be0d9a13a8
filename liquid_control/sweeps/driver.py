"""Trains the runs of a study to their end, and restarts them after failures."""

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
INVALID = 2  # exit code of an error that is reported in one line, such as an invalid recipe
POLL = 0.5  # seconds

State = Literal["waiting", "training", "elsewhere", "stopping", "finished", "failed", "pruned"]
ENDED = ("finished", "failed", "pruned")


@dataclass
class Run:
    """A job and its state.

    Attributes:
        job: The job.
        state: "elsewhere" is a training in a process other than the driver's; "stopping" one that
            was asked to end.
        progress: Its progress, read from its files.
        failures: Times that it ended early since its last new checkpoint.
        started: The time of its start, of `time.monotonic`, and the step.
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
        """Drop the process, which has ended, and release the run to other drivers."""
        self.process = None
        if self.claim is not None:
            self.claim.release()
            self.claim = None

    @property
    def seconds_left(self) -> float | None:
        """Return an estimate of the remaining seconds of training, None without one."""
        begun, first = self.started
        done = self.progress.steps - first
        if self.state != "training" or done <= 0:
            return None
        return (time.monotonic() - begun) * (self.job.total - self.progress.steps) / done


class Driver:
    """Starts the jobs of a study on an engine, monitors them, and restarts lost ones.

    A finished run is left unchanged. The driver waits for runs that another process trains. A run
    that ends early resumes from its last checkpoint; after `RETRIES` failures without a new
    checkpoint it is given up, and the others continue.

    Args:
        study: The study.
        source: Its jobs.
        engine: Trains them.
        limit: Maximum number of jobs at once.
        show: Called with all runs after every update of them.
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

        At a stop or an error, the driver waits for trainings to save a checkpoint.
        """
        try:
            while not stop:
                for run in self.runs:
                    self._update(run)
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
        """Ask the running trainings to end, and wait for them."""
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
        """Start waiting runs up to the limit, and ask the source for more."""
        busy = sum(run.process is not None for run in self.runs)
        waiting = [run for run in self.runs if run.state == "waiting"]
        while busy < self._limit:
            if not waiting:
                waiting = [Run(job) for job in self._source.more()]
                self.runs += waiting
                if not waiting:
                    return
            run = waiting.pop(0)
            self._update(run)
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

    def _update(self, run: Run) -> None:
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
        """Restart a run later, or give it up."""
        if newest_checkpoint(run.job.folder) != run.checkpoint:
            run.failures = 0
        run.failures += 1
        refused = code == INVALID and run.progress.status is None  # before the training began
        if refused or run.failures > RETRIES:
            self._end(run, "failed")
        else:
            run.state = "waiting"

    def _prune(self) -> None:
        """Stop the trainings that the source prunes."""
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
