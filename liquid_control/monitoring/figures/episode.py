"""A figure of one episode over physical time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liquid_control.monitoring.colours import ACTION, DIVERGING, ELAPSED_TIME, REWARD
from liquid_control.monitoring.figures.plot_helpers import (
    MEDIUM,
    PAGE,
    SMALL,
    WIDTH,
    Layout,
    colour_scale,
    label_above,
    limit_of,
    mark_layers,
    name_rows,
    wrapped,
)
from liquid_control.monitoring.recording import Recording

Array = npt.NDArray[Any]

_LANES = 6  # actions; more are plotted as a heat map
_LANE = 0.26  # inches
_CURVE = 0.75  # inches


def raster(
    recording: Recording, *, span: tuple[float, float] | None = None, layout: Layout = PAGE
) -> Figure:
    """Draw neurons, actions, reward and control intervals of an episode against physical time.

    The width of a step is its duration. Unknown rewards are omitted. The colour scales
    of sensory inputs and activity end at 1, or at the 99th percentile of their magnitude if they
    exceed 1.

    Args:
        recording: The episode.
        span: First and last second shown; by default the whole episode.
        layout: The size of the figure.
    """
    wiring = recording.wiring
    actions = recording.actions.shape[1]
    heights = [
        layout.height_of(wiring.sensory_count),
        layout.height_of(wiring.neuron_count),
        max(_LANE * actions, 0.45) if actions <= _LANES else layout.height_of(actions),
        *[_CURVE] * (2 if recording.is_rewarded else 1),
    ]
    figure = Figure(figsize=(layout.width, sum(heights) + 2.0), layout="constrained")
    sensory, neurons, acts, *reward, intervals = figure.subplots(
        len(heights), 1, sharex=True, height_ratios=heights
    )
    title = f"episode of {recording.duration:.3g} s, {recording.steps:,} steps"
    if reward:
        title += f", return {recording.total_reward:,.4g}"
    figure.suptitle(wrapped(title, layout.width), fontsize=MEDIUM)

    times = recording.times
    title = "sensory neurons, inputs (no unit)"
    _heat(sensory, title, times, recording.sensory, wiring.sensory_names, layout)
    title = "neurons, activity (no unit)"
    _heat(neurons, title, times, recording.activity, wiring.neuron_names, layout)
    mark_layers(neurons, wiring.layer_slices, heights[1])
    _draw_actions(acts, recording, layout)
    durations = np.diff(times)
    for axes in reward:
        label_above(axes, "reward rate (1/s)")
        _hold(axes, times, recording.rewards / durations, REWARD)
    typical = float(np.median(durations))
    label_above(intervals, f"control interval (ms), median {1e3 * typical:.3g}")
    _hold(intervals, times, 1e3 * durations, ELAPSED_TIME)
    # A constant interval is a line at half of the height.
    intervals.set_ylim(0, 1e3 * max(1.1 * durations.max(), 2 * typical))
    for axes in (*reward, intervals):
        axes.grid(alpha=0.3)
        axes.locator_params(axis="y", nbins=4)
        axes.tick_params(labelsize=SMALL)
    intervals.set_xlabel("time since the episode began (s)", fontsize=MEDIUM)
    intervals.set_xlim(span or (times[0], times[-1]))
    return figure


def compared_actions(recording: Recording, recomputed: Array) -> Figure:
    """Draw the actions of a robot's log and of the policy, and their difference.

    Args:
        recording: Of the log.
        recomputed: (T, actions), those of the policy.
    """
    times, names = recording.times, recording.action_names
    figure = Figure(figsize=(WIDTH, 0.75 * (len(names) + 1) + 0.9), layout="constrained")
    *panels, last = figure.subplots(len(names) + 1, 1, sharex=True)
    for axes, name, theirs, ours in zip(
        panels, names, recording.actions.T, recomputed.T, strict=True
    ):
        label_above(axes, f"{name}, in units of the task")
        _hold(axes, times, theirs, ACTION)
        axes.plot(times[:-1], ours, ".", markersize=2, color=REWARD)
    label_above(last, "largest difference, in units of the task")
    apart = np.abs(recording.actions.astype(np.float64) - recomputed)
    _hold(last, times, apart.max(axis=1), REWARD)
    for axes in (*panels, last):
        axes.grid(alpha=0.3)
        axes.locator_params(axis="y", nbins=3)
        axes.tick_params(labelsize=SMALL)
    last.set_xlabel("time (s); lines: the log, dots: the policy", fontsize=MEDIUM)
    last.set_xlim(times[0], times[-1])
    return figure


def _heat(
    axes: Axes,
    title: str,
    times: Array,
    values: Array,
    names: tuple[str, ...],
    layout: Layout,
    limit: float | None = None,
) -> None:
    """Draw (T, rows) values as colours."""
    limit = limit or limit_of(values)
    label_above(axes, title)
    edges = np.arange(len(names) + 1)
    axes.pcolorfast(times, edges, values.T, cmap=DIVERGING, vmin=-limit, vmax=limit)
    name_rows(axes, names, layout)
    colour_scale(axes, limit, beyond=bool((np.abs(values) > limit).any()))


def _draw_actions(axes: Axes, recording: Recording, layout: Layout) -> None:
    """Draw each action as a curve in its own lane, or many actions as colours."""
    actions, names, times = recording.actions, recording.action_names, recording.times
    limit = float(np.abs(actions).max()) or 1.0
    if len(names) > _LANES:
        _heat(axes, "actions, in units of the task", times, actions, names, layout, limit)
        return
    label_above(axes, f"actions, ±{limit:.3g} in units of the task")
    name_rows(axes, names, layout)
    middles = np.arange(len(names)) + 0.5
    axes.hlines(middles, times[0], times[-1], color="0.8", linewidth=0.8)
    # The axis points down: the first lane is at the top.
    _hold(axes, times, middles - 0.45 * actions / limit, ACTION)


def _hold(axes: Axes, times: Array, values: Array, colour: str) -> None:
    """Draw (T,) or (T, curves) values, each held from its time to the next of (T+1,)."""
    extended = np.concatenate([values, values[-1:]])
    axes.plot(times, extended, drawstyle="steps-post", color=colour, linewidth=1)
