"""The chapters of a study's report: tables, figures and what they mean in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure

from liquid_control.monitoring.report.page import (
    Cell,
    Chapter,
    Chip,
    Code,
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
    pooled,
    rate_curve,
    reached,
    threshold_of,
)
from liquid_control.sweeps.comparison import Comparison, Group, unfinished
from liquid_control.sweeps.figures import MOST, Style, surely
from liquid_control.sweeps.provenance import commit, versions
from liquid_control.sweeps.references import reference_of, references
from liquid_control.sweeps.results import FINISHED, RunResult, StudyResults
from liquid_control.sweeps.statistics import (
    FEW,
    REPLICATIONS,
    SEED,
    estimate_iqm,
    iqm,
)
from liquid_control.sweeps.words import (
    bold_in_words,
    estimate_in_words,
    listed,
    rates_in_words,
    reached_in_words,
)

DPI = 150
OPEN_ROWS = 20  # of a table; other rows are folded
INTERVAL = ("95 % from", "to")
IQM = "interquartile mean"


class Chapters:
    """The chapters of a report, which share groups, estimates and colours."""

    def __init__(
        self,
        study: StudyResults,
        comparison: Comparison,
        styles: Mapping[str, Style],
        limits: Mapping[str, float],
    ) -> None:
        self.study, self.comparison = study, comparison
        self.styles, self.limits = styles, limits
        self.estimates = {
            pair: estimate_iqm([group.scores]) for pair, group in comparison.groups.items()
        }
        curved = {
            task: [group for group in comparison.of_task(task) if counted_runs(group)]
            for task in comparison.tasks
        }
        self.curves = {
            task: [learning_curve(each, band=each.variant in styles) for each in groups]
            for task, groups in curved.items()
            if groups
        }
        self.pooled_tasks, self.pooled = pooled(comparison)

    def facts(self) -> dict[str, str]:
        """Return the facts of the header."""
        runs, done = self.study.runs, self._finished()
        seeds = sorted({run.seed for run in runs if run.seed is not None})
        hours = sum(run.seconds or 0 for run in runs) / 3600
        return {
            "Runs": f"{len(runs)}, {len(done)} finished",
            "Tasks": listed(self.comparison.tasks) or "unknown",
            "Recipes": str(len({run.recipe for run in runs})),
            "Seeds": listed([str(seed) for seed in seeds], 8) or "unknown",
            "Control steps in all": number(sum(run.steps for run in runs)),
            "Wall time in all": f"{number(hours)} h",
        }

    def summary(self) -> Iterator[str]:
        """Yield the results in words."""
        runs, done = self.study.runs, self._finished()
        if not any(map(self._has_scores, self.comparison.variants)):
            yield (
                "No run that is finished has a usable evaluation, so there are no scores."
                if done
                else f"None of the {len(runs)} runs is finished yet, so there are no scores; "
                "learning curves show how far they have come."
            )
            return
        if len(done) == len(runs):
            yield (
                "The only run is finished."
                if len(runs) == 1
                else f"All {len(runs)} runs are finished."
            )
        else:
            yield f"{len(done)} of {len(runs)} runs are finished; scores are of these."
        for task in self.comparison.tasks:
            yield from self._best(task, self._ranked(task))
        if len(self.pooled_tasks) > 1:
            best = max(self.pooled, key=lambda name: self.pooled[name].value)
            yield (
                f"Over {listed(self.pooled_tasks)}, with 0 for random actions and 1 for the "
                f"reference of each task, {best} is best: {estimate_in_words(self.pooled[best])}."
            )

    def _best(self, task: str, ranked: Sequence[Group]) -> Iterator[str]:
        scored = [group for group in ranked if len(group.scores)]
        if not scored:
            yield f"On {task}, no run has a score yet."
            return
        estimates = [self.estimates[task, group.variant] for group in scored]
        first, best = scored[0].variant, estimates[0]
        if len(scored) == 1:
            yield f"On {task}, {first} has an {IQM} return of {estimate_in_words(best)}."
            return
        close = [
            group.variant
            for group, estimate in zip(scored[1:], estimates[1:], strict=True)
            if not best.surely_above(estimate)
        ]
        doubt = (
            f" It is not sure to be better than {listed(close, 4)}."
            if close
            else " Its interval lies above those of all others."
        )
        value = estimate_in_words(best)
        yield f"On {task}, {first} is best, with an {IQM} return of {value}.{doubt}"

    def cautions(self) -> Iterator[str]:
        """Yield what readers should know before they compare numbers."""
        scored = [group for group in self.comparison.groups.values() if len(group.scores)]
        few = [group for group in scored if len(group.scores) < FEW]
        if few:
            names = dict.fromkeys(group.variant for group in few)
            yield (
                f"Fewer than {FEW} seeds are finished of {listed(tuple(names), 4)}: their "
                "intervals say little of other seeds, and nothing in bold rests on them."
            )
        if len(self.comparison.variants) > MOST:
            yield "The best of many recipes is so by luck too: expect less of it with new seeds."
        if any(len(group.scores) < 4 for group in scored):
            yield f"Of fewer than four runs, the {IQM} is the mean."
        for group in scored:
            seeds = Counter(run.seed for run in group.runs if run.score is not None)
            if again := [seed for seed, times in seeds.items() if seed is not None and times > 1]:
                yield (
                    f"{group.variant} on {group.task} has several finished runs with seed "
                    f"{listed(list(map(str, again)), 4)}; the last of them counts."
                )
        for task in self.comparison.tasks:
            yield from self._unlike(task)
        if foreign := [task for task in self.comparison.tasks if reference_of(task) is None]:
            yield (
                f"There is no reference score for {listed(foreign, 4)}: these tasks are shown on "
                "their own scale, and left out of what is pooled over tasks."
            )
        kinds = sorted({run.version for run in self.study.runs if run.version})
        if len(kinds) > 1:
            yield f"Runs were trained with different versions of liquid_control: {listed(kinds)}."

    def _unlike(self, task: str) -> Iterator[str]:
        """Yield in what the recipes of a task differ that makes them hard to compare."""
        runs = [run for group in self.comparison.of_task(task) for run in group.finished]
        kinds: dict[str, Callable[[RunResult], object]] = {
            "get different parts of the observation": lambda run: run.observe,
            "ask for different numbers of control steps": lambda run: run.total_timesteps,
            "were trained, and are scored, at different control intervals": lambda run: (
                run.intervals
            ),
        }
        for text, of in kinds.items():
            if len({of(run) for run in runs}) > 1:
                yield f"The runs on {task} {text}."

    def results(self) -> Iterator[Chapter]:
        """Yield the chapter with a table for each task."""
        if not any(map(self._has_scores, self.comparison.variants)):
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
        ranked = [group for group in self._ranked(task) if len(group.scores)]
        if not ranked:
            return
        reference = reference_of(task)
        header = ["recipe", "seeds", f"{IQM} return", *INTERVAL, "mean return"]
        header += ["steps", "minutes"] if reference is None else ["normalised", "steps", "minutes"]
        rows = []
        best = self.estimates[task, ranked[0].variant]
        others = [self.estimates[task, group.variant] for group in ranked[1:]]
        sure = bool(others) and all(best.surely_above(each) for each in others)
        for group in ranked:
            each = self.estimates[task, group.variant]
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
        if len(self.comparison.tasks) < 2 or not self.pooled:
            return
        left_out = [task for task in self.comparison.tasks if task not in self.pooled_tasks]
        points = []
        if left_out:
            points.append(
                f"{listed(left_out)} {'is' if len(left_out) == 1 else 'are'} left out: only tasks "
                "with a reference score, on which every recipe has a finished run, can be pooled."
            )
        if len(self.pooled_tasks) < 2:
            yield Chapter("All tasks together", [*points, "Fewer than two tasks remain."])
            return
        points.append(
            f"Scores on {listed(self.pooled_tasks)} are put on a common scale, 0 for random "
            "actions and 1 for the reference. Runs are drawn again within each task."
        )
        ranked = sorted(self.pooled.items(), key=lambda pair: -pair[1].value)
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
        names = [name for name in self.styles if self._has_scores(name)]
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

    def unfinished(self) -> Chapter:
        """Return the chapter of runs that failed, are not finished, or could not be read."""
        title = "Runs that failed or are not finished"
        rows: list[list[Cell]] = [
            [run.path, run.status, run.steps, "; ".join(filter(None, (run.reason, *run.problems)))]
            for run in unfinished(self.study)
        ]
        points = [*self.study.problems]
        if not rows:
            return Chapter(title, ["There are none.", *points])
        table = Table(f"{len(rows)} runs", ("run", "status", "steps", "reason"), rows)
        return Chapter(title, points, [table])

    def all_runs(self) -> Chapter:
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
            for run in self.study.runs
        ]
        table = Table(
            f"All {len(rows)} runs",
            (*header, "minutes", "return"),
            rows,
            "results.csv has them at each control rate.",
            folded=True,
        )
        return Chapter("Runs", parts=[table])

    def provenance(self) -> Chapter:
        """Return the chapter of the command and the versions."""
        kinds = sorted({run.version for run in self.study.runs if run.version})
        made_with = {
            "runs trained with liquid-control": listed(kinds) or "unknown",
            **{f"report made with {name}": version for name, version in versions().items()},
            "commit of the report's code": commit() or "not in a clone",
            "bootstrap": f"{REPLICATIONS:,} replications, seed {SEED}",
        }
        rows = [list(pair) for pair in made_with.items()]
        table = Table("Versions", ("what", "which"), rows)
        if not self.study.command:
            return Chapter(
                "How it was made", ["The study does not say with which command."], [table]
            )
        return Chapter("How it was made", parts=[Code("Command", self.study.command), table])

    def _finished(self) -> list[RunResult]:
        return [run for run in self.study.runs if run.status == FINISHED]

    def _has_scores(self, variant: str) -> bool:
        groups = self.comparison.groups.values()
        return any(len(group.scores) for group in groups if group.variant == variant)

    def _ranked(self, task: str) -> list[Group]:
        """Return the groups of a task, the best first."""

        def order(group: Group) -> float:
            value = self.estimates[task, group.variant].value
            return math.inf if math.isnan(value) else -value

        return sorted(self.comparison.of_task(task), key=order)

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
