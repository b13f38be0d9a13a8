"""The summary of a study's report: its facts, its results in words, and cautions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from liquid_control.monitoring.report.page import Chapter, number
from liquid_control.sweeps.comparison import Comparison
from liquid_control.sweeps.figures import MOST
from liquid_control.sweeps.references import reference_of
from liquid_control.sweeps.results import FINISHED, RunResult
from liquid_control.sweeps.scores import IQM, Scores
from liquid_control.sweeps.statistics import FEW
from liquid_control.sweeps.words import estimate_in_words, listed


def in_short(scores: Scores) -> Chapter:
    """Return the chapter of the results in words."""
    return Chapter("In short", [*_summary(scores), *_cautions(scores)])


def facts(scores: Scores) -> dict[str, str]:
    """Return the facts of the header."""
    runs = scores.study.runs
    done = _finished(runs)
    seeds = sorted({run.seed for run in runs if run.seed is not None})
    hours = sum(run.seconds or 0 for run in runs) / 3600
    return {
        "Runs": f"{len(runs)}, {len(done)} finished",
        "Tasks": listed(scores.comparison.tasks) or "unknown",
        "Recipes": str(len({run.recipe for run in runs})),
        "Seeds": listed([str(seed) for seed in seeds], 8) or "unknown",
        "Control steps in all": number(sum(run.steps for run in runs)),
        "Wall time in all": f"{number(hours)} h",
    }


def _summary(scores: Scores) -> Iterator[str]:
    """Yield the results in words."""
    runs = scores.study.runs
    done = _finished(runs)
    if not any(map(scores.exist, scores.comparison.variants)):
        yield (
            "No run that is finished has a usable evaluation, so there are no scores."
            if done
            else f"None of the {len(runs)} runs is finished yet, so there are no scores; "
            "learning curves show how far they have come."
        )
        return
    if len(done) == len(runs):
        yield (
            "The only run is finished." if len(runs) == 1 else f"All {len(runs)} runs are finished."
        )
    else:
        yield f"{len(done)} of {len(runs)} runs are finished; scores are of these."
    for task in scores.comparison.tasks:
        yield from _best(task, scores)
    if len(scores.pooled_tasks) > 1:
        best = max(scores.pooled, key=lambda name: scores.pooled[name].value)
        yield (
            f"Over {listed(scores.pooled_tasks)}, with 0 for random actions and 1 for the "
            f"reference of each task, {best} is best: {estimate_in_words(scores.pooled[best])}."
        )


def _best(task: str, scores: Scores) -> Iterator[str]:
    scored = [group for group in scores.ranked(task) if len(group.scores)]
    if not scored:
        yield f"On {task}, no run has a score yet."
        return
    estimates = [scores.estimates[task, group.variant] for group in scored]
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


def _cautions(scores: Scores) -> Iterator[str]:
    """Yield what readers should know before they compare numbers."""
    scored = [group for group in scores.comparison.groups.values() if len(group.scores)]
    few = [group for group in scored if len(group.scores) < FEW]
    if few:
        names = dict.fromkeys(group.variant for group in few)
        yield (
            f"Fewer than {FEW} seeds are finished of {listed(tuple(names), 4)}: their "
            "intervals say little of other seeds, and nothing in bold rests on them."
        )
    if len(scores.comparison.variants) > MOST:
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
    for task in scores.comparison.tasks:
        yield from _unlike(task, scores.comparison)
    if foreign := [task for task in scores.comparison.tasks if reference_of(task) is None]:
        yield (
            f"There is no reference score for {listed(foreign, 4)}: these tasks are shown on "
            "their own scale, and left out of what is pooled over tasks."
        )
    kinds = sorted({run.version for run in scores.study.runs if run.version})
    if len(kinds) > 1:
        yield f"Runs were trained with different versions of liquid_control: {listed(kinds)}."


def _unlike(task: str, comparison: Comparison) -> Iterator[str]:
    """Yield in what the recipes of a task differ that makes them hard to compare."""
    runs = [run for group in comparison.of_task(task) for run in group.finished]
    kinds: dict[str, Callable[[RunResult], object]] = {
        "get different parts of the observation": lambda run: run.observe,
        "ask for different numbers of control steps": lambda run: run.total_timesteps,
        "were trained, and are scored, at different control intervals": lambda run: run.intervals,
    }
    for text, of in kinds.items():
        if len({of(run) for run in runs}) > 1:
            yield f"The runs on {task} {text}."


def _finished(runs: Sequence[RunResult]) -> list[RunResult]:
    return [run for run in runs if run.status == FINISHED]
