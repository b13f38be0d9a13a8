"""A figure of the return against the control rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from liquid_control.agents.evaluation import Evaluation
from liquid_control.monitoring.colours import BLUE, VERMILION
from liquid_control.monitoring.figures.plot_helpers import (
    MEDIUM,
    PAGE,
    SMALL,
    Layout,
    reach_zero,
    wrapped,
)

_RESAMPLES = 2000
_NEAREST = 0.5  # inches, below which labels of ticks would overlap


def rates(
    evaluations: Mapping[str, Evaluation],
    task: str,
    trained: Evaluation | None,
    *,
    layout: Layout = PAGE,
) -> Figure:
    """Draw mean return against control rate, with the 95 % confidence band of the mean.

    Args:
        evaluations: Evaluations at fixed intervals.
        task: The title.
        trained: The evaluation at the training's intervals, plotted across all rates.
        layout: The size of the figure.
    """
    ordered = sorted(evaluations.values(), key=lambda each: -each.interval)
    hertz = [1 / each.interval for each in ordered]
    width, height = layout.plot
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    if trained is not None:
        axes.axhspan(*confidence_band(trained.returns), color=VERMILION, alpha=0.2, linewidth=0)
        axes.axhline(
            trained.mean, color=VERMILION, linestyle="--", label="at the intervals of the training"
        )
    bands = np.array([confidence_band(each.returns) for each in ordered]).reshape(-1, 2)
    axes.fill_between(hertz, *bands.T, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(hertz, [each.mean for each in ordered], "o-", color=BLUE, label="at a fixed interval")
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    named = dict(zip(hertz, ordered, strict=True))
    ticks = _apart(hertz, _NEAREST / (width - 1))
    labels = [
        f"{tick:.3g}\n{named[tick].interval:.3g} s\n{named[tick].ratio:.3g}x" for tick in ticks
    ]
    axes.set_xticks(ticks, labels)
    axes.tick_params(labelsize=SMALL)
    across = "control rate (Hz), interval, and its multiple of the nominal one"
    axes.set_xlabel(wrapped(across, width - 1), fontsize=MEDIUM)
    axes.set_ylabel(wrapped("mean return, 95 % bootstrap band", height - 1.7), fontsize=MEDIUM)
    axes.set_title(task, fontsize=MEDIUM)
    axes.grid(alpha=0.3)
    reach_zero(axes)
    columns = 2 if width > 5 else 1
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=SMALL)
    return figure


def confidence_band(returns: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the 95 % confidence interval of a mean, by percentile bootstrap.

    The seed of the resampling is fixed. For a single episode, both ends are NaN.
    """
    if len(returns) < 2:
        return np.nan, np.nan
    draws = np.random.default_rng(0).integers(len(returns), size=(_RESAMPLES, len(returns)))
    low, high = np.percentile(returns[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _apart(hertz: list[float], share: float) -> list[float]:
    """Return the rates, ascending, that are at least this share of the axis apart."""
    gap = (hertz[-1] / hertz[0]) ** share if hertz else 1.0
    chosen: list[float] = []
    for rate in hertz:
        if not chosen or rate > chosen[-1] * gap:
            chosen.append(rate)
    return chosen
