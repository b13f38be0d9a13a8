"""The chapters of a study's report: tables, figures and what they mean in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure

from liquid_control.monitoring.report.page import (
    Cell,
    Chapter,
    Chip,
    Picture,
    Strong,
    Table,
    number,
)
from liquid_control.sweeps import figures
from liquid_control.sweeps.analysis import (
    SHARE,
    RateCurve,
    Reached,
    counted_runs,
    improvements,
    learning_curve,
    normalised,
    rate_curve,
    reached,
    threshold_of,
)
from liquid_control.sweeps.comparison import Group
from liquid_control.sweeps.figures import Style, surely
from liquid_control.sweeps.references import reference_of, references
from liquid_control.sweeps.scores import IQM, Scores
from liquid_control.sweeps.statistics import FEW, iqm
from liquid_control.sweeps.words import bold_in_words, listed, rates_in_words, reached_in_words

DPI = 150
OPEN_ROWS = 20  # of a table; other rows are folded
INTERVAL = ("95 % from", "to")


class Chapters:
    """The chapters of a report, which share groups, estimates and colours."""

    def __init__(
        self, scores: Scores, styles: Mapping[str, Style], limits: Mapping[str, float]
    ) -> None:
        self.scores, self.comparison = scores, scores.comparison
        self.styles, self.limits = styles, limits
        curved = {
            task: [group for group in self.comparison.of_task(task) if counted_runs(group)]
            for task in self.comparison.tasks
        }
        self.curves = {
            task: [learning_curve(each, band=each.variant in styles) for each in groups]
            for task, groups in curved.items()
            if groups
        }

    def results(self) -> Iterator[Chapter]:
        """Yield the chapter with a table for each task."""
        if not any(map(self.scores.exist, self.comparison.variants)):
            return
        tables = [table for task in self.comparison.tasks for table in self._task_tables(task)]
        points = [
            (
                "A run's score is its mean return over the evaluation episodes at the intervals of "
                f"its training. Tables show the {IQM} of the scores over seeds, the mean of their "
                "middle half, and its 95 % interval by stratified bootstrap."
            )
        ]
        names = {
            run.recipe: group.variant
            for group in self.comparison.groups.values()
            for run in group.runs
        }
        if any(recipe != variant for recipe, variant in names.items()):
            recipe, variant = next(iter(names.items()))
            points.append(
                "The first part of the recipes' names stands for the task, and is left out: "
                f"{recipe} is called {variant}."
            )
        yield Chapter("Results on each task", points, [*tables, *self._references()])

    def _task_tables(self, task: str) -> Iterator[Table]:
        ranked = [group for group in self.scores.ranked(task) if len(group.scores)]
        if not ranked:
            return
        reference = reference_of(task)
        header = ["recipe", "seeds", f"{IQM} return", *INTERVAL, "mean return"]
        header += ["steps", "minutes"] if reference is None else ["normalised", "steps", "minutes"]
        rows = []
        best = self.scores.estimates[task, ranked[0].variant]
        others = [self.scores.estimates[task, group.variant] for group in ranked[1:]]
        sure = bool(others) and all(best.surely_above(each) for each in others)
        for group in ranked:
            each = self.scores.estimates[task, group.variant]
            bold = sure and group is ranked[0]
            row: list[Cell] = [
                self._name(group.variant),
                each.runs,
                Strong(each.value) if bold else each.value,
                each.low,
                each.high,
                float(group.scores.mean()),
            ]
            if reference is not None:
                row.append(float(iqm(normalised(group))))
            rows.append([*row, _mean(run.steps for run in group.finished), _minutes(group)])
        seconds = "Minutes are the wall time of a training, without its evaluation."
        scale = (
            "" if reference is None else " Normalised is 0 for random actions, 1 for the reference."
        )
        caption = f"{bold_in_words(sure, others)}{scale} {seconds}".strip()
        yield Table(f"Return on {task}", header, rows[:OPEN_ROWS], caption)
        if rest := rows[OPEN_ROWS:]:
            yield Table(f"The other {len(rest)} recipes on {task}", header, rest, folded=True)

    def _references(self) -> Iterator[Table]:
        tasks = [task for task in self.comparison.tasks if reference_of(task) is not None]
        rows: list[list[Cell]] = []
        for task in tasks:
            entry = references()[task]
            rows.append([task, entry.random, entry.reference or math.nan, entry.source])
        if rows:
            header = ("task", "random actions", "reference", "source of the reference")
            yield Table("Reference scores", header, rows, folded=True)

    def all_tasks(self) -> Iterator[Chapter]:
        """Yield the chapter of scores over several tasks."""
        if len(self.comparison.tasks) < 2 or not self.scores.pooled:
            return
        left_out = [task for task in self.comparison.tasks if task not in self.scores.pooled_tasks]
        points = []
        if left_out:
            points.append(
                f"{listed(left_out)} {'is' if len(left_out) == 1 else 'are'} left out: only tasks "
                "with a reference score, on which every recipe has a finished run, can be pooled."
            )
        if len(self.scores.pooled_tasks) < 2:
            yield Chapter("All tasks together", [*points, "Fewer than two tasks remain."])
            return
        points.append(
            f"Scores on {listed(self.scores.pooled_tasks)} are put on a common scale, 0 for random "
            "actions and 1 for the reference. Runs are drawn again within each task."
        )
        ranked = sorted(self.scores.pooled.items(), key=lambda pair: -pair[1].value)
        best, *others = (estimate for _, estimate in ranked)
        sure = bool(others) and all(best.surely_above(each) for each in others)
        rows: list[list[Cell]] = [
            [
                self._name(name),
                each.runs,
                Strong(each.value) if sure and each is best else each.value,
                each.low,
                each.high,
            ]
            for name, each in ranked
        ]
        header = ("recipe", "runs", f"normalised {IQM}", *INTERVAL)
        yield Chapter(
            "All tasks together",
            points,
            [Table("Pooled scores", header, rows, bold_in_words(sure, others))],
        )

    def learning_curves(self) -> Iterator[Chapter]:
        """Yield the chapter of learning curves."""
        if not self.curves:
            return
        words = "; ".join(
            f"{task}: "
            + ", ".join(
                f"{each.variant} ends at {number(float(each.middle[-1]))}"
                for each in curves
                if len(each.middle) and each.variant in self.styles
            )
            for task, curves in self.curves.items()
        )
        caption = (
            f"Lines are the {IQM} over finished runs of the mean return of recent training "
            "episodes; bands are its 95 % interval at each point. Thin lines are runs that are not "
            "finished. Exploration noise is part of these returns."
        )
        picture = Picture(
            "Learning curves",
            drawn(figures.learning_curves(self.curves, self.styles)),
            "png",
            f"Return against control steps. {words}.",
            caption + self._left_out(),
        )
        yield Chapter("Learning", parts=[picture])

    def control_rates(self) -> Iterator[Chapter]:
        """Yield the chapter of the return at each control rate."""
        curves = {
            task: [
                curve
                for group in self.comparison.of_task(task)
                if group.variant in self.styles and (curve := rate_curve(group)).names
            ]
            for task in self.comparison.tasks
        }
        curves = {task: each for task, each in curves.items() if each}
        if not curves:
            return
        caption = (
            f"Lines are the {IQM} over seeds at fixed intervals, bands its 95 % interval; hollow "
            "markers lie at the mean rate of the training. The axis begins at zero where all "
            "returns are positive."
        )
        picture = Picture(
            "Return against control rate",
            drawn(figures.control_rates(curves, self.styles)),
            "png",
            "Return against control rate. "
            + "; ".join(f"{task}: {rates_in_words(each)}" for task, each in curves.items())
            + ".",
            caption + self._left_out(),
        )
        tables = [
            Table(
                f"Control rates on {task}",
                ("recipe", "interval (s)", "rate (Hz)", "", "seeds", f"{IQM} return", *INTERVAL),
                [row for curve in each for row in self._rate_rows(curve)],
                folded=True,
            )
            for task, each in curves.items()
        ]
        yield Chapter("Control rate", parts=[picture, *tables])

    def _rate_rows(self, curve: RateCurve) -> Iterator[list[Cell]]:
        fixed = zip(curve.names, curve.intervals, curve.estimates, strict=True)
        for name, interval, each in (*fixed, ("as trained", curve.trained_interval, curve.trained)):
            yield [
                self._name(curve.variant),
                interval,
                1 / interval,
                name,
                each.runs,
                each.value,
                each.low,
                each.high,
            ]

    def thresholds(self) -> Iterator[Chapter]:
        """Yield the chapter of what it took to reach a return."""
        limits: dict[str, float] = {}
        points = []
        for task, curves in self.curves.items():
            given = self.limits.get(task, self.limits.get(""))
            limit = threshold_of(task, curves) if given is None else given
            if limit is None:
                continue
            limits[task] = limit
            begin = "random actions" if task in references() else "the lowest curve's beginning"
            why = (
                f"{100 * SHARE:.0f} % of the way from {begin} to the best curve's end"
                if given is None
                else "as asked for"
            )
            points.append(f"On {task}, the threshold is {number(limit)}, {why}.")
        if not limits:
            return
        results = {
            task: [
                reached(group, limit)
                for group in self.comparison.of_task(task)
                if counted_runs(group)
            ]
            for task, limit in limits.items()
        }
        picture = Picture(
            "Steps and time to a threshold",
            drawn(figures.thresholds(results, limits, self.styles)),
            "png",
            "Control steps and wall time until a return was reached. "
            + "; ".join(f"{task}: {self._reached(each)}" for task, each in results.items())
            + ".",
            "A dot is a run whose training return reached the threshold, a bar the median over all "
            "runs; it is missing where half of them or more did not. Wall time depends on the "
            "machine and on what else it did." + self._left_out(),
        )
        tables = [
            Table(
                f"To a return of {number(limits[task])} on {task}",
                ("recipe", "reached by", "of runs", "median steps", "median seconds"),
                [self._reached_row(each) for each in rows],
                "The median counts runs that did not reach it as infinitely long.",
                folded=True,
            )
            for task, rows in results.items()
        ]
        yield Chapter("Time to a threshold", points, [picture, *tables])

    def _reached(self, rows: Sequence[Reached]) -> str:
        return reached_in_words([each for each in rows if each.variant in self.styles])

    def _reached_row(self, each: Reached) -> list[Cell]:
        medians = (float(np.median(values)) for values in (each.steps, each.seconds))
        return [self._name(each.variant), each.successes, len(each.steps), *medians]

    def improvements(self) -> Iterator[Chapter]:
        """Yield the chapter of the probability that one recipe beats another."""
        names = [name for name in self.styles if self.scores.exist(name)]
        estimates = improvements(self.comparison, names)
        if not estimates:
            return
        size = len(names)
        words = [
            f"{ours} beats {theirs} with probability {each.value:.2f}"
            for (ours, theirs), each in estimates.items()
            if each.value >= 0.5
        ]
        picture = Picture(
            "Probability of improvement",
            drawn(
                figures.improvement_matrix(
                    estimates, names, {name: self.styles[name].label for name in names}
                )
            ),
            "png",
            f"Matrix of {size} by {size} recipes. {'; '.join(words)}.",
            "The probability that a run of the recipe in a row has a higher score than one of the "
            "recipe in a column, on the mean over the tasks of both; a tie counts as half. It is "
            f"bold where its 95 % interval leaves 0.5 out, with {FEW} seeds or more."
            + self._left_out(),
        )
        rows: list[list[Cell]] = []
        for (ours, theirs), each in estimates.items():
            value = f"{each.value:.2f}"
            ends = ("—" if math.isnan(end) else f"{end:.2f}" for end in (each.low, each.high))
            rows.append([self._name(ours), theirs, Strong(value) if surely(each) else value, *ends])
        header = ("recipe", "over", "probability", *INTERVAL)
        yield Chapter(
            "Which recipe beats which",
            ["No scale is needed to compare runs on one task, so that all tasks take part."],
            [picture, Table("Probabilities and intervals", header, rows, folded=True)],
        )

    def _name(self, variant: str) -> Cell:
        """Return a variant as a cell, with its colour in the figures if it has one."""
        style = self.styles.get(variant)
        return variant if style is None else (Chip(variant, style.colour),)

    def _left_out(self) -> str:
        names = len(self.comparison.variants)
        shown = len(self.styles)
        return "" if shown == names else f" Of {names} recipes, the {shown} best are told apart."


def _mean(values: Iterator[int]) -> float:
    return float(np.mean(list(values)))


def _minutes(group: Group) -> float:
    """Return the mean wall time of a group's finished runs; NaN if unknown."""
    known = [run.seconds for run in group.finished if run.seconds is not None]
    return float(np.mean(known)) / 60 if known else math.nan


def drawn(figure: Figure) -> bytes:
    """Return a figure as a PNG."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()
