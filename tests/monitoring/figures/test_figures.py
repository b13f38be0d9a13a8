"""Figures show the data, with readable labels, and change no global settings."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise, product

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from liquid_control.agents.evaluation import Evaluation
from liquid_control.monitoring import colours, figures
from liquid_control.monitoring.analysis import listening
from liquid_control.monitoring.figures import CARD, PAGE, Layout
from liquid_control.monitoring.figures.plot_helpers import keep_apart, short
from liquid_control.monitoring.recording import Recording
from liquid_control.wiring import Wiring, dense, tap_withdrawal
from tests.monitoring.recordings import synthetic

Floats = npt.NDArray[np.float64]

SIZES = {  # neurons, actions, observations
    "smallest": (8, 1, 2),
    "HalfCheetah": (64, 6, 17),
    "Humanoid": (256, 17, 376),
}


def strengths(wiring: Wiring) -> tuple[Floats, Floats]:
    random = np.random.default_rng(0)
    return (
        wiring.sensory * random.lognormal(size=wiring.sensory.shape),
        wiring.recurrent * random.lognormal(size=wiring.recurrent.shape),
    )


def raster(recording: Recording, layout: Layout = PAGE) -> Figure:
    return figures.raster(recording, layout=layout)


def circuit_graph(recording: Recording, layout: Layout = PAGE) -> Figure:
    mean = recording.sensory.mean(axis=0), recording.activity.mean(axis=0)
    signed = strengths(recording.wiring)
    return figures.circuit_graph(recording.wiring, *signed, mean, layout=layout)


def time_constants(recording: Recording, layout: Layout = PAGE) -> Figure:
    assert recording.time_constants is not None
    slices = recording.wiring.layer_slices.items()
    layers = {layer: recording.time_constants[:, where] for layer, where in slices}
    return figures.time_constants(layers, interval=0.05, layout=layout)


def listening_map(recording: Recording, layout: Layout = PAGE) -> Figure:
    scores = 1e4 * recording.activity[0] if layout == PAGE else None
    return figures.listening_map(listening(recording), recording.wiring, scores, layout=layout)


def rates(recording: Recording, layout: Layout = PAGE) -> Figure:
    evaluations = {
        str(ratio): Evaluation(recording.rewards[:8] * ratio, 0.05 * ratio, 0.05)
        for ratio in (0.2, 0.5, 1, 1.01, 1.1, 2, 4)
    }
    return figures.rates(evaluations, "Task", evaluations["1"], layout=layout)


FIGURES = (raster, circuit_graph, time_constants, listening_map, rates)


def plotted_texts(figure: Figure) -> dict[Text, Bbox]:
    """Draw a figure, and return the extent of each text on it."""
    found: dict[Text, Bbox] = {}
    draw = Text.draw

    def note(text: Text, renderer: object) -> None:
        if text.get_visible() and text.get_text().strip():
            found[text] = text.get_window_extent(renderer)  # type: ignore[arg-type]
        draw(text, renderer)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        figure.draw_without_rendering()
    return found


def pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """The figure as (height, width, 3), the first row on top."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def assert_readable(figure: Figure, texts: dict[Text, Bbox]) -> None:
    assert len(texts) > 4
    for (one, box), (other, its_box) in combinations(texts.items(), 2):
        shared = Bbox.intersection(box, its_box)
        assert shared is None or min(shared.width, shared.height) < 0.5, (one, other)
    paper = figure.bbox.padded(1)
    for text, box in texts.items():
        assert paper.contains(box.x0, box.y0), text
        assert paper.contains(box.x1, box.y1), text
        assert text.get_fontsize() >= 8, text


@pytest.mark.parametrize(
    "size", ["smallest", pytest.param("HalfCheetah", marks=pytest.mark.slow), "Humanoid"]
)
@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("layout", [PAGE, CARD], ids=["page", "card"])
def test_labels_do_not_overlap_or_leave_the_figure(
    draw: Callable[[Recording, Layout], Figure], size: str, layout: Layout
) -> None:
    neurons, actions, observations = SIZES[size]
    figure = draw(synthetic(neurons, actions, 50, observations=observations), layout)
    assert_readable(figure, plotted_texts(figure))
    if layout == CARD:  # 350 pixels wide: letters of 8 points have 11 pixels
        assert figure.get_figwidth() == 3.5


def crowded(recording: Recording) -> Recording:
    """The same with layers of one neuron beside a large one, and with long names."""
    count = recording.wiring.neuron_count
    layers = {"inter": 1, "relay of all senses": 1, "command": count - 4, "out": 1, "motor": 1}
    wiring = Wiring(
        recording.wiring.sensory,
        recording.wiring.recurrent,
        motor_count=1,
        layers=tuple(layers.items()),
        neuron_names=tuple(f"{index} {'n' * 60}" for index in range(count)),
    )
    names = tuple(f"{index} {'n' * 60}" for index in range(recording.actions.shape[1]))
    return replace(recording, wiring=wiring, action_names=names, observation_names=names)


@cache
def plotted_crowd(
    draw: Callable[[Recording], Figure], neurons: int
) -> tuple[Figure, dict[Text, Bbox], Recording]:
    """A figure of a crowded recording, its texts, and the recording; drawing takes its time."""
    recording = crowded(synthetic(neurons, 6, 50, observations=6))
    figure = draw(recording)
    return figure, plotted_texts(figure), recording


@pytest.mark.parametrize(
    ("draw", "neurons"),
    [
        pytest.param(raster, 30, marks=pytest.mark.slow),
        (raster, 200),
        pytest.param(circuit_graph, 30, marks=pytest.mark.slow),
        (circuit_graph, 200),
        (time_constants, 200),
        pytest.param(listening_map, 30, marks=pytest.mark.slow),
        (listening_map, 200),
    ],
)
def test_long_names_and_tiny_layers_find_room(
    draw: Callable[[Recording], Figure], neurons: int
) -> None:
    figure, texts, _ = plotted_crowd(draw, neurons)
    assert_readable(figure, texts)


@pytest.mark.parametrize("draw", [raster, listening_map])
def test_layers_are_named_beside_their_panel(draw: Callable[[Recording], Figure]) -> None:
    _, texts, recording = plotted_crowd(draw, 200)
    named = [text for text in texts if text.get_text() in recording.wiring.layer_slices]
    assert [text.get_text() for text in named] == list(recording.wiring.layer_slices)
    for text in named:
        assert text.axes is not None
        panel = text.axes.bbox.padded(1)
        assert panel.containsy(texts[text].y0)
        assert panel.containsy(texts[text].y1)


@pytest.mark.parametrize(
    "draw",
    [
        each if each in (raster, rates) else pytest.param(each, marks=pytest.mark.slow)
        for each in FIGURES
    ],
)
def test_constant_signals_are_plotted_without_a_warning(
    draw: Callable[[Recording], Figure], recwarn: pytest.WarningsRecorder
) -> None:
    shown = pixels(draw(synthetic(8, 2, 50, observations=3, constant=True)))
    assert not recwarn.list
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 30


@pytest.mark.parametrize("draw", FIGURES)
def test_drawing_does_not_change_global_settings_or_the_recording(
    draw: Callable[[Recording], Figure],
) -> None:
    recording = synthetic(8, 2, 50, observations=3)
    before, settings = recording.activity.copy(), mpl.rcParams.copy()
    draw(recording).savefig(io.BytesIO())
    assert dict.__eq__(mpl.rcParams, settings)  # reading an entry may import pyplot
    assert np.array_equal(recording.activity, before)


# Raster


@pytest.mark.parametrize("actions", [2, 8])
def test_each_step_is_plotted_as_long_as_it_lasted(actions: int) -> None:
    times = np.array([0.0, 0.1, 1.0, 1.2, 2.0])
    active = np.array([1.0, -1.0, 0.0, 0.5])
    rows = np.random.default_rng(0).permuted(np.tile(active, (8, 1)), axis=1).T
    recording = synthetic(8, actions, 4, observations=3)
    recording = replace(recording, times=times, activity=rows, sensory=2 * rows[:, :3])
    figure = figures.raster(recording)
    image = pixels(figure).astype(int)
    for step, (begin, end) in enumerate(pairwise(times)):
        for time in (begin + 0.02, (begin + end) / 2, end - 0.02):
            for axes, row in product(figure.axes[:2], (0, 1, 2)):
                x, y = axes.transData.transform((time, row + 0.5))
                seen = image[len(image) - 1 - int(y), int(x)]
                assert np.abs(seen - colours.signed_colours(rows[step, row])).max() <= 2


def test_curves_are_held_from_step_to_step_at_physical_times() -> None:
    recording = synthetic(8, 3, 40, observations=3)
    *_, lanes, reward, intervals = figures.raster(recording).axes[:5]
    lasted = np.diff(recording.times)
    for axes, values in ((reward, recording.rewards / lasted), (intervals, 1e3 * lasted)):
        (line,) = axes.get_lines()
        assert line.get_drawstyle() == "steps-post"
        assert np.array_equal(line.get_xdata(), recording.times)
        assert np.array_equal(line.get_ydata()[:-1], values)
    assert len(lanes.get_lines()) == 3
    for lane, line in enumerate(lanes.get_lines()):
        upwards = lane + 0.5 - line.get_ydata()[:-1]
        assert np.corrcoef(upwards, recording.actions[:, lane])[0, 1] > 0.999
        assert np.abs(upwards).max() < 0.5


def test_the_axes_of_the_raster_name_their_units() -> None:
    *panels, intervals = figures.raster(synthetic(8, 3, 40)).axes[:5]
    assert intervals.get_xlabel() == "time since the episode began (s)"
    titles = [axes.get_title(loc="left") for axes in (*panels, intervals)]
    assert titles[3] == "reward rate (1/s)"
    assert titles[4].startswith("control interval (ms), median ")
    assert titles[0].endswith("inputs (no unit)")
    assert titles[1] == "neurons, activity (no unit)"
    assert "units of the task" in titles[2]


def test_a_constant_control_interval_is_a_line_in_the_middle_of_its_panel() -> None:
    recording = replace(synthetic(8, 3, 40), times=0.05 * np.arange(41))
    intervals = figures.raster(recording).axes[4]
    assert intervals.get_ylim() == pytest.approx((0, 100))
    assert intervals.get_title(loc="left") == "control interval (ms), median 50"


def test_a_span_shows_a_part_of_the_episode() -> None:
    recording = synthetic(8, 3, 40)
    assert figures.raster(recording).axes[0].get_xlim() == (0, recording.times[-1])
    assert figures.raster(recording, span=(0.2, 0.7)).axes[0].get_xlim() == (0.2, 0.7)


def test_the_scale_ends_at_one_or_where_the_values_do() -> None:
    recording = synthetic(8, 3, 400)
    recording = replace(recording, sensory=10 * recording.sensory / np.abs(recording.sensory).max())
    sensory, neurons = (axes.get_images()[0] for axes in figures.raster(recording).axes[:2])
    assert neurons.get_clim() == (-1, 1)
    low, high = sensory.get_clim()
    assert low == -high
    assert 5 < high <= 10


# Circuit


def lines_of(figure: Figure) -> LineCollection:
    (lines,) = [each for each in figure.axes[0].collections if isinstance(each, LineCollection)]
    return lines


def nodes_of(figure: Figure) -> PathCollection:
    (nodes,) = [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    return nodes


def test_every_synapse_is_a_line_between_its_neurons_the_strongest_on_top() -> None:
    recording = synthetic(20, 3, 10, observations=5)
    figure = circuit_graph(recording)
    lines, places = lines_of(figure), np.asarray(nodes_of(figure).get_offsets())
    matrix = np.concatenate(strengths(recording.wiring))
    assert len(lines.get_segments()) == recording.wiring.synapse_count
    plotted = []
    for segment in lines.get_segments():
        (source,) = np.flatnonzero(np.isclose(places, segment[0]).all(axis=1))
        (target,) = np.flatnonzero(np.isclose(places, segment[-1]).all(axis=1))
        plotted.append(matrix[source, target - recording.wiring.sensory_count])
        straight = np.allclose(segment[6], (segment[0] + segment[-1]) / 2)
        assert straight == (places[source, 0] < places[target, 0])
    assert sorted(plotted) == sorted(matrix[matrix != 0])
    assert (np.diff(np.abs(plotted)) >= 0).all()
    assert (np.diff(lines.get_linewidths()) >= 0).all()
    assert (np.diff(np.asarray(lines.get_colors())[:, 3]) >= 0).all()
    excites = np.array(plotted) > 0
    expected = np.where(excites[:, None], to_rgb(colours.EXCITATORY), to_rgb(colours.INHIBITORY))
    assert np.allclose(np.asarray(lines.get_colors())[:, :3], expected)
    solid = [pattern is None for _, pattern in lines.get_linestyles()]
    assert np.array_equal(solid, excites)


def test_neurons_are_coloured_by_activity_in_columns_by_layer() -> None:
    recording = synthetic(20, 3, 10, observations=5)
    nodes = nodes_of(circuit_graph(recording))
    mean = [recording.sensory.mean(axis=0), recording.activity.mean(axis=0)]
    assert np.allclose(nodes.get_array(), np.concatenate(mean))
    sizes = [5, *(size for _, size in recording.wiring.layers)]
    columns = np.asarray(nodes.get_offsets())[:, 0]
    assert np.array_equal(columns, np.repeat(np.arange(4), sizes))


def test_a_layer_may_be_called_like_the_sensory_neurons() -> None:
    ones, layers = np.ones((2, 3), dtype=int), (("sensory", 3),)
    wiring = Wiring(ones, np.eye(3, dtype=int), 1, layers, neuron_names=("a", "b", "c"))
    activity = np.zeros(2), np.zeros(3)
    figure = figures.circuit_graph(wiring, wiring.sensory, wiring.recurrent, activity)
    assert np.asarray(nodes_of(figure).get_offsets())[:, 0].tolist() == [0, 0, 1, 1, 1]


def test_arcs_within_a_layer_bow_right_downwards_and_left_upwards() -> None:
    recurrent = np.zeros((3, 3), dtype=int)
    recurrent[0, 2] = recurrent[2, 1] = recurrent[1, 1] = 1
    wiring = Wiring(np.ones((1, 3), dtype=int), recurrent, 1, (("command", 3),))
    figure = figures.circuit_graph(wiring, np.zeros((1, 3)), recurrent, (np.zeros(1), np.zeros(3)))
    bows = {}
    for segment in lines_of(figure).get_segments():
        up = np.sign(round(segment[-1, 1] - segment[0, 1], 9))
        bows[up] = segment[len(segment) // 2, 0] - segment[0, 0]
    assert bows[-1] > 0.1
    assert bows[1] < -0.1
    assert bows[0] > 0.05  # onto itself


def test_of_many_synapses_the_strongest_are_plotted_and_the_title_gives_their_number() -> None:
    wiring = dense(sensory=10, neurons=120, motor=4)
    signed = np.full((130, 120), -0.01)
    signed.flat[np.random.default_rng(0).permutation(signed.size)[:10_000]] = 2
    activity = np.zeros(10), np.zeros(120)
    figure = figures.circuit_graph(wiring, signed[:10], signed[10:], activity)
    plotted = np.asarray(lines_of(figure).get_colors())
    assert np.allclose(plotted[:, :3], to_rgb(colours.EXCITATORY))
    assert len(plotted) == len(lines_of(figure).get_segments()) == 10_000
    assert figure.get_suptitle().endswith("the strongest 10,000 of 15,600 synapses")


def test_a_circuit_without_any_strength_still_shows_its_neurons() -> None:
    wiring = tap_withdrawal()
    sensory, recurrent = np.zeros(wiring.sensory.shape), np.zeros(wiring.recurrent.shape)
    inputs, neurons = np.zeros(wiring.sensory_count), np.zeros(wiring.neuron_count)
    figure = figures.circuit_graph(wiring, sensory, recurrent, (inputs, neurons))
    assert len(lines_of(figure).get_segments()) == 0
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {*wiring.sensory_names, *wiring.neuron_names} <= texts


# Time constants


def test_histograms_count_every_value_and_mark_the_median() -> None:
    random = np.random.default_rng(0)
    layers = {name: random.uniform(0.01, 0.1 + n, (50, n + 2)) for n, name in enumerate("abc")}
    figure = figures.time_constants(layers, interval=0.05)
    for axes, values in zip(figure.axes, layers.values(), strict=True):
        (shares,) = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        heights, edges, _ = shares.get_data()
        shown = (values >= edges[0]) & (values <= edges[-1])
        assert heights.sum() == pytest.approx(100 * shown.mean())
        assert shown.mean() > 0.97
        median, interval = (line.get_xdata()[0] for line in axes.get_lines())
        assert median == np.median(values)
        assert interval == 0.05
        assert f"median {median:.3g} s" in axes.get_title(loc="left")
        assert axes.get_xscale() == "log"
    assert figure.axes[-1].get_xlabel() == "effective time constant (s)"


def test_panels_give_the_share_of_time_constants_beyond_the_axis() -> None:
    random = np.random.default_rng(0)
    inter = np.append(random.uniform(0.1, 0.3, 990), [1e-9] * 3 + [1e9] * 3 + [np.inf] * 4)
    figure = figures.time_constants({"inter": inter, "motor": [np.inf, np.inf]})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == f"inter: % of values, median {np.median(inter):.3g} s"
    assert titles[1] == "motor: % of values, median inf s"
    beyond = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert beyond == ["1.0 % beyond", "100.0 % beyond"]
    low, high = figure.axes[0].get_xlim()
    assert 0.001 < low < 0.1 < 0.3 < high < 10
    pixels(figure)


# What neurons listen to


@pytest.mark.parametrize("scored", [False, True])
def test_the_map_shows_correlations_and_scores(scored: bool) -> None:
    recording = synthetic(12, 3, 60, observations=5)
    found = listening(recording)
    scores = np.arange(12.0) - 4
    figure = figures.listening_map(found, recording.wiring, scores if scored else None)
    observations, actions = figure.axes[:2]
    for axes, values in ((observations, found.observations), (actions, found.actions)):
        (image,) = axes.get_images()
        assert np.array_equal(image.get_array(), values)
        assert image.get_clim() == (-1, 1)
        assert axes.get_ylim() == (12, 0)
    labels = [label.get_text() for label in observations.get_xticklabels()]
    assert labels == list(recording.observation_names)
    if scored:
        bars = figure.axes[2]
        assert [bar.get_width() for bar in bars.patches] == scores.tolist()
        assert [bar.get_y() + bar.get_height() / 2 for bar in bars.patches] == pytest.approx(
            np.arange(12) + 0.5
        )
        assert bars.get_xlabel() == "return lost\nat rest"


# Return against control rate


def evaluation(returns: npt.ArrayLike, ratio: float = 1.0) -> Evaluation:
    return Evaluation(np.asarray(returns, dtype=float), 0.05 * ratio, 0.05)


def test_the_band_contains_the_mean_and_shrinks_with_episodes() -> None:
    widths = []
    for times in (1, 4, 16):
        low, high = figures.confidence_band(np.tile([100.0, 300.0, 400.0, 1100.0], times))
        assert low < 475 < high
        widths.append(high - low)
    assert np.divide(widths[:-1], widths[1:]) == pytest.approx([2, 2], rel=0.2)


def test_the_band_is_that_of_the_normal_law_for_many_episodes() -> None:
    returns = np.random.default_rng(1).normal(100, 20, 1000)
    half = 1.96 * returns.std() / np.sqrt(1000)
    mean = returns.mean()
    assert figures.confidence_band(returns) == pytest.approx((mean - half, mean + half), abs=0.15)
    assert figures.confidence_band(returns) == figures.confidence_band(returns)


def test_rates_are_plotted_in_hertz_from_low_to_high() -> None:
    evaluations = {"2x": evaluation([1, 3], 2), "1x": evaluation([5, 9]), "4x": evaluation([0], 4)}
    (axes,) = figures.rates(evaluations, "Swimmer-v5", evaluation([2, 4, 9])).axes
    trained, curve = axes.get_lines()
    assert curve.get_xdata().tolist() == [5, 10, 20]
    assert curve.get_ydata().tolist() == [0, 2, 7]
    assert set(trained.get_ydata()) == {5}
    assert axes.get_xlabel().startswith("control rate (Hz)")
    assert axes.get_ylabel() == "mean return, 95 % bootstrap band"
    assert axes.get_title() == "Swimmer-v5"
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["5\n0.2 s\n4x", "10\n0.1 s\n2x", "20\n0.05 s\n1x"]


@pytest.mark.parametrize("trained", [None, evaluation([5])])
def test_a_single_episode_has_no_band(trained: Evaluation | None) -> None:
    assert np.isnan(figures.confidence_band(np.array([5.0]))).all()
    figure = figures.rates({"1x": evaluation([5])}, "Task", trained)
    blue, band = (np.array(to_rgb(colours.BLUE)) * 255, pixels(figure).reshape(-1, 3))
    assert (np.abs(band - blue).max(axis=1) < 3).any()  # the point
    pale = 0.2 * blue + 0.8 * 255
    assert not (np.abs(band - pale).max(axis=1) < 3).any()


def test_a_return_that_is_not_finite_leaves_a_gap() -> None:
    evaluations = {"1x": evaluation([1, 3]), "2x": evaluation([np.nan, 1], 2)}
    pixels(figures.rates(evaluations, "Task", None))


# Parts


def test_labels_are_kept_apart_in_their_order_and_else_left_where_they_are() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        positions = np.sort(random.uniform(0, 10, 6))
        apart = keep_apart(positions, 1.0)
        assert (np.diff(apart) > 1 - 1e-9).all()
        assert np.allclose(keep_apart(apart, 1.0), apart)
        assert abs(apart.mean() - positions.mean()) < 3
    assert np.array_equal(keep_apart([1, 2.5, 4], 1.0), [1, 2.5, 4])
    assert keep_apart([0, 0.1, 5, 9.9, 10], 1.0, 0.5, 9.5).tolist() == [0.5, 1.5, 5, 8.5, 9.5]


def test_long_names_keep_both_ends() -> None:
    assert short("abc", 3) == "abc"
    assert short("position of the left knee", 11) == "posit… knee"
