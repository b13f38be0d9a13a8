"""How fast neurons are: the distribution of their time constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from liquid_control.monitoring.colours import ELAPSED_TIME, layer_colours
from liquid_control.monitoring.figures.plot_helpers import MEDIUM, SMALL, WIDTH, label_above

_BINS = 48


def time_constants(layers: Mapping[str, npt.ArrayLike], *, interval: float | None = None) -> Figure:
    """Draw a histogram of each layer's effective time constants, with its median.

    Args:
        layers: For each, any number of time constants in seconds, all positive. The
            titles tell how many lie beyond the axis, such as infinite ones.
        interval: Seconds of the control interval, drawn for comparison.
    """
    values = {layer: np.ravel(np.asarray(each, dtype=float)) for layer, each in layers.items()}
    edges = _edges(np.concatenate([*values.values(), [interval or np.inf]]))
    figure = Figure(figsize=(WIDTH, 0.95 * len(layers) + 0.8), layout="constrained")
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
        label_above(
            axes,
            f"{layer}: share of values (%), median {median:.3g} s"
            + (f", {beyond:.1f} % beyond the axis" if beyond > 1e-6 else ""),
        )
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


def _edges(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return edges of bins around all but the strangest values, even on a logarithmic axis."""
    finite = values[np.isfinite(values)]
    low, middle, high = np.percentile(finite, (0.5, 50, 99.5)) if finite.size else (1.0, 1.0, 1.0)
    # Two decades at least, so that the axis has numbers to bear.
    return np.geomspace(min(low, middle / 10), max(high, middle * 10), _BINS + 1)
