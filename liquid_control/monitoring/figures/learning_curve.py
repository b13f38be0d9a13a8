"""A figure of the return during a training."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from liquid_control.monitoring.colours import BLUE
from liquid_control.monitoring.figures.plot_helpers import reach_zero


def learning_curve(steps: NDArray[Any], returns: NDArray[Any], task: str) -> Figure:
    """Draw the mean return of recent training episodes against the control steps of a training.

    Args:
        steps: (rows,).
        returns: (rows,); NaN leaves a gap.
        task: The title.
    """
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, returns, color=BLUE)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("control steps")
    axes.set_ylabel("mean return of training episodes")
    axes.set_title(task)
    axes.grid(alpha=0.3)
    reach_zero(axes)
    return figure
