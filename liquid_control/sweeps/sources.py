"""Sources of a study's runs: a grid of recipes and seeds, or a search."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from filelock import FileLock

from liquid_control.checkpoints.durable import write_text
from liquid_control.recipes import CommandError, Recipe, RecipeError
from liquid_control.recipes.text import cut
from liquid_control.sweeps.progress import rows_of, score_of
from liquid_control.sweeps.search import Search, import_optuna
from liquid_control.sweeps.study import Job, Study

PRUNING_CHECKS = 20  # times that a trial may be pruned
OUTCOME = "outcome.json"
JOURNAL = "optuna.log"
LOCK = ".optuna.lock"
SAMPLING = timedelta(minutes=1)  # the longest that a driver takes to sample the values of a trial

Outcome = Literal["finished", "failed", "pruned"]


class Source(Protocol):
    """Gives a driver its jobs."""

    def jobs(self) -> list[Job]:
        """Return all known jobs."""

    def more(self) -> list[Job]:
        """Return additional jobs when there is capacity; empty when all are known."""

    def to_stop(self) -> list[Job]:
        """Return jobs whose training should be stopped."""

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Record the outcome of a job."""


class Grid:
    """Every recipe with every seed, in the order of the seeds.

    Args:
        study: The study; its recipes are written into its folder.
        recipes: By name.
        seeds: Of every recipe.
    """

    def __init__(self, study: Study, recipes: Mapping[str, Recipe], seeds: Sequence[int]) -> None:
        for name, recipe in recipes.items():
            study.write_recipe(name, recipe)
        self._jobs = [
            study.job(name, recipe, seed) for seed in seeds for name, recipe in recipes.items()
        ]

    def jobs(self) -> list[Job]:
        """Return all jobs."""
        return self._jobs

    def more(self) -> list[Job]:
        """Return an empty list, as all are known."""
        return []

    def to_stop(self) -> list[Job]:
        """Return an empty list, as all are trained to their end."""
        return []

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Do nothing."""


class Trials:
    """Trials of a search, each with every seed; Optuna samples and prunes them.

    The score of a trial is the mean return over its seeds and over the rates that the recipe
    evaluates. Trials are pruned by the mean return of their training episodes. Optuna's journal is
    in the folder of the study, so that a search can be resumed, also with several drivers.

    Args:
        study: The study.
        search: The search.
        seeds: Of every trial.
        count: Total number of trials.
        sampler_seed: Of Optuna's sampler; each trial is sampled with this seed plus its number, so
            that drivers, and a search that goes on, do not repeat the values of others.

    Raises:
        CommandError: Optuna is not installed, or its journal is damaged.
    """

    def __init__(
        self, study: Study, search: Search, seeds: Sequence[int], count: int, sampler_seed: int = 0
    ) -> None:
        optuna = import_optuna()
        self._optuna, self._study, self._search = optuna, study, search
        self._seeds, self._count = tuple(seeds), count
        self._sampler_seed = sampler_seed
        with _reading(study.folder / JOURNAL):
            self._trials = optuna.create_study(
                study_name="search",
                storage=_storage(optuna, study.folder / JOURNAL),
                pruner=optuna.pruners.MedianPruner(
                    n_startup_trials=5, n_warmup_steps=PRUNING_CHECKS // 5
                ),
                direction="maximize",
                load_if_exists=True,
            )
        self._states = optuna.trial.TrialState
        self._running: dict[str, Any] = {}  # Optuna's running trials, by name
        self._jobs: dict[str, list[Job]] = {}
        self._outcomes: dict[Path, Outcome] = {}
        for trial in self._trials.get_trials(deepcopy=False):
            if trial.state == self._states.RUNNING:
                self._adopt(trial)

    def jobs(self) -> list[Job]:
        """Return the jobs of the running trials."""
        return [job for name in self._running for job in self._jobs[name]]

    def more(self) -> list[Job]:
        """Return the jobs of one more trial, empty if there are enough."""
        while len(self._trials.get_trials(deepcopy=False)) < self._count:
            if jobs := self._add(self._sampled()):
                return jobs
        return []

    def to_stop(self) -> list[Job]:
        """Report the returns of trials to Optuna, and return the jobs of those that it prunes.

        Those that another driver of the study has ended without a score are among them.
        """
        stopped = []
        for name, trial in self._running.items():
            if any(self._outcomes.get(job.folder) for job in self._jobs[name]):
                continue  # a seed has ended, so the others are completed
            if self._is_poor(trial, self._jobs[name]):
                stopped += self._jobs[name]
        return stopped

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Give Optuna the score of a trial once all its seeds have ended."""
        self._outcomes[job.folder] = outcome
        name = job.name
        outcomes = [self._outcomes.get(each.folder) for each in self._jobs[name]]
        if name not in self._running or None in outcomes:
            return
        trial = self._running.pop(name)
        scores = [score_of(each.folder) for each in self._jobs[name]]
        score = sum(scores) / len(scores)
        try:
            if "pruned" in outcomes:
                self._trials.tell(trial, state=self._states.PRUNED)
            elif "failed" in outcomes or not math.isfinite(score):
                self._trials.tell(trial, state=self._states.FAIL)
            else:
                self._trials.tell(trial, score)
        except (ValueError, self._optuna.exceptions.UpdateFinishedTrialError):
            return  # another driver of this study has done it
        result = {"trial": trial.number, "parameters": trial.params, "score": score}
        text = json.dumps(result | {"outcomes": outcomes}, indent=2, allow_nan=True)
        write_text(self._study.folder / name / OUTCOME, text + "\n")

    def _sampled(self) -> Any:
        """Return a new trial with its values."""
        trial = self._trials.ask()
        self._trials.sampler = self._optuna.samplers.TPESampler(
            seed=self._sampler_seed + trial.number, constant_liar=True
        )
        for each in self._search.ranges:
            each.sample(trial)
        return trial

    def _adopt(self, known: Any) -> None:
        """Add a trial that Optuna knows as running.

        Its values are sampled one by one. Where some are missing, another driver is sampling them,
        or has ended before it was done.
        """
        trial = self._optuna.trial.Trial(self._trials, known._trial_id)
        if known.params.keys() >= {each.name for each in self._search.ranges}:
            self._add(trial)
        elif datetime.now() - known.datetime_start > SAMPLING:
            self._fail(trial)

    def _fail(self, trial: Any) -> None:
        with suppress(ValueError, self._optuna.exceptions.UpdateFinishedTrialError):
            self._trials.tell(trial, state=self._states.FAIL)

    def _add(self, trial: Any) -> list[Job]:
        """Add a trial, and return its jobs; none if its values do not fit each other."""
        name = f"trial-{trial.number:04d}"
        try:
            recipe = self._search.recipe(trial.params, name)
        except RecipeError as error:
            warnings.warn(f"trial {trial.number} cannot be trained: {error}", stacklevel=3)
            self._fail(trial)
            return []
        self._study.write_recipe(name, recipe)
        self._running[name] = trial
        self._jobs[name] = [self._study.job(name, recipe, seed) for seed in self._seeds]
        return self._jobs[name]

    def _is_poor(self, trial: Any, jobs: Sequence[Job]) -> bool:
        """Report new mean returns to Optuna; return whether it prunes the trial."""
        frozen = self._trials._storage.get_trial(trial._trial_id)
        if frozen.state.is_finished():
            return bool(frozen.state != self._states.COMPLETE)
        logs = [rows_of(job.folder / "progress.csv") for job in jobs]
        known = frozen.intermediate_values
        for check in range(1, PRUNING_CHECKS):
            after = check * jobs[0].total / PRUNING_CHECKS
            values = [next((value for steps, value in log if steps >= after), None) for log in logs]
            reached = [value for value in values if value is not None]
            if len(reached) < len(values):
                break
            if check not in known:
                with suppress(self._optuna.exceptions.UpdateFinishedTrialError):
                    trial.report(sum(reached) / len(reached), check)
        return bool(trial.should_prune())


def _storage(optuna: Any, path: Path) -> Any:
    """Return the journal of a search, whose last line may be broken.

    Its lock ends with the process that holds it, unlike Optuna's own ones, which are files.
    """
    lock = FileLock(path.with_name(LOCK))
    with lock:  # so that no other driver is writing
        if path.exists():
            _drop_broken_line(path)
    backend = optuna.storages.journal.JournalFileBackend(str(path), lock)
    return optuna.storages.JournalStorage(backend)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise a CommandError if a journal cannot be read."""
    try:
        yield
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        RecursionError,
    ) as error:
        raise CommandError(
            f"{path} is damaged: {cut(str(error), 200)}; begin another study, and keep this one "
            "for its runs"
        ) from error


def _drop_broken_line(path: Path) -> None:
    """Remove the last line of a journal unless it is a whole one.

    A full disk or a kill cut it off, and another driver may have written on behind it.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        last = content.rfind(b"\n", 0, max(whole - 1, 0)) + 1
        try:
            json.loads(content[last:whole] or b"{}")
        except (ValueError, RecursionError):
            whole = last
    if whole < len(content):
        with path.open("rb+") as file:
            file.truncate(whole)
