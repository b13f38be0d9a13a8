"""What neurons have to do with observations, actions and the return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from liquid_control.monitoring.analysis import Listening
from liquid_control.monitoring.colours import DIVERGING, layer_colours
from liquid_control.monitoring.figures.plot_helpers import (
    MEDIUM,
    NAMED,
    ROW,
    SMALL,
    WIDTH,
    colour_scale,
    height_of,
    mark_layers,
    name_rows,
    short,
)
from liquid_control.wiring import Wiring

Array = npt.NDArray[Any]


def listening_map(
    listening: Listening, wiring: Wiring, scores: npt.ArrayLike | None = None
) -> Figure:
    """Draw how each neuron goes with each observation and action, and what is lost without it.

    Args:
        listening: Correlations of the neurons of `wiring`.
        wiring: Names and layers.
        scores: (N,) return lost when the neuron is held at rest, drawn as bars.
    """
    height = height_of(wiring.neuron_count)
    widths = [3.4, max(0.75, ROW * listening.actions.shape[1]), 0.9]
    count = 2 if scores is None else 3
    figure = Figure(figsize=(WIDTH, height + 2.2), layout="constrained")
    panels = figure.subplots(1, count, sharey=True, width_ratios=widths[:count])
    _heat(panels[0], "observations", listening.observations, listening.observation_names)
    _heat(panels[1], "actions", listening.actions, listening.action_names)
    if scores is not None:
        _draw_scores(panels[2], wiring.layer_slices, np.asarray(scores))
    for axes in panels:
        name_rows(axes, wiring.neuron_names)
    mark_layers(panels[-1], wiring.layer_slices, height)
    colour_scale(
        list(panels), 1.0, "correlation", location="top", thickness=0.1 / height, shrink=0.5
    )
    return figure


def _heat(axes: Axes, title: str, values: Array, names: tuple[str, ...]) -> None:
    """Draw (N, columns) correlations as colours, and name the columns if there is room."""
    axes.pcolorfast(values, cmap=DIVERGING, vmin=-1, vmax=1)
    axes.set_title(title, fontsize=MEDIUM)
    if len(names) <= NAMED:
        axes.set_xticks(np.arange(len(names)) + 0.5, [short(name) for name in names], rotation=90)
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
