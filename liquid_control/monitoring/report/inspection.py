"""A report of a trained agent, as one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from liquid_control.agents.evaluation import TRAINED, Evaluation
from liquid_control.monitoring import figures
from liquid_control.monitoring.analysis import (
    Lesions,
    Listening,
    Smoothness,
    listening,
    saturated_share,
    smoothness,
)
from liquid_control.monitoring.colours import DIVERGING, layer_colours
from liquid_control.monitoring.recording import Recording
from liquid_control.monitoring.report.page import Cell, Chapter, Chip, Picture, Table, number, page
from liquid_control.neurons import Circuit
from liquid_control.wiring import Wiring

Array = NDArray[Any]

DPI = 120
OPEN_ROWS = 20  # of the table of neurons; other rows are folded
CLOSE_UP = 5  # seconds
LISTED = 3  # observations listed for each neuron


def report_on(
    task: str,
    circuit: Circuit,
    recording: Recording,
    *,
    film: bytes | None = None,
    lesions: Lesions | None = None,
    evaluations: Mapping[str, Evaluation] = MappingProxyType({}),
    trained: Evaluation | None = None,
    learning: tuple[Array, Array] | None = None,
    facts: Mapping[str, str] = MappingProxyType({}),
    settings: Mapping[str, object] = MappingProxyType({}),
) -> str:
    """Return a page about a trained agent, with pictures, tables and written summaries.

    Sections without data are omitted.

    Args:
        task: The title.
        circuit: The actor's circuit.
        recording: An episode of that circuit.
        film: An animated GIF of the episode or its beginning.
        lesions: Returns without each neuron.
        evaluations: Evaluations at fixed control intervals, by name.
        trained: The evaluation at the training's intervals.
        learning: Control steps (rows,) and the training's mean return after them (rows,).
        facts: Additional entries of the page's header.
        settings: The settings of the training, by dotted name.

    Returns:
        HTML that needs no other file.
    """
    chapters = [
        _episode(recording, circuit, film),
        _circuit(recording, circuit),
        *_time_constants(recording),
        _neurons(recording, lesions),
        *_control_rates(task, evaluations, trained),
        *_learning(task, learning),
    ]
    caution = (
        "This report describes one agent of one training. With another seed, other neurons may "
        "take these roles."
    )
    summary = Chapter("In short", [*(chapter.points[0] for chapter in chapters), caution])
    return page(
        title=task,
        subtitle="The robot's behaviour, and the neurons that produce it.",
        facts={**_facts(recording, circuit), **facts},
        chapters=[summary, *chapters, *_settings(settings)],
    )


def _facts(recording: Recording, circuit: Circuit) -> dict[str, str]:
    wiring = recording.wiring
    parameters = sum(each.numel() for each in circuit.parameters() if each.requires_grad)
    return {
        "Neurons": f"{wiring.neuron_count} {type(circuit).__name__}: {_layers(wiring)}",
        "Senses": f"{wiring.sensory_count} sensory neurons",
        "Synapses": number(wiring.synapse_count),
        "Parameters of the circuit": number(parameters),
    }


def _episode(recording: Recording, circuit: Circuit, film: bytes | None) -> Chapter:
    smooth = smoothness(recording)
    saturated = saturated_share(recording, *circuit.activity_range())
    points = [
        (
            f"In the episode shown, it gains a return of {number(recording.total_reward)} in "
            f"{number(recording.duration)} s and {number(recording.steps)} control steps."
        ),
        _smoothness_in_words(smooth),
        (
            f"{_percent(saturated)} of its neurons stay near a bound of their activity for most of "
            "the episode; such neurons transmit little."
        ),
    ]
    pictures = [_film(film)] if film is not None else []
    pictures.append(_raster(recording))
    return Chapter("One episode", points, pictures)


def _smoothness_in_words(smooth: Smoothness) -> str:
    if smooth.fluctuation == 0:
        return "Its actions never change."
    return (
        f"Its actions swing at {number(smooth.mean_weighted_frequency)} Hz, by the mean of their "
        f"spectrum, and move by {number(smooth.fluctuation)}, in the units of the task, from one "
        "step to the next."
    )


def _film(gif: bytes) -> Picture:
    with Image.open(BytesIO(gif)) as film:
        count, still = getattr(film, "n_frames", 1), BytesIO()
        seconds = count * film.info.get("duration", 0) / 1000
        film.seek(count // 2)
        film.convert("RGB").save(still, "png")
    return Picture(
        "The robot and its neurons",
        gif,
        "gif",
        f"Film of {number(seconds)} s in {count} pictures: the robot on the left; on the right the "
        "activity of its neurons, its actions and the elapsed time scroll by in step.",
        "The robot moves in real time. The vertical line in the strips next to it marks the "
        "current time: neurons that change colour just before a joint moves may drive it.",
        still.getvalue(),
    )


def _raster(recording: Recording) -> Picture:
    """Plot the beginning of an episode, so that single steps are visible."""
    wiring, intervals = recording.wiring, 1000 * np.diff(recording.times)
    liveliest = wiring.neuron_names[int(recording.activity.std(axis=0).argmax())]
    end = min(CLOSE_UP, recording.duration)
    steps = int((recording.times[:-1] < end).sum())
    return Picture(
        "Neurons, actions and reward",
        _figure_webp(figures.raster(recording, span=(0, end))),
        "webp",
        f"Raster of {wiring.sensory_count} sensory and {wiring.neuron_count} other neurons over "
        f"the first {number(end)} s, {number(steps)} control steps. Over the episode, activity "
        f"lies {_span(recording.activity)}, and {liveliest} moves most. Below, "
        f"{recording.actions.shape[1]} actions {_span(recording.actions)}, a reward "
        f"{_span(recording.rewards)} for each step, and control intervals {_span(intervals)} ms.",
        "Each row is a neuron and time runs to the right; warm is activity above zero, cool below. "
        "Rows that flicker in step with the actions at the bottom take part in the movement, rows "
        "of one colour do not. Periodic rows correspond to the robot's gait, or to its corrections "
        "of balance.",
    )


def _circuit(recording: Recording, circuit: Circuit) -> Chapter:
    wiring = recording.wiring
    sensory, recurrent = (each.detach().cpu().numpy() for each in circuit.synapse_strengths())
    weights = np.diff(recording.times) / recording.duration
    activity = weights @ recording.sensory, weights @ recording.activity
    strengths = np.concatenate([sensory, recurrent])
    sources = wiring.sensory_names + wiring.neuron_names
    source, target = np.unravel_index(int(np.abs(strengths).argmax()), strengths.shape)
    excite, inhibit = int((strengths > 0).sum()), int((strengths < 0).sum())
    possible = (wiring.sensory_count + wiring.neuron_count) * wiring.neuron_count
    strongest = (
        f"The strongest leads from {sources[source]} to {wiring.neuron_names[target]}, with a "
        f"strength of {number(float(strengths[source, target]))}."
    )
    points = [
        (
            f"{wiring.neuron_count} neurons receive {number(wiring.synapse_count)} synapses from "
            f"{wiring.sensory_count} sensory neurons and each other, "
            f"{_percent(wiring.synapse_count / possible)} of all possible ones: "
            f"{number(excite)} excite and {number(inhibit)} inhibit."
        ),
        strongest,
    ]
    picture = Picture(
        "Who talks to whom",
        _figure_webp(figures.circuit_graph(wiring, sensory, recurrent, activity)),
        "webp",
        f"Graph of {wiring.sensory_count} sensory neurons, then {_layers(wiring)}, with "
        f"{number(excite)} synapses that excite and {number(inhibit)} that inhibit. {strongest}",
        "Signals run from the senses on the left to the motor neurons on the right; arcs stay "
        "within a layer or lead back. The wider a line, the stronger the synapse; the colour of a "
        "neuron is its mean activity in the episode.",
    )
    return Chapter("The circuit", points, [picture])


def _time_constants(recording: Recording) -> Iterator[Chapter]:
    constants = recording.time_constants
    if constants is None:
        return
    interval = recording.duration / recording.steps
    slices = recording.wiring.layer_slices
    layers = {name: constants[:, part].ravel() for name, part in slices.items()}
    low, high = np.percentile(constants, (25, 75), method="nearest")
    medians = "; ".join(
        f"{name} {number(float(np.median(values)))} s, {_span(values)} s"
        for name, values in layers.items()
    )
    points = [
        (
            f"Half of the time constants lie from {number(float(low))} to {number(float(high))} s; "
            f"a control step lasts {number(interval)} s on average."
        ),
        (
            "A neuron with a long time constant remembers; one whose time constant is shorter than "
            "a control step follows its inputs at once."
        ),
    ]
    picture = Picture(
        "How fast each layer moves",
        _figure_webp(figures.time_constants(layers, interval=interval)),
        "webp",
        f"Histograms of the effective time constants of each layer, median and range: {medians}.",
        "Each neuron counts once for every step of the episode, as its inputs change its time "
        "constant. Bars to the right of the control interval are memory.",
    )
    yield Chapter("Time constants", points, [picture])


def _neurons(recording: Recording, lesions: Lesions | None) -> Chapter:
    correlations = listening(recording)
    scores = None if lesions is None else lesions.scores
    points = [_correlations_in_words(correlations)]
    if lesions is not None:
        points = [*_lesions_in_words(lesions, correlations.neuron_names), *points]
    picture = Picture(
        "What each neuron listens to",
        _figure_webp(figures.listening_map(correlations, recording.wiring, scores)),
        "webp",
        f"Correlations of {len(correlations.neuron_names)} neurons with "
        f"{len(correlations.observation_names)} observations and "
        f"{len(correlations.action_names)} actions. {' '.join(points)}",
        "Warm: the neuron rises and falls with what the column names; cool: it does the opposite. "
        "A correlation does not imply a synapse, as the robot's body also couples the signals.",
    )
    tables = _tables(recording, correlations, lesions)
    return Chapter("What each neuron does", points, [picture, *tables])


def _correlations_in_words(correlations: Listening) -> str:
    together = np.concatenate([correlations.observations, correlations.actions], axis=1)
    neuron, what = np.unravel_index(int(np.abs(together).argmax()), together.shape)
    names = correlations.observation_names + correlations.action_names
    return (
        f"The strongest correlation is that of {correlations.neuron_names[neuron]} with "
        f"{names[what]}, {_signed(together[neuron, what])}."
    )


def _lesions_in_words(lesions: Lesions, names: Sequence[str]) -> Iterator[str]:
    scores, errors = lesions.scores, _standard_errors(lesions)
    intact, worst = float(lesions.intact.mean()), int(scores.argmax())
    if scores[worst] > 0:
        yield (
            f"Held at rest, {names[worst]} costs most: the mean return falls from "
            f"{number(intact)} to {number(intact - float(scores[worst]))}."
        )
    else:
        yield f"No neuron costs return when held at rest; the mean return is {number(intact)}."
    episodes = lesions.intact.size
    if episodes == 1:
        yield "Each neuron was held at rest in one episode only, so chance may have a large part."
        return
    sure = int((scores > 2 * errors).sum())
    yield (
        f"Each neuron was held at rest in {episodes} episodes: {sure} of {len(names)} neurons cost "
        "more than twice the standard error of their loss. The largest of many losses is biased "
        "upwards; expect less in new episodes."
    )


def _standard_errors(lesions: Lesions) -> Array:
    """Return standard errors of the scores, (neurons,), from differences of paired episodes."""
    losses = lesions.intact - lesions.lesioned
    episodes = lesions.intact.size
    if episodes == 1:
        return np.full(len(losses), np.nan)
    errors: Array = losses.std(axis=1, ddof=1) / np.sqrt(episodes)
    return errors


def _tables(
    recording: Recording, correlations: Listening, lesions: Lesions | None
) -> Iterator[Table]:
    """Yield tables with a row for each neuron, sorted by the loss of return."""
    order = list(range(len(correlations.neuron_names)))
    columns: dict[str, Sequence[Cell]] = {
        "neuron": correlations.neuron_names,
        "layer": _layer_chips(recording.wiring),
    }
    if lesions is not None:
        order = np.argsort(-lesions.scores, kind="stable").tolist()
        columns["return lost at rest"] = lesions.scores.tolist()
        columns["± standard error"] = _standard_errors(lesions).tolist()
    columns["listens most to"] = [
        _ties(row, correlations.observation_names, LISTED) for row in correlations.observations
    ]
    columns["moves most with"] = [
        _ties(row, correlations.action_names, 1) for row in correlations.actions
    ]
    if recording.time_constants is not None:
        medians = np.median(recording.time_constants, axis=0)
        columns["time constant (s)"] = medians.tolist()
    rows = [[column[neuron] for column in columns.values()] for neuron in order]
    caption = (
        "Numbers behind names are correlations over the episode; the time constant is the median."
    )
    if lesions is not None:
        caption = f"The neurons that cost most come first. {caption}"
    yield Table("The neurons one by one", tuple(columns), rows[:OPEN_ROWS], caption)
    if others := rows[OPEN_ROWS:]:
        yield Table(f"The other {len(others)} neurons", tuple(columns), others, folded=True)


def _layer_chips(wiring: Wiring) -> list[tuple[Chip]]:
    colours = layer_colours(name for name, _ in wiring.layers)
    return [(Chip(name, colours[name]),) for name, size in wiring.layers for _ in range(size)]


def _ties(correlations: Array, names: Sequence[str], count: int) -> tuple[Chip, ...]:
    """Return the strongest correlations, with their names and colours."""
    strongest = np.argsort(-np.abs(correlations), kind="stable")[:count]
    return tuple(
        Chip(
            f"{names[index]} {_signed(correlations[index])}",
            to_hex(DIVERGING((correlations[index] + 1) / 2)),
        )
        for index in strongest
        if correlations[index] != 0
    )


def _control_rates(
    task: str, evaluations: Mapping[str, Evaluation], trained: Evaluation | None
) -> Iterator[Chapter]:
    named = dict(evaluations) if trained is None else {TRAINED: trained, **evaluations}
    if not named:
        return
    table = Table(
        "Return of an episode at each control rate",
        ("", "interval (s)", "rate (Hz)", "episodes", "mean return", "95 % from", "to", "std"),
        [_rate_row(name, each) for name, each in named.items()],
        "The mean of all possible episodes lies between the two bounds with 95 % confidence, by "
        "bootstrap over the episodes; std is the standard deviation between episodes.",
    )
    points = [_rates_in_words(named)]
    picture = Picture(
        "Return against control rate",
        _figure_webp(figures.rates(evaluations, task=task, trained=trained)),
        "webp",
        "Mean return against control rate: "
        + "; ".join(_achieved(name, each) for name, each in named.items())
        + ".",
        "The control rate rises to the right, and higher returns are better; the bands are the "
        "confidence intervals of the mean. A flat curve means that the rate hardly matters.",
    )
    yield Chapter("Control rate", points, [picture, table])


def _rate_row(name: str, each: Evaluation) -> list[str | float]:
    low, high = figures.confidence_band(each.returns)
    episodes = len(each.returns)
    return [name, each.interval, 1 / each.interval, episodes, each.mean, low, high, each.deviation]


def _rates_in_words(evaluations: Mapping[str, Evaluation]) -> str:
    best, worst = (by(evaluations, key=lambda name: evaluations[name].mean) for by in (max, min))
    if best == worst:
        return f"It reaches {_achieved(best, evaluations[best])}."
    (_, high), (low, _) = (
        figures.confidence_band(evaluations[name].returns) for name in (worst, best)
    )
    doubt = "" if high < low else " With so few episodes, the difference is not significant."
    return (
        f"Best is {_achieved(best, evaluations[best])}, and worst is "
        f"{_achieved(worst, evaluations[worst])}.{doubt}"
    )


def _achieved(name: str, each: Evaluation) -> str:
    episodes = len(each.returns)
    return (
        f"a mean return of {number(each.mean)} at {number(1 / each.interval)} Hz ({name}, "
        f"{episodes} episode{'s' if episodes > 1 else ''})"
    )


def _learning(task: str, learning: tuple[Array, Array] | None) -> Iterator[Chapter]:
    if learning is None or not np.isfinite(learning[1]).any():
        return
    steps, returns = (column[np.isfinite(learning[1])] for column in learning)
    best, last = int(returns.argmax()), len(returns) - 1
    reached, highest = (
        f"{number(float(returns[row]))} after {number(int(steps[row]))}" for row in (last, best)
    )
    point = (
        f"The mean return of training episodes was {reached} control steps; the highest was "
        f"{highest}."
    )
    picture = Picture(
        "Learning curve",
        _figure_webp(figures.learning_curve(*learning, task)),
        "webp",
        f"Mean return of training episodes against control steps. {point}",
        "Training episodes contain the noise with which the agent explores; evaluations do not.",
    )
    yield Chapter("Learning", [point], [picture])


def _settings(settings: Mapping[str, object]) -> Iterator[Chapter]:
    if settings:
        rows = [(name, str(value)) for name, value in settings.items()]
        table = Table(f"All {len(rows)} settings", ("setting", "value"), rows, folded=True)
        yield Chapter("Settings", parts=[table])


def _layers(wiring: Wiring) -> str:
    return ", ".join(f"{size} {name}" for name, size in wiring.layers)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _span(values: Array) -> str:
    return f"from {number(float(values.min()))} to {number(float(values.max()))}"


def _signed(correlation: float) -> str:
    return f"{correlation:+.2f}".replace("-", "−")


def _figure_webp(figure: Figure) -> bytes:
    """Return a lossless WebP, half the size of a PNG for figures with many lines."""
    file = BytesIO()
    figure.savefig(file, format="webp", dpi=DPI, pil_kwargs={"lossless": True})
    return file.getvalue()
