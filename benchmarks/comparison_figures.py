"""Tables and figures of the comparison of agents, from its table of results alone.

    python benchmarks/comparison_figures.py

Writes the figures beside the page, and the tables into it. Means are interquartile means over
seeds, with 95 % intervals of the bootstrap from five seeds on (Agarwal et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from comparison_rows import POINTS, Result, reported
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray
from picture import COLOURS
from rows import read
from scipy.stats import permutation_test

from liquid_control.sweeps.references import reference_of
from liquid_control.sweeps.run_files import Array
from liquid_control.sweeps.statistics import (
    FEW,
    Estimate,
    curve,
    estimate_difference,
    estimate_iqm,
    iqm,
)

FOLDER = Path("docs/results")
BEGIN, END = "<!-- begin of what benchmarks/comparison_figures.py writes -->", "<!-- end -->"
MARKERS = "osD^vPX*<>"
OURS = (*COLOURS, "#8c564b", "#7f3fbf", "#9aa000", "#00a0a0")
GREYS = ("#1a1a1a", "#737373", "#a6a6a6")

RATIOS = {
    "at_quarter": 0.25,
    "at_half": 0.5,
    "at_nominal": 1.0,
    "at_double": 2.0,
    "at_fourfold": 4.0,
}
SUBSTEPS = {"HalfCheetah-v5": 5, "Ant-v5": 5}  # physics steps of a nominal interval, if not 4
NOISE = {"deterministic_return": 0.0, "noise_10": 0.1, "noise_30": 0.3, "noise_100": 1.0}
DISTURBED, SIZES = ("noise_30", "lost_30"), ("parameters", "synapses")
PAIRS = (
    ("LiquidPPO:cfc", "PPO:mlp"),
    ("LiquidPPO:cfc", "LiquidPPO:lstm"),
    ("LiquidPPO:cfc-h", "LiquidPPO:cfc"),
    ("LiquidPPO:cfc", "LiquidPPO:cfc, no clock"),
)
ENOUGH = 5  # seeds; with three, the interval is their range, and holds the truth in 75 % of cases
LEVEL = 0.25  # score from which an agent has learned something
LOST = {"deterministic_return": 0.0, "lost_10": 10.0, "lost_30": 30.0, "lost_50": 50.0}


@dataclass
class Arguments:
    """Draw the comparison again from its table."""

    table: Path = FOLDER / "results.csv"
    """Table of the results."""

    page: Path = FOLDER / "comparison.md"
    """Page whose tables are replaced."""


@dataclass(frozen=True)
class Scenario:
    """What the agents of one panel have in common."""

    task: str
    observe: str
    rates: str
    steps: int

    @classmethod
    def of(cls, row: Result) -> Scenario:
        return cls(row.task, row.observe, row.rates, row.steps)

    @property
    def title(self) -> str:
        """Its name in figures."""
        return f"{self.task}, {self.observe}, {self.rates} rate{'s' * (self.rates != 'nominal')}"


Groups = dict[Scenario, dict[str, list[Result]]]


def grouped(rows: Iterable[Result]) -> Groups:
    """Return the rows by scenario and name of the agent, in the order of both."""
    groups: Groups = {}
    for row in sorted(rows, key=lambda row: (row.observe, row.rates, row.task, row.name)):
        groups.setdefault(Scenario.of(row), {}).setdefault(row.name, []).append(row)
    return groups


def with_rows(groups: Groups, fits: Callable[[Result], bool]) -> Groups:
    """Return the rows that fit, without agents and scenarios that have none."""
    fitting = {
        scenario: {
            name: chosen for name, rows in agents.items() if (chosen := list(filter(fits, rows)))
        }
        for scenario, agents in groups.items()
    }
    return {scenario: agents for scenario, agents in fitting.items() if agents}


def estimate(rows: Sequence[Result], column: str) -> Estimate:
    """Return the interquartile mean of a column with its interval, over the rows that have it."""
    return estimate_iqm([known(rows, (column,))[:, 0]])


def middle(rows: Sequence[Result], column: str) -> float:
    """Return the interquartile mean of a column; NaN if no row has it."""
    values = known(rows, (column,))[:, 0]
    return float(iqm(values)) if len(values) else math.nan


def known(rows: Sequence[Result], columns: Iterable[str]) -> NDArray[np.float64]:
    """Return the columns (rows, columns) of the rows that have them all."""
    names = list(columns)
    values = [[getattr(row, name) for name in names] for row in rows]
    complete = [each for each in values if None not in each]
    return np.array(complete, dtype=float).reshape(-1, len(names))


def has_curve(row: Result) -> bool:
    """Whether a row has a learning curve."""
    return len(row.curve) == POINTS


class Pictures:
    """Figures of all scenarios, in which an agent always has the same colour and marker.

    Ours are coloured, the others grey. Agents with unusual settings have the colour of the usual
    ones, and a dashed line; so have agents for whom no colour is left.
    """

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        found = {name: rows[0] for agents in groups.values() for name, rows in agents.items()}
        self.styles: dict[str, tuple[str, str, str]] = {}
        agents: dict[Sequence[str], list[str]] = {OURS: [], GREYS: []}
        for place, (name, row) in enumerate(sorted(found.items())):
            colours = OURS if row.algorithm.startswith("Liquid") else GREYS
            if row.agent not in agents[colours]:
                agents[colours].append(row.agent)
            again, colour = divmod(agents[colours].index(row.agent), len(colours))
            dashes = "--" if row.settings or again else "-"
            self.styles[name] = colours[colour], MARKERS[place % len(MARKERS)], dashes

    def returns(self) -> Figure:
        """Draw the deterministic return of every agent: seeds, mean, and interval."""
        figure, panels = self._panels(self.groups, row_height=0.5 + 0.22 * len(self.styles))
        for axes, agents in zip(panels, self.groups.values(), strict=True):
            for place, (name, rows) in enumerate(agents.items()):
                colour, marker, dashes = self.styles[name]
                seeds = [row.deterministic_return for row in rows]
                each = estimate(rows, "deterministic_return")
                axes.plot(seeds, [place] * len(seeds), "|", color=colour, alpha=0.6)
                axes.hlines(place, each.low, each.high, color=colour, linewidth=2, linestyle=dashes)
                axes.plot(each.value, place, marker, color=colour)
            names = [f"{n} ({len(r)})".replace(", ", ",\n") for n, r in agents.items()]
            axes.set_yticks(range(len(agents)), names)
            axes.set_ylim(len(agents) - 0.5, -0.5)
            low, high = axes.dataLim.intervalx
            axes.set_xlim(min(0.0, low), high + 0.08 * (high - min(0.0, low)))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.set_xlabel("return (seeds in parentheses)", fontsize=8)
        return figure

    def curves(self, x: Callable[[Sequence[Result]], float], label: str, **scale: Any) -> Figure:
        """Draw the learning curves.

        Args:
            x: what the trainings of one agent took.
            label: what that is.
            scale: arguments of `Axes.set_xscale`.
        """
        groups = with_rows(self.groups, has_curve)
        figure, panels = self._panels(groups)
        for axes, agents in zip(panels, groups.values(), strict=True):
            for name, rows in agents.items():
                shares = np.arange(1, POINTS + 1) / POINTS
                returns = np.array([row.curve for row in rows], dtype=float)
                self._band(axes, name, x(rows) * shares, returns)
            axes.set_xscale(**scale)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
            _from_zero(axes)
        self._legend(figure)
        return figure

    def conditions(self, columns: dict[str, float], label: str, *, log: bool = False) -> Figure:
        """Draw the return under conditions that differ from those of the training."""
        groups = with_rows(
            self.groups, lambda row: None not in [getattr(row, name) for name in columns]
        )
        figure, panels = self._panels(groups)
        for axes, (scenario, agents) in zip(panels, groups.items(), strict=True):
            x = np.array(list(columns.values()))
            if log:  # intervals are whole physics steps
                substeps = SUBSTEPS.get(scenario.task, 4)
                x = np.maximum(np.round(x * substeps), 1) / substeps
            for name, rows in agents.items():
                self._band(axes, name, x, known(rows, columns))
            if log:
                axes.set_xscale("log", base=2)
                axes.set_xticks(x, [f"{each:g}" for each in x])
            axes.set_xlabel(label)
            _from_zero(axes)
        self._legend(figure)
        return figure

    def _band(
        self, axes: Axes, name: str, x: NDArray[np.float64], returns: NDArray[np.float64]
    ) -> None:
        """Draw returns (seeds, points) as a mean and its interval."""
        colour, marker, dashes = self.styles[name]
        means, low, high = curve(returns)
        axes.plot(x, means, dashes, marker=marker, markersize=4, color=colour)
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_ylabel("return")

    def _panels(self, groups: Groups, row_height: float = 2.6) -> tuple[Figure, list[Axes]]:
        columns = 2 if len(groups) > 1 else 1
        rows = max(1, math.ceil(len(groups) / columns))
        figure = Figure(figsize=(9.0, row_height * rows + 0.6), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in panels[len(groups) :]:
            axes.remove()
        for axes, scenario in zip(panels, groups, strict=False):
            axes.set_title(scenario.title, loc="left", fontsize=8)
            axes.grid(alpha=0.3)
        return figure, panels[: len(groups)]

    def _legend(self, figure: Figure) -> None:
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle=dashes, label=name)
            for name, (colour, marker, dashes) in self.styles.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _from_zero(axes: Axes) -> None:
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.yaxis.set_major_formatter("{x:,.0f}")


def differences(groups: Groups) -> list[str]:
    """Return a table of pairs of agents with three seeds and more, in Markdown."""
    header = ("task, observation, rates", "agents", "seeds", "deterministic", "difference", "p")
    lines = [f"| {' | '.join(header)} |", "|---|---|---:|---:|---:|---:|"]
    for names in PAIRS:
        scores: tuple[list[Array], list[Array]] = ([], [])
        for scenario, agents in groups.items():
            pair = [known(agents.get(name, ()), ("deterministic_return",))[:, 0] for name in names]
            if min(map(len, pair)) < FEW:
                continue
            cells = (
                scenario.title,
                " / ".join(names),
                " / ".join(str(len(each)) for each in pair),
                " / ".join(_number(float(iqm(each))) for each in pair),
                _interval(estimate_difference([pair[0]], [pair[1]])),
                f"{_chance(*pair):.2g}",
            )
            lines.append(f"| {' | '.join(cells)} |")
            reference = reference_of(scenario.task)
            if reference is not None and min(map(len, pair)) >= ENOUGH:
                for found, each in zip(scores, pair, strict=True):
                    found.append(reference.normalise(each))
        if len(scores[0]) > 1:
            cells = (
                f"scores of the {len(scores[0])} with {ENOUGH} seeds and more",
                " / ".join(names),
                " / ".join(str(sum(map(len, found))) for found in scores),
                " / ".join(f"{float(iqm(np.concatenate(found))):.3f}" for found in scores),
                _interval(estimate_difference(*scores), 3),
                "",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _chance(ours: Array, theirs: Array) -> float:
    """Return how likely as large a difference of means is if seeds are dealt out at random."""
    found = permutation_test(
        (ours, theirs), lambda one, other, axis: one.mean(axis) - other.mean(axis), rng=0
    )
    return float(found.pvalue)


def level_of(task: str) -> float:
    """Return the return of a task with the score `LEVEL`; NaN if it has no scores."""
    reference = reference_of(task)
    if reference is None or reference.reference is None:
        return math.nan
    return reference.random + LEVEL * (reference.reference - reference.random)


def table(groups: Groups) -> list[str]:
    """Return a table of all scenarios and agents, in Markdown."""
    header = (
        "task, observation, rates",
        "agent",
        "seeds",
        "training",
        "deterministic",
        "score",
        "worst rate",
        "noise 0.3",
        "30 % lost",
        "parameters",
        "synapses",
        "minutes",
        f"steps to {LEVEL:g}",
        f"minutes to {LEVEL:g}",
        "µs",
    )
    lines = [f"| {' | '.join(header)} |", f"|---|---|{'---:|' * (len(header) - 2)}"]
    for scenario, agents in groups.items():
        for name, rows in agents.items():
            final = estimate(rows, "deterministic_return")
            reference = reference_of(scenario.task)
            level = level_of(scenario.task)
            learned = list(filter(has_curve, rows))
            worst = known(rows, RATIOS).min(axis=1, initial=math.inf)
            cells = (
                scenario.title,
                name,
                str(len(rows)),
                _interval(estimate(rows, "training_return")),
                _interval(final),
                "" if reference is None else f"{reference.normalise(np.array(final.value)):.2f}",
                _number(float(iqm(worst)) if len(worst) else math.nan),
                *(_number(middle(rows, name)) for name in DISTURBED),
                *(_sizes(rows, name) for name in SIZES),
                _number(middle(rows, "cpu_seconds") / 60, 1),
                _median([row.steps_to(level) for row in learned]),
                _median([row.minutes_to(level) for row in learned], 1),
                _number(middle(rows, "microseconds")),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _interval(each: Estimate, digits: int = 0) -> str:
    """Return an estimate, with its interval if that means something."""
    if math.isnan(each.low) or each.runs < ENOUGH:
        return _number(each.value, digits)
    low, high = _number(each.low, digits), _number(each.high, digits)
    return f"{_number(each.value, digits)} ({low} to {high})"


def _sizes(rows: Sequence[Result], column: str) -> str:
    """Return the numbers of a column; a clock that is an input adds some."""
    return " or ".join(_number(each) for each in sorted({*known(rows, (column,))[:, 0]}))


def _number(value: float, digits: int = 0) -> str:
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def _median(values: Sequence[float], digits: int = 0) -> str:
    """Return the median; a dash where most values are infinite, nothing where there are none."""
    middle = float(np.median(values)) if values else math.nan
    return "–" if math.isinf(middle) else _number(middle, digits)


def main(arguments: Arguments) -> None:
    """Draw the figures, and replace the tables of the page."""
    rows = reported(read(arguments.table, Result))
    if not rows:
        raise SystemExit(f"{arguments.table} has no rows to report; run benchmarks/comparison.py")
    before, _, rest = arguments.page.read_text("utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{arguments.page} lacks the lines {BEGIN!r} and {END!r}")

    groups = grouped(rows)
    pictures = Pictures(groups)
    figures = {
        "returns": ("Deterministic returns of all agents", pictures.returns()),
        "curves": (
            "Learning curves of all agents",
            pictures.curves(
                lambda rows: rows[0].steps / 1e6, "control steps (millions)", value="linear"
            ),
        ),
        "minutes": (
            "Learning curves against the processor time of the training",
            pictures.curves(
                lambda rows: middle(rows, "cpu_seconds") / 60,
                "processor time (minutes)",
                value="log",
            ),
        ),
        "rates": (
            "Return against the control interval",
            pictures.conditions(RATIOS, "interval / nominal interval", log=True),
        ),
        "noise": (
            "Return against noise of the sensors",
            pictures.conditions(NOISE, "noise (running deviations of each sensor)"),
        ),
        "lost": (
            "Return against lost observations",
            pictures.conditions(LOST, "lost observations (%)"),
        ),
    }
    lines = [BEGIN, "", *differences(groups), "", *table(groups), ""]
    for name, (title, figure) in figures.items():
        file = f"comparison_{name}.png"
        figure.savefig(arguments.page.parent / file, dpi=110, metadata={"Software": None})
        lines += [f"![{title}]({file})", ""]
    arguments.page.write_text(before + "\n".join([*lines, END]) + after, "utf-8")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
