"""Pictures of learning curves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liquid_control.monitoring.colours import SERIES

COLOURS = SERIES


@contextmanager
def picture(path: Path, title: str, x: str, y: str) -> Iterator[Axes]:
    """Yield axes for labelled curves, then write the figure to a file."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    yield axes
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
