"""A figure of the circuit as a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from liquid_control.monitoring.colours import DIVERGING, EXCITATORY, INHIBITORY, layer_colours
from liquid_control.monitoring.figures.plot_helpers import (
    MEDIUM,
    PAGE,
    SMALL,
    Layout,
    colour_scale,
    limit_of,
    short,
    wrapped,
)
from liquid_control.wiring import Wiring

Floats = npt.NDArray[np.float64]

_MOST_SYNAPSES = 10_000  # plotted; more would overlap
_DASHES = (0, (3, 1.5))
_PAPER = {"facecolor": "white", "alpha": 0.75, "pad": 0.3, "edgecolor": "none"}
_NODE = 0.17  # height in inches of a neuron with a name
_REACH = 0.55  # of the longest arc, relative to the distance of columns


def circuit_graph(
    wiring: Wiring,
    sensory_strengths: npt.ArrayLike,
    recurrent_strengths: npt.ArrayLike,
    activity: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    layout: Layout = PAGE,
) -> Figure:
    """Draw the neurons of each layer as a column, and their synapses as lines from left to right.

    Synapses within a layer or to an earlier layer are arcs, right of the column if they lead down
    and left if they lead up. Stronger synapses have wider and darker lines, up to the 95th
    percentile. Only the strongest 10,000 synapses are plotted; the title gives their number.

    Args:
        wiring: The names and layers.
        sensory_strengths: (I, N) signed; zero where there is no synapse.
        recurrent_strengths: (N, N) signed, from row to column.
        activity: (I,) of sensory neurons and (N,) of the others, such as the mean of an episode.
        layout: The size of the figure.
    """
    columns = (("sensory", wiring.sensory_count), *wiring.layers)
    most = max(14, *(size for _, size in columns))
    height = _NODE * most if most <= layout.named else 2 * layout.unnamed[0] + 0.8
    figure = Figure(figsize=(layout.width, height + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_ylim(0, 1)

    places = np.concatenate([_column(x, size) for x, (_, size) in enumerate(columns)])
    strengths = np.concatenate([np.asarray(sensory_strengths), np.asarray(recurrent_strengths)])
    plotted = _draw_synapses(axes, places, strengths, layout)
    _draw_neurons(axes, places, np.concatenate([np.asarray(each) for each in activity]), height)
    _name_neurons(axes, places, columns, (*wiring.sensory_names, *wiring.neuron_names), layout)
    every = np.count_nonzero(strengths)
    synapses = f"{every:,}" if plotted == every else f"the strongest {plotted:,} of {every:,}"
    counts = f"{wiring.neuron_count:,} neurons and {wiring.sensory_count:,} sensory ones, "
    figure.suptitle(wrapped(f"{counts}{synapses} synapses", layout.width), fontsize=MEDIUM)
    return figure


def _column(x: int, size: int) -> Floats:
    """Return (size, 2) positions, from top to bottom."""
    return np.stack([np.full(size, float(x)), 1 - (np.arange(size) + 0.5) / size], axis=1)


def _draw_synapses(axes: Axes, places: Floats, strengths: Floats, layout: Layout) -> int:
    """Draw the synapses, the strongest on top, with a legend; return their number."""
    sources, targets = np.nonzero(strengths)
    order = np.argsort(np.abs(strengths[sources, targets]))[-_MOST_SYNAPSES:]
    sources, targets = sources[order], targets[order]
    signed = strengths[sources, targets]
    sensory = len(strengths) - strengths.shape[1]

    widest = float(np.percentile(np.abs(signed), 95)) if signed.size else 1.0
    shares = np.minimum(np.abs(signed) / widest, 1)
    crowd = max(0.2, min(1.0, (200 / max(len(signed), 1)) ** 0.4))
    colours = np.empty((len(signed), 4))
    colours[:, :3] = np.where((signed > 0)[:, None], to_rgb(EXCITATORY), to_rgb(INHIBITORY))
    colours[:, 3] = (0.12 + 0.78 * shares**1.5) * crowd
    axes.add_collection(
        LineCollection(
            list(_lines(places[sources], places[targets + sensory])),
            colors=list(colours),
            linewidths=(0.3 + 2.0 * shares) * crowd**0.6,
            linestyles=["-" if sign > 0 else _DASHES for sign in signed],
            capstyle="butt",
        )
    )
    axes.figure.legend(
        handles=[
            Line2D([], [], color=EXCITATORY, linewidth=2, label="excites"),
            Line2D([], [], color=INHIBITORY, linewidth=2, linestyle=_DASHES, label="inhibits"),
            Line2D([], [], color="none", label=f"widest line: strength ≥ {widest:.2g}"),
        ],
        loc="outside lower center",
        ncols=3 if layout.width > 5 else 2,
        frameon=False,
        fontsize=SMALL,
    )
    return len(signed)


def _lines(starts: Floats, ends: Floats, points: int = 13) -> Floats:
    """Return cubic Bezier curves (E, points, 2): straight lines to the right, arcs otherwise."""
    across, up = (ends - starts).T
    bow = np.where(up > 0, -1, 1) * _REACH * (0.2 + 0.8 * np.abs(up))
    bow[across > 0] = 0
    opening = np.where(up == 0, 0.025, 0.0) * (across == 0)  # a self-synapse is a loop
    first = starts + (ends - starts) / 3 + np.stack([bow, opening], axis=1)
    second = ends - (ends - starts) / 3 + np.stack([bow, -opening], axis=1)
    t = np.linspace(0, 1, points)[:, None]
    corners = np.stack([starts, first, second, ends], axis=1)
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    return np.asarray(weights @ corners)


def _draw_neurons(axes: Axes, places: Floats, activity: Floats, height: float) -> None:
    limit = limit_of(activity)
    _, sizes = np.unique(places[:, 0], return_counts=True)
    spacing = np.repeat(72 * height / sizes, sizes)  # points
    axes.scatter(
        places[:, 0],
        places[:, 1],
        s=np.clip(0.75 * spacing, 2.5, 9) ** 2,
        c=activity,
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        edgecolors="black",
        linewidths=np.clip(spacing / 15, 0.2, 0.8).tolist(),
        zorder=3,
    )
    colour_scale(
        axes,
        limit,
        "activity",
        beyond=bool(np.abs(activity).max() > limit),
        shrink=0.6,
    )


def _name_neurons(
    axes: Axes,
    places: Floats,
    columns: Sequence[tuple[str, int]],
    names: tuple[str, ...],
    layout: Layout,
) -> None:
    """Label each column, and its neurons if there is room."""
    letters = min(layout.letters, int((layout.width - 0.4) / len(columns) / 0.1))
    colours = layer_colours(layer for layer, _ in columns)
    first, last = 0, len(columns) - 1
    start = 0
    for column, (layer, size) in enumerate(columns):
        heading = f"{short(layer, letters)}\n{size:,}"
        axes.text(column, 1.035, heading, fontsize=SMALL, ha="center")
        ends = [column - 0.25, column + 0.25]
        axes.plot(ends, [1.02, 1.02], color=colours[layer], linewidth=4, clip_on=False)
        rows = slice(start, start + size if size <= layout.named else start)
        for place, name in zip(places[rows], names[rows], strict=True):
            axes.annotate(
                short(name, letters),
                place,
                (-7 if column == first else 7, 0),
                textcoords="offset points",
                ha="right" if column == first else "left",
                va="center",
                fontsize=SMALL,
                bbox=None if column in (first, last) else _PAPER,
            )
        start += size
