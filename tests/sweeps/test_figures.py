"""Figures show what they are given, in the same colours, with units and true ratios."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from liquid_control.sweeps import figures
from liquid_control.sweeps.analysis import LearningCurve, RateCurve, Reached
from liquid_control.sweeps.figures import LEADING, MOST, labels_of, styles_of
from liquid_control.sweeps.statistics import Estimate

NAMES = ("ncp_ppo", "lstm_ppo", "dense_ppo")
LONG = [("a_long_name_" * 9)[:99] + str(index) for index in range(3)]
STEPS = np.linspace(0.0, 2e6, 9)


def learned(name: str, scale: float = 1.0, runs: int = 5, others: Any = ()) -> LearningCurve:
    middle = scale * np.sqrt(STEPS)
    return LearningCurve(name, STEPS, middle, 0.9 * middle, 1.1 * middle, runs, others)


def rated(name: str, values: Sequence[float]) -> RateCurve:
    estimates = tuple(Estimate(value, value - 1, value + 1, 5) for value in values)
    intervals = (0.025, 0.05, 0.1)
    names = ("0.5x nominal", "1x nominal", "2x nominal")
    return RateCurve(name, names, intervals, estimates, 0.06, Estimate(50.0, 40.0, 60.0, 5))


def reach(name: str, steps: Sequence[float]) -> Reached:
    return Reached(name, np.array(steps), np.array(steps) / 100)


def plotted(figure: Figure) -> bytes:
    """Draw a figure; a warning, such as of a label that does not fit, is an error."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=50)
    return file.getvalue()


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))]
    return [text for text in found if text]


def colour_in_legend(figure: Figure, label: str) -> Any:
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    return legend.get_lines()[labels.index(label)].get_color()


def test_a_recipe_has_the_same_colour_in_all_figures() -> None:
    styles = styles_of(NAMES, NAMES)
    assert len({style.colour for style in styles.values()}) == 3
    curves = figures.learning_curves({"T": [learned(name) for name in NAMES]}, styles)
    backwards = [rated(name, (1, 2, 3)) for name in reversed(NAMES)]
    rates = figures.control_rates({"T": backwards}, styles)
    dots = figures.thresholds({"T": [reach("lstm_ppo", [100.0, 200.0])]}, {"T": 5.0}, styles)
    for name, style in styles.items():
        for figure in (curves, rates):
            assert same_color(colour_in_legend(figure, name), style.colour)
            (axes,) = figure.axes
            assert any(same_color(line.get_color(), style.colour) for line in axes.lines)
    for axes in dots.axes:
        for line in axes.lines:
            assert same_color(line.get_color(), styles["lstm_ppo"].colour)


def test_up_to_twelve_recipes_are_told_apart() -> None:
    names = [f"trial-{index}" for index in range(MOST)]
    styles = styles_of(names, names)
    assert len({(style.colour, style.line) for style in styles.values()}) == MOST


def test_of_more_recipes_the_best_are_told_apart_and_the_others_grey() -> None:
    names = [f"trial-{index}" for index in range(60)]
    styles = styles_of(names, names[:LEADING])
    curves = [learned(name, 1 + index) for index, name in enumerate(names)]
    figure = figures.learning_curves({"T": curves}, styles)
    assert "54 others" in texts(figure)
    (axes,) = figure.axes
    assert len(axes.lines) == 60
    assert sum(line.get_color() == figures.PALE for line in axes.lines) == 54
    plotted(figure)


@pytest.mark.parametrize(
    ("values", "zero"), [((10, 20, 30), True), ((100, 101, 102), True), ((-9, -8, -7), False)]
)
def test_axes_begin_at_zero_where_returns_are_positive(
    values: tuple[float, ...], zero: bool
) -> None:
    style = styles_of(NAMES, NAMES)
    figure = figures.control_rates({"T": [rated("ncp_ppo", values)]}, style)
    (axes,) = figure.axes
    assert (axes.get_ylim()[0] == 0) == zero
    low, high = axes.get_ylim()
    assert low <= min(values)
    assert high >= max(values)


def test_rates_are_in_hertz_and_named_by_their_ratio() -> None:
    figure = figures.control_rates({"T": [rated("ncp_ppo", (1, 2, 3))]}, styles_of(NAMES, NAMES))
    (axes,) = figure.axes
    line = axes.lines[0]
    assert line.get_xdata() == pytest.approx([40, 20, 10])
    assert line.get_ydata() == pytest.approx([1, 2, 3])
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["10\n2x", "20\n1x", "40\n0.5x"]
    assert "(Hz)" in axes.get_xlabel()
    hollow = axes.lines[1]
    assert hollow.get_xdata() == pytest.approx([1 / 0.06])
    assert hollow.get_markerfacecolor() == "none"


def test_axes_have_units() -> None:
    styles = styles_of(NAMES, NAMES)
    (axes,) = figures.learning_curves({"T": [learned("ncp_ppo")]}, styles).axes
    assert axes.get_xlabel() == "control steps (millions)"
    assert axes.lines[0].get_xdata()[-1] == 2.0
    assert "return" in axes.get_ylabel()
    for steps, unit, clock in (
        (50.0, "control steps", "seconds"),
        (50_000.0, "control steps (thousands)", "minutes"),
        (5e6, "control steps (millions)", "hours"),
    ):
        figure = figures.thresholds({"T": [reach("ncp_ppo", [steps])]}, {"T": 5.0}, styles)
        left, right = figure.axes
        assert left.get_xlabel() == unit
        assert right.get_xlabel() == f"wall time of the training ({clock})"


def test_few_seeds_are_noted() -> None:
    styles = styles_of(NAMES, NAMES)
    few, many = learned("ncp_ppo", runs=2), learned("lstm_ppo", runs=3)
    noted, plain = (
        "\n".join(texts(figures.learning_curves({"T": curves}, styles)))
        for curves in ([few, many], [many])
    )
    assert "1 recipe with fewer than 3 seeds" in noted
    assert "fewer than" not in plain


def test_runs_that_are_not_finished_are_thin_lines() -> None:
    other = (np.array([0.0, 1e6]), np.array([1.0, 2.0]))
    figure = figures.learning_curves(
        {"T": [learned("ncp_ppo", others=(other,))]}, styles_of(NAMES, NAMES)
    )
    (axes,) = figure.axes
    thin, thick = axes.lines
    assert thin.get_ydata().tolist() == [1.0, 2.0]
    assert thin.get_linewidth() < thick.get_linewidth()
    assert "a run that is not finished" in texts(figure)


def test_medians_are_plotted_where_most_runs_reach_the_threshold() -> None:
    styles = styles_of(NAMES, NAMES)
    rows = [
        reach("ncp_ppo", [100.0, 300.0, np.inf]),
        reach("lstm_ppo", [100.0, np.inf, np.inf]),
        reach("dense_ppo", [np.inf]),
    ]
    figure = figures.thresholds({"T": rows}, {"T": 1234.0}, styles)
    left, _ = figure.axes
    bars = [line for line in left.lines if line.get_linewidth() > 2]
    (bar,) = bars
    assert list(bar.get_xdata()) == [300.0, 300.0]
    found = texts(figure)
    for text in ("2 of 3", "1 of 3", "0 of 1", "T: return 1,234"):
        assert text in found
    plotted(figure)


def test_probabilities_are_written_into_their_cells() -> None:
    sure, unsure = Estimate(0.9, 0.7, 1.0, 5), Estimate(0.1, 0.0, 0.3, 2)
    figure = figures.improvement_matrix(
        {("ncp_ppo", "lstm_ppo"): sure, ("lstm_ppo", "ncp_ppo"): unsure},
        NAMES[:2],
        labels_of(NAMES),
    )
    (axes,) = figure.axes
    cells = {text.get_position(): text for text in axes.texts}
    assert cells[1, 0].get_text() == "0.90"
    assert cells[1, 0].get_fontweight() == "bold"
    assert cells[0, 1].get_text() == "0.10"
    assert cells[0, 1].get_fontweight() == "normal"  # of two runs


@pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    "names",
    [
        LONG,
        ["_hidden", "__all__", "a", "$x^{", "$\\frac$", "\\alpha_{", "'<script>'", "a b", "%s{}"],
    ],
)
def test_any_names_can_be_plotted(names: list[str]) -> None:
    styles = styles_of(names, names)
    labels = labels_of(names)
    assert len(set(labels.values())) == len(names)
    curves = [learned(name, 1 + index) for index, name in enumerate(names)]
    task = names[0]
    learning = figures.learning_curves({task: curves, "T": curves}, styles)
    rates = figures.control_rates({task: [rated(name, (1, 2, 3)) for name in names]}, styles)
    dots = figures.thresholds({task: [reach(name, [1.0]) for name in names]}, {task: 5.0}, styles)
    estimate = Estimate(0.5, 0.4, 0.6, 5)
    pairs = {(one, other): estimate for one in names for other in names if one != other}
    for figure in (learning, rates, dots, figures.improvement_matrix(pairs, names, labels)):
        assert len(plotted(figure)) > 1000
    (legend,) = learning.legends
    assert len(legend.get_texts()) == len(names)


@pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("tasks", [1, 2, pytest.param(5, marks=pytest.mark.slow)])
def test_each_task_has_a_panel(tasks: int) -> None:
    styles = styles_of(NAMES, NAMES)
    names = [f"Task{index}-v0" for index in range(tasks)]
    learning = figures.learning_curves({name: [learned("ncp_ppo")] for name in names}, styles)
    rates = figures.control_rates({name: [rated("ncp_ppo", (1, 2, 3))] for name in names}, styles)
    dots = figures.thresholds(
        {name: [reach("ncp_ppo", [1.0])] for name in names}, dict.fromkeys(names, 1.0), styles
    )
    for figure, panels in ((learning, tasks), (rates, tasks), (dots, 2 * tasks)):
        assert len(figure.axes) == panels
        plotted(figure)
        width = figure.get_window_extent().width
        for text in chain.from_iterable(axes.texts for axes in figure.axes):
            assert text.get_window_extent().x1 <= width


@pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")
def test_a_task_without_told_apart_recipes_can_be_plotted() -> None:
    styles = styles_of(NAMES, NAMES[:1])
    plotted(figures.learning_curves({"T": [learned("lstm_ppo")]}, styles))
    plotted(figures.thresholds({"T": [reach("lstm_ppo", [1.0])]}, {"T": 1.0}, styles))
