"""Comparison of a study's runs, grouped by task and recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from liquid_control.sweeps.results import FINISHED, RunResult, StudyResults
from liquid_control.sweeps.run_files import Array


@dataclass(frozen=True)
class Group:
    """The runs of one recipe on one task.

    Attributes:
        task: The task.
        variant: The name under which the recipe is compared.
        runs: All of its runs.
    """

    task: str
    variant: str
    runs: tuple[RunResult, ...]

    @property
    def finished(self) -> tuple[RunResult, ...]:
        """The finished runs with a score, one for each seed.

        Of several runs with the same seed, the last one counts: repeated trainings are not
        independent.
        """
        done = (run for run in self.runs if run.score is not None)
        by_seed = {run.path if run.seed is None else run.seed: run for run in done}
        return tuple(by_seed.values())

    @property
    def scores(self) -> Array:
        """Mean returns of the finished runs at the intervals of their training, (runs,)."""
        return np.array([run.score for run in self.finished], dtype=np.float64)

    def returns_under(self, condition: str) -> Array:
        """Return mean returns of the finished runs with a condition, (runs,)."""
        found = (run.under(condition) for run in self.finished)
        return np.array([each.mean for each in found if each is not None], dtype=np.float64)


@dataclass(frozen=True)
class Comparison:
    """All groups of a study.

    Attributes:
        tasks: The tasks, in the order of the study.
        variants: The variants, in the order of the study.
        groups: The groups by task and variant; not every pair has one.
    """

    tasks: tuple[str, ...]
    variants: tuple[str, ...]
    groups: dict[tuple[str, str], Group]

    def of_task(self, task: str) -> list[Group]:
        """Return the groups of a task, in the order of the variants."""
        pairs = ((task, variant) for variant in self.variants)
        return [self.groups[pair] for pair in pairs if pair in self.groups]

    def leading(self, count: int) -> tuple[str, ...]:
        """Return the variants with the best scores: by their mean rank over the tasks.

        Those without a score rank last. The result is in the order of the study.
        """
        ranks: dict[str, list[int]] = {variant: [] for variant in self.variants}
        for task in self.tasks:
            scored = [group for group in self.of_task(task) if len(group.scores)]
            scored.sort(key=lambda group: -float(np.mean(group.scores)))
            for rank, group in enumerate(scored):
                ranks[group.variant].append(rank)
        means = {name: np.mean(each) if each else np.inf for name, each in ranks.items()}
        best = sorted(self.variants, key=lambda name: means[name])[:count]
        return tuple(name for name in self.variants if name in best)


def compare(study: StudyResults) -> Comparison:
    """Group the runs of a study, without those of an unknown task."""
    known = [run for run in study.runs if run.task]
    variants = variants_of(known)
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in known:
        groups.setdefault((run.task, variants[run.recipe]), []).append(run)
    return Comparison(
        tasks=tuple(dict.fromkeys(task for task, _ in groups)),
        variants=tuple(dict.fromkeys(variant for _, variant in groups)),
        groups={
            (task, name): Group(task, name, tuple(runs)) for (task, name), runs in groups.items()
        },
    )


def variants_of(runs: Iterable[RunResult]) -> dict[str, str]:
    """Return the names under which recipes are compared over tasks, by the recipe's name.

    By default, recipes are named after their folder and file: half_cheetah-ncp_ppo and
    hopper-ncp_ppo are variant ncp_ppo on two tasks. So the first part of the names is omitted if
    there are several tasks, each with a different first part.
    """
    pairs = {(run.recipe.partition("-")[0], run.task) for run in runs}
    names = {run.recipe for run in runs}
    parts, tasks = ({pair[place] for pair in pairs} for place in (0, 1))
    told_apart = len(tasks) > 1 and len(parts) == len(tasks) == len(pairs)
    if told_apart and all(name.partition("-")[2] for name in names):
        return {name: name.partition("-")[2] for name in names}
    return {name: name for name in names}


def unfinished(study: StudyResults) -> list[RunResult]:
    """Return the runs that failed, are not finished, or have unusable files."""
    return [run for run in study.runs if run.status != FINISHED or run.problems]
