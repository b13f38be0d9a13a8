"""Figures of a study; a recipe has the same colour, line and marker in all of them.

Up to `MOST` recipes have different styles. Of more, only the `LEADING` best; the others are grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import blended_transform_factory

from liquid_control.monitoring.colours import DIVERGING, GREY, SERIES
from liquid_control.monitoring.figures.plot_helpers import MEDIUM, SMALL, WIDTH, short
from liquid_control.monitoring.report.page import number
from liquid_control.sweeps.analysis import LearningCurve, RateCurve, Reached
from liquid_control.sweeps.run_files import Array
from liquid_control.sweeps.statistics import FEW, Estimate

MOST = 2 * len(SERIES)
LEADING = len(SERIES)
PALE = "#b3b3b3"
MARKERS = "os^Dvp"
PANEL = 2.7  # inches: height of a panel
LETTERS = 36  # of a recipe's name
LEGEND_WIDTH = 95  # small letters in the width of a figure
SCALES = ((1e6, "millions"), (1e3, "thousands"), (1.0, ""))
CLOCKS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


@dataclass(frozen=True)
class Style:
    """The style of a variant: matplotlib's colour, line style and marker, and its short name."""

    label: str
    colour: str
    line: Literal["-", "--"]
    marker: str

    @property
    def handle(self) -> Line2D:
        """Its legend entry."""
        return Line2D(
            [],
            [],
            color=self.colour,
            linestyle=self.line,
            marker=self.marker,
            markersize=4,
            label=plain(self.label),
        )


def styles_of(variants: Sequence[str], shown: Sequence[str]) -> dict[str, Style]:
    """Return the styles of the variants in `shown`."""
    labels = labels_of(variants)
    return {
        name: Style(
            labels[name],
            SERIES[place % len(SERIES)],
            "-" if place < len(SERIES) else "--",
            MARKERS[place % len(MARKERS)],
        )
        for place, name in enumerate(each for each in variants if each in shown)
    }


def labels_of(names: Sequence[str]) -> dict[str, str]:
    """Return unique short labels of names."""
    labels: dict[str, str] = {}
    for place, name in enumerate(names):
        label = short(name, LETTERS)
        labels[name] = f"{place + 1}: {label}" if label in labels.values() else label
    return labels


def plain(text: str) -> str:
    """Return text that matplotlib shows in a legend, and does not parse as mathematics."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def learning_curves(
    curves: Mapping[str, Sequence[LearningCurve]], styles: Mapping[str, Style]
) -> Figure:
    """Draw interquartile means of the return against control steps, a panel for each task."""
    figure, panels = _panels(list(curves))
    for axes, (task, each) in zip(panels, curves.items(), strict=True):
        longest = max(
            (part[-1] for curve in each for part in _steps_in(curve) if len(part)), default=0.0
        )
        scale, unit = next((pair for pair in SCALES if longest >= pair[0]), SCALES[-1])
        for curve in sorted(each, key=lambda curve: curve.variant in styles):
            _draw_curve(axes, curve, styles.get(curve.variant), scale)
        axes.set_xlabel(f"control steps ({unit})" if unit else "control steps", fontsize=SMALL)
        axes.set_ylabel("return of training episodes", fontsize=SMALL)
        _from_zero(axes)
        if few := sum(curve.variant in styles and curve.runs < FEW for curve in each):
            recipes = "1 recipe" if few == 1 else f"{few} recipes"
            _note(axes, f"{recipes} with fewer than {FEW} seeds:\nsuch bands mean little")
        _title(axes, task)
    plotted = [curve for each in curves.values() for curve in each]
    entries = [Line2D([], [], color=PALE, linewidth=0.6, label="a run that is not finished")]
    _legend(figure, styles, plotted, entries if any(curve.others for curve in plotted) else ())
    return figure


def _steps_in(curve: LearningCurve) -> list[Array]:
    return [curve.steps, *(steps for steps, _ in curve.others)]


def _draw_curve(axes: Axes, curve: LearningCurve, style: Style | None, scale: float) -> None:
    colour = PALE if style is None else style.colour
    for steps, returns in curve.others:
        axes.plot(steps / scale, returns, color=colour, linewidth=0.6, alpha=0.7)
    if style is None:
        axes.plot(curve.steps / scale, curve.middle, color=colour, linewidth=0.7)
        return
    axes.fill_between(
        curve.steps / scale, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0
    )
    axes.plot(
        curve.steps / scale,
        curve.middle,
        color=colour,
        linestyle=style.line,
        linewidth=1.6,
        marker=style.marker,
        markersize=4,
        markevery=0.2 if len(curve.steps) > 1 else 1,
    )


def control_rates(curves: Mapping[str, Sequence[RateCurve]], styles: Mapping[str, Style]) -> Figure:
    """Draw interquartile means of the return against the control rate, a panel for each task.

    Hollow markers are the returns at the intervals of the training, at their mean rate.
    """
    figure, panels = _panels(list(curves))
    for axes, (task, each) in zip(panels, curves.items(), strict=True):
        hertz: dict[float, str] = {}
        for curve in (curve for curve in each if curve.variant in styles):
            _draw_rates(axes, curve, styles[curve.variant])
            hertz |= {
                1 / interval: name.removesuffix(" nominal")
                for interval, name in zip(curve.intervals, curve.names, strict=True)
            }
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
        ticks = _apart(sorted(hertz))
        axes.set_xticks(ticks, [f"{tick:.3g}\n{hertz[tick]}" for tick in ticks])
        axes.set_xlabel("control rate (Hz), and interval / nominal interval", fontsize=SMALL)
        axes.set_ylabel("mean return of an episode", fontsize=SMALL)
        _from_zero(axes)
        _title(axes, task)
    plotted = [curve for each in curves.values() for curve in each]
    entries = [_dot("o", "at the intervals of the training", hollow=True)]
    _legend(figure, styles, plotted, entries)
    return figure


def _draw_rates(axes: Axes, curve: RateCurve, style: Style) -> None:
    hertz = 1 / np.array(curve.intervals)
    middle, low, high = (
        np.array([getattr(each, end) for each in curve.estimates])
        for end in ("value", "low", "high")
    )
    axes.fill_between(hertz, low, high, color=style.colour, alpha=0.15, linewidth=0)
    axes.plot(
        hertz,
        middle,
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markersize=4,
        linewidth=1.4,
    )
    if np.isfinite(curve.trained_interval):
        axes.plot(
            1 / curve.trained_interval,
            curve.trained.value,
            marker=style.marker,
            markersize=7,
            markerfacecolor="none",
            color=style.colour,
            linestyle="none",
        )


def thresholds(
    results: Mapping[str, Sequence[Reached]],
    limits: Mapping[str, float],
    styles: Mapping[str, Style],
) -> Figure:
    """Draw steps and time until a return was reached: a dot for each run, a bar at the median."""
    shown = {
        task: [each for each in rows if each.variant in styles] for task, rows in results.items()
    }
    heights = [0.28 * max(len(rows), 1) + 0.9 for rows in shown.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.3), layout="constrained")
    panels = figure.subplots(
        len(shown), 2, squeeze=False, sharey="row", gridspec_kw={"height_ratios": heights}
    )
    for (left, right), (task, rows) in zip(panels, shown.items(), strict=True):
        times = np.concatenate([each.seconds for each in rows] or [np.empty(0)])
        steps = np.concatenate([each.steps for each in rows] or [np.empty(0)])
        step_scale, step_unit = next(
            (pair for pair in SCALES if _largest(steps) >= pair[0]), SCALES[-1]
        )
        _, clock, time_unit = next(each for each in CLOCKS if _largest(times) >= each[0])
        for row, each in enumerate(rows):
            style = styles[each.variant]
            _draw_dots(left, row, each.steps / step_scale, style)
            _draw_dots(right, row, each.seconds / clock, style)
            text = f"{each.successes} of {len(each.steps)}"
            edge = blended_transform_factory(right.transAxes, right.transData)
            right.text(1.02, row, text, transform=edge, fontsize=SMALL, va="center")
        left.set_yticks(range(len(rows)), [plain(styles[each.variant].label) for each in rows])
        left.set_ylim(max(len(rows), 1) - 0.5, -0.5)
        left.set_xlabel(f"control steps ({step_unit})" if step_unit else "control steps")
        right.set_xlabel(f"wall time of the training ({time_unit})")
        for axes in (left, right):
            axes.margins(x=0.05)
            axes.set_xlim(left=0)
            axes.grid(axis="x", alpha=0.3)
            axes.tick_params(labelsize=SMALL)
            axes.xaxis.label.set_size(SMALL)
        _title(left, f"{short(task, 34)}: return {number(limits[task])}")
        right.set_title("runs that reached it", loc="right", fontsize=SMALL)
    figure.legend(
        handles=[_dot("o", "a run"), _dot("|", "median of all runs")],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=SMALL,
    )
    return figure


def _largest(values: Array) -> float:
    return float(np.max(values[np.isfinite(values)], initial=0.0))


def _draw_dots(axes: Axes, row: int, values: Array, style: Style) -> None:
    known = values[np.isfinite(values)]
    axes.plot(
        known,
        np.full(len(known), row),
        color=style.colour,
        marker=style.marker,
        linestyle="none",
        alpha=0.6,
        markersize=5,
    )
    if len(values) and np.isfinite(middle := np.median(values)):
        axes.plot([middle, middle], [row - 0.35, row + 0.35], color=style.colour, linewidth=2.5)


def improvement_matrix(
    estimates: Mapping[tuple[str, str], Estimate],
    variants: Sequence[str],
    labels: Mapping[str, str],
) -> Figure:
    """Draw probabilities of improvement: of the recipe of a row over that of a column.

    They are bold where the interval excludes 0.5 and every task has three runs.
    """
    size = len(variants)
    figure = Figure(figsize=(WIDTH, 0.36 * size + 1.6), layout="constrained")
    axes = figure.subplots()
    values = np.full((size, size), np.nan)
    for row, ours in enumerate(variants):
        for column, theirs in enumerate(variants):
            estimate = estimates.get((ours, theirs))
            if estimate is None:
                continue
            values[row, column] = estimate.value
            sure = surely(estimate)
            axes.text(
                column,
                row,
                f"{estimate.value:.2f}",
                ha="center",
                va="center",
                fontsize=SMALL,
                fontweight="bold" if sure else "normal",
                color="white" if abs(estimate.value - 0.5) > 0.4 else "black",
            )
    axes.imshow(values, cmap=DIVERGING, vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(
        range(size),
        [f"{place + 1}  {plain(labels[each])}" for place, each in enumerate(variants)],
    )
    axes.set_xticks(range(size), [str(place + 1) for place in range(size)])
    axes.tick_params(labelsize=SMALL, length=0)
    axes.set_xlabel(
        "probability that the recipe of a row beats the recipe of a column", fontsize=SMALL
    )
    return figure


def surely(estimate: Estimate) -> bool:
    """Whether an interval of a probability, of three runs or more, excludes 0.5."""
    return (estimate.low > 0.5 or estimate.high < 0.5) and estimate.runs >= FEW


def _panels(tasks: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each task, two in a row."""
    columns = min(len(tasks), 2)
    rows = -(-len(tasks) // columns)
    height = PANEL if columns == 2 else 1.3 * PANEL
    figure = Figure(figsize=(WIDTH, height * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(tasks) :]:
        axes.remove()
    for axes in panels[: len(tasks)]:
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=SMALL)
    return figure, panels[: len(tasks)]


def _from_zero(axes: Axes) -> None:
    """Start the y axis at zero if all values are positive, so that ratios are true to scale."""
    if axes.dataLim.y0 >= 0 and np.isfinite(axes.dataLim.y1):
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(_in_full))


def _in_full(value: float, _: int | None = None) -> str:
    """Return a number of an axis without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _title(axes: Axes, text: str) -> None:
    axes.set_title(plain(short(text, 60)), loc="left", fontsize=MEDIUM)


def _note(axes: Axes, text: str) -> None:
    axes.text(
        0.98,
        0.03,
        text,
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=SMALL - 1,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
    )


def _legend(
    figure: Figure,
    styles: Mapping[str, Style],
    plotted: Sequence[LearningCurve | RateCurve],
    entries: Sequence[Line2D] = (),
) -> None:
    """Add a legend below the panels, with as many columns as fit.

    Args:
        figure: The figure.
        styles: Styles of the recipes that have one.
        plotted: All curves in the figure.
        entries: Additional entries.
    """
    names = {curve.variant for curve in plotted}
    handles = [style.handle for name, style in styles.items() if name in names]
    if grey := len(names - styles.keys()):
        handles.append(Line2D([], [], color=PALE, linewidth=0.7, label=f"{grey} others"))
    handles += entries
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=int(np.clip(LEGEND_WIDTH // (longest + 6), 1, max(len(handles), 1))),
        frameon=False,
        fontsize=SMALL,
    )


def _dot(marker: str, label: str, *, hollow: bool = False) -> Line2D:
    """Return an entry of a legend for dots or bars of any recipe."""
    entry = Line2D([], [], color=GREY, marker=marker, linestyle="none", label=label)
    entry.set(markerfacecolor="none" if hollow else GREY, markeredgewidth=2 if marker == "|" else 1)
    return entry


def _apart(hertz: Sequence[float]) -> list[float]:
    """Return the rates, ascending, whose tick labels do not overlap."""
    chosen: list[float] = []
    gap = (hertz[-1] / hertz[0]) ** 0.12 if hertz else 1.0
    for rate in hertz:
        if not chosen or rate > chosen[-1] * gap:
            chosen.append(rate)
    return chosen
