"""Figures of neurons: time constants, correlations and lesion scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from liquid_control.monitoring.analysis import Listening
from liquid_control.monitoring.colours import DIVERGING, ELAPSED_TIME, layer_colours
from liquid_control.monitoring.figures.plot_helpers import (
    MEDIUM,
    PAGE,
    ROW,
    SMALL,
    Layout,
    colour_scale,
    label_above,
    mark_layers,
    name_rows,
)
from liquid_control.wiring import Wiring

Array = npt.NDArray[Any]

_BINS = 48


def time_constants(
    layers: Mapping[str, npt.ArrayLike],
    *,
    interval: float | None = None,
    layout: Layout = PAGE,
) -> Figure:
    """Draw a histogram of each layer's effective time constants, with its median.

    Args:
        layers: Positive time constants of each layer, in seconds. A panel gives the share beyond
            the axis, such as infinite ones.
        interval: The control interval in seconds, plotted for comparison.
        layout: The size of the figure.
    """
    values = {layer: np.ravel(np.asarray(each, dtype=float)) for layer, each in layers.items()}
    edges = _edges(np.concatenate([*values.values(), [interval or np.inf]]))
    figure = Figure(figsize=(layout.width, 0.95 * len(layers) + 0.8), layout="constrained")
    panels = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (layer, colour) in zip(panels, layer_colours(layers).items(), strict=True):
        each = values[layer]
        shares = 100 * np.histogram(each, edges)[0] / each.size
        axes.stairs(shares, edges, fill=True, color=colour)
        median = float(np.median(each))
        axes.axvline(median, color="black", label="median")
        if interval is not None:
            axes.axvline(interval, color=ELAPSED_TIME, linestyle="--", label="control interval")
        beyond = 100 - shares.sum()
        label_above(axes, f"{layout.name(layer)}: % of values, median {median:.3g} s")
        if beyond > 1e-6:
            text = f"{beyond:.1f} % beyond"
            axes.text(0.99, 0.78, text, transform=axes.transAxes, ha="right", fontsize=SMALL)
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", nbins=3)
        axes.tick_params(labelsize=SMALL)
        axes.grid(alpha=0.3)
        axes.set_xscale("log")
        axes.minorticks_off()
    panels[-1].xaxis.set_major_formatter("{x:g}")
    panels[-1].set_xlim(edges[0], edges[-1])
    panels[-1].set_xlabel("effective time constant (s)", fontsize=MEDIUM)
    handles = panels[0].get_lines()
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL
    )
    return figure


def _edges(values: Array) -> npt.NDArray[np.float64]:
    """Return logarithmic bin edges around all values except outliers."""
    finite = values[np.isfinite(values)]
    low, middle, high = np.percentile(finite, (0.5, 50, 99.5)) if finite.size else (1.0, 1.0, 1.0)
    # At least two decades, so that the axis has tick labels.
    return np.geomspace(min(low, middle / 10), max(high, middle * 10), _BINS + 1)


def listening_map(
    listening: Listening,
    wiring: Wiring,
    scores: npt.ArrayLike | None = None,
    *,
    layout: Layout = PAGE,
) -> Figure:
    """Draw correlations of neurons with observations and actions, and lesion scores.

    Args:
        listening: The correlations.
        wiring: The names and layers.
        scores: (N,) loss of return with each neuron held at rest, plotted as bars.
        layout: The size of the figure.
    """
    height = layout.height_of(wiring.neuron_count)
    widths = [0.47 * layout.width, max(0.75, ROW * listening.actions.shape[1]), 0.9]
    count = 2 if scores is None else 3
    figure = Figure(figsize=(layout.width, height + 2.2), layout="constrained")
    panels = figure.subplots(1, count, sharey=True, width_ratios=widths[:count])
    for axes, title, values, names in (
        (panels[0], "observations", listening.observations, listening.observation_names),
        (panels[1], "actions", listening.actions, listening.action_names),
    ):
        _heat(axes, title, values, names, layout)
    if scores is not None:
        _draw_scores(panels[2], wiring.layer_slices, np.asarray(scores))
    for axes in panels:
        name_rows(axes, wiring.neuron_names, layout)
    mark_layers(panels[-1], wiring.layer_slices, height)
    colour_scale(
        list(panels), 1.0, "correlation", location="top", thickness=0.1 / height, shrink=0.5
    )
    return figure


def _heat(axes: Axes, title: str, values: Array, names: tuple[str, ...], layout: Layout) -> None:
    """Draw (N, columns) correlations as colours, and label the columns if there is room."""
    axes.pcolorfast(values, cmap=DIVERGING, vmin=-1, vmax=1)
    axes.set_title(title, fontsize=MEDIUM)
    if len(names) <= layout.named:
        labels = [layout.name(name) for name in names]
        axes.set_xticks(np.arange(len(names)) + 0.5, labels, rotation=90)
    else:
        axes.set_xticks([])
    axes.tick_params(axis="x", length=0, labelsize=SMALL)


def _draw_scores(axes: Axes, layers: Mapping[str, slice], scores: Array) -> None:
    """Draw (N,) scores as bars in the colours of the layers."""
    for layer, colour in layer_colours(layers).items():
        rows = np.arange(len(scores))[layers[layer]]
        axes.barh(rows + 0.5, scores[rows], height=0.8, color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title("lesion", fontsize=MEDIUM)
    axes.set_xlabel("return lost\nat rest", fontsize=SMALL)
    axes.locator_params(axis="x", nbins=2)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(axis="x", labelsize=SMALL)
