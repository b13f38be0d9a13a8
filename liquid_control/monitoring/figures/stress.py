"""Figures of a trained robot's loss of return under conditions and changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from liquid_control.monitoring.colours import SERIES
from liquid_control.monitoring.figures.control_rate import confidence_band
from liquid_control.monitoring.figures.plot_helpers import reach_zero, short

Array = npt.NDArray[np.float64]
BAND = "95 % bootstrap band"


def sweep(curves: Mapping[str, Mapping[float, Array]], label: str, task: str) -> Figure:
    """Draw the mean return against the severity of a condition, a line for each agent.

    Args:
        curves: returns (episodes,) at each value, by the name of the agent.
        label: of the horizontal axis.
        task: the title.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for (name, returns), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        values = sorted(returns)
        bands = np.array([confidence_band(returns[value]) for value in values])
        axes.fill_between(values, *bands.T, color=colour, alpha=0.2, linewidth=0)
        means = [returns[value].mean() for value in values]
        axes.plot(values, means, "o-", color=colour, label=short(name, 36))
    axes.set_xlabel(label)
    axes.set_ylabel(f"mean return, {BAND}")
    axes.set_title(task)
    axes.grid(alpha=0.3)
    reach_zero(axes)
    if len(curves) > 1:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def change(rates: Mapping[str, tuple[Array, Array]], windows: Sequence[str], title: str) -> Figure:
    """Draw returns per second before and after a change, and those of unchanged robots.

    Args:
        rates: (windows, episodes) with the change and without, by the name of the agent.
        windows: their names.
        title: of the figure.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(windows))
    width = 0.8 / max(len(rates), 1)
    for index, ((name, pair), colour) in enumerate(
        zip(rates.items(), _colours(len(rates)), strict=True)
    ):
        where = places - 0.4 + (index + 0.5) * width
        for found, marker, face, what in (
            (pair[0], "o", colour, "changed"),
            (pair[1], "s", "none", "not changed"),
        ):
            means = np.array([_mean(row) for row in found])
            bands = np.array([confidence_band(row[np.isfinite(row)]) for row in found])
            errors = np.nan_to_num(np.abs(bands - means[:, None]).T)
            axes.errorbar(
                where,
                means,
                errors,
                fmt=marker,
                color=colour,
                markerfacecolor=face,
                capsize=3,
                label=f"{short(name, 28)}, {what}",
            )
    axes.set_xticks(places, windows)
    axes.set_ylabel(f"return per second, {BAND}")
    axes.set_title(title)
    axes.grid(alpha=0.3, axis="y")
    reach_zero(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _colours(count: int) -> list[str]:
    return [SERIES[index % len(SERIES)] for index in range(count)]
