"""Scores of a study: their estimates for each recipe, and which recipe is best."""

from __future__ import annotations

import math

from liquid_control.sweeps.analysis import pooled
from liquid_control.sweeps.comparison import Comparison, Group
from liquid_control.sweeps.results import StudyResults
from liquid_control.sweeps.statistics import estimate_iqm

IQM = "interquartile mean"


class Scores:
    """Estimates of the scores, which the summary and the chapters share.

    Attributes:
        study: The study.
        comparison: Its groups.
        estimates: The interquartile mean of each group, by task and variant.
        pooled_tasks: The tasks over which scores are pooled.
        pooled: The estimates over these tasks, by variant.
    """

    def __init__(self, study: StudyResults, comparison: Comparison) -> None:
        self.study, self.comparison = study, comparison
        self.estimates = {
            pair: estimate_iqm([group.scores]) for pair, group in comparison.groups.items()
        }
        self.pooled_tasks, self.pooled = pooled(comparison)

    def exist(self, variant: str) -> bool:
        """Return whether a variant has a score on any task."""
        groups = self.comparison.groups.values()
        return any(len(group.scores) for group in groups if group.variant == variant)

    def ranked(self, task: str) -> list[Group]:
        """Return the groups of a task, the best first."""

        def order(group: Group) -> float:
            value = self.estimates[task, group.variant].value
            return math.inf if math.isnan(value) else -value

        return sorted(self.comparison.of_task(task), key=order)
