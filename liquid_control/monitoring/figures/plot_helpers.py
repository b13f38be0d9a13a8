"""Helpers of the figures: sizes, labels, rows of neurons, colour scales of signed values.

Sizes are in inches and points, as in matplotlib. Letters have at least 8 points, and figures have
one of two widths, so that they stay readable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from liquid_control.monitoring.colours import DIVERGING, layer_colours

WIDTH = 7.2
SMALL, MEDIUM = 8, 9  # points: names, and labels of axes
ROW = 0.15  # height of a row with a name in small letters
LETTER = 0.55 / 72  # mean width of a letter, relative to its points


@dataclass(frozen=True)
class Layout:
    """The size of a figure.

    Attributes:
        width: Of a figure with many panels or names.
        plot: Width and height of a figure with a single plot.
        named: Most rows or columns that have names.
        unnamed: Least and greatest height of rows without names.
        letters: Most letters of a name.
    """

    width: float
    plot: tuple[float, float]
    named: int
    unnamed: tuple[float, float]
    letters: int

    def height_of(self, rows: int) -> float:
        """Return the height of a heat map, at least `ROW` for each named row."""
        if rows <= self.named:
            return max(ROW * rows, 0.6)
        low, high = self.unnamed
        return float(np.clip(0.01 * low * rows, low, high))

    def name(self, name: str) -> str:
        """Shorten a name to at most `letters` letters."""
        return short(name, self.letters)


PAGE = Layout(WIDTH, (6.4, 4.0), named=40, unnamed=(3.0, 6.0), letters=22)
"""For a page, readable on a phone in landscape orientation."""

CARD = Layout(3.5, (3.5, 2.9), named=12, unnamed=(1.0, 2.0), letters=11)
"""For a card of TensorBoard, which displays images 350 pixels wide."""


def wrapped(text: str, inches: float, points: int = MEDIUM) -> str:
    """Break a text into lines of at most this width."""
    return fill(text, max(int(inches / (LETTER * points)), 1))


def short(name: str, letters: int = 22) -> str:
    """Replace the middle of a long name by an ellipsis."""
    tail = (letters - 1) // 2
    return name if len(name) <= letters else f"{name[: letters - 1 - tail]}…{name[-tail:]}"


def keep_apart(
    positions: npt.ArrayLike, gap: float, low: float = -np.inf, high: float = np.inf
) -> npt.NDArray[np.float64]:
    """Separate ascending positions by at least `gap`, within bounds, moving them minimally."""
    lags = gap * np.arange(np.size(positions))
    slack = np.clip(np.asarray(positions, dtype=np.float64) - lags, low, high - lags[-1])
    pushed_up = np.maximum.accumulate(slack)
    pushed_down = np.minimum.accumulate(slack[::-1])[::-1]
    return np.asarray((pushed_up + pushed_down) / 2 + lags)


def label_above(axes: Axes, text: str) -> None:
    """Write the label of the y axis above a panel, to save width."""
    axes.set_title(text, loc="left", fontsize=MEDIUM)


def name_rows(axes: Axes, names: Sequence[str], layout: Layout) -> None:
    """Place row 0 at the top, and label the rows if there is room."""
    axes.set_ylim(len(names), 0)
    if len(names) <= layout.named:
        axes.set_yticks(np.arange(len(names)) + 0.5, [layout.name(name) for name in names])
    else:
        axes.set_yticks([])
    axes.tick_params(axis="y", length=0, labelsize=SMALL)


def mark_layers(axes: Axes, layers: Mapping[str, slice], height: float) -> None:
    """Mark the rows of each layer on the right of a panel of the given height."""
    rows = max(where.stop for where in layers.values())
    middles = [(where.start + where.stop) / 2 for where in layers.values()]
    gap = 1.5 * SMALL / 72 * rows / height
    places = keep_apart(middles, gap, gap / 2, rows - gap / 2)
    edge = axes.get_yaxis_transform()
    beside = edge + ScaledTranslation(5 / 72, 0, axes.figure.dpi_scale_trans)
    for (layer, colour), place in zip(layer_colours(layers).items(), places, strict=True):
        where = layers[layer]
        strip = Line2D([1, 1], [where.start, where.stop], transform=beside, clip_on=False)
        strip.set(color=colour, linewidth=6, solid_capstyle="butt")
        axes.add_artist(strip)
        axes.annotate(
            layer, (1, place), (11, 0), edge, "offset points", va="center", fontsize=SMALL
        )
        if where.start:
            axes.axhline(where.start, color="black", linewidth=0.6)


def limit_of(values: npt.NDArray[Any]) -> float:
    """Return the magnitude at which a colour scale of signed values ends.

    It is 1 if no magnitude exceeds 1, else their 99th percentile, to be robust to outliers.
    """
    magnitudes = np.abs(values[np.isfinite(values)])
    if magnitudes.size == 0 or magnitudes.max() <= 1:
        return 1.0
    return max(1.0, float(np.percentile(magnitudes, 99)))


def colour_scale(
    axes: Axes | Sequence[Axes],
    limit: float,
    label: str = "",
    *,
    location: str = "right",
    thickness: float = 0.03,
    shrink: float = 1.0,
    beyond: bool = False,
) -> None:
    """Add the colour bar of signed values between -limit and limit.

    Args:
        axes: The axes that it describes.
        limit: The magnitude with the strongest colour.
        label: The label of the bar.
        location: The side of the axes.
        thickness: Thickness of the bar, as a share of the axes.
        shrink: Length of the bar, as a share of the axes.
        beyond: Whether values exceed the limit; the bar then has pointed ends.
    """
    first = axes if isinstance(axes, Axes) else axes[0]
    bar = first.figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), DIVERGING),
        ax=axes,
        location=location,
        fraction=thickness,
        shrink=shrink,
        extend="both" if beyond else "neither",
    )
    bar.ax.set_box_aspect(None)
    bar.set_ticks([-limit, 0, limit], labels=[f"{value:.2g}" for value in (-limit, 0, limit)])
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def reach_zero(axes: Axes) -> None:
    """Extend the vertical axis of plotted curves to zero."""
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.0), max(high, 0.0))
