"""Reports state the given results, and omit sections without data."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liquid_control.agents.evaluation import Evaluation
from liquid_control.monitoring.analysis import Lesions, listening
from liquid_control.monitoring.recording import Recording
from liquid_control.monitoring.report import inspection
from liquid_control.monitoring.report.inspection import report_on
from liquid_control.monitoring.report.page import number
from liquid_control.neurons import LTC
from tests.monitoring.recordings import synthetic
from tests.monitoring.report import pages

CHAPTERS = [
    "In short",
    "One episode",
    "The circuit",
    "Time constants",
    "What each neuron does",
    "Control rate",
    "Learning",
    "Settings",
]
NEURONS = 30


def film(pictures: int = 5) -> bytes:
    file = BytesIO()
    first, *others = (Image.new("RGB", (40, 16), (20 * index, 0, 0)) for index in range(pictures))
    first.save(file, "gif", save_all=True, append_images=others, duration=80, loop=0)
    return file.getvalue()


def lesions(neurons: int = NEURONS, episodes: int = 8) -> Lesions:
    """Neuron k costs 10 k in the mean, and neuron 4 costs 1,000."""
    losses = 10.0 * np.arange(neurons)
    losses[4] = 1000
    spread = np.linspace(-40, 40, episodes) if episodes > 1 else np.zeros(1)
    intact = 2700 + 5 * spread
    return Lesions(intact, intact - losses[:, None] - spread)


def evaluations(means: tuple[float, ...] = (2000.0, 3000.0, 1000.0)) -> dict[str, Evaluation]:
    spread = np.linspace(-50, 50, 20)
    ratios = (0.5, 1.0, 2.0)[: len(means)]
    return {
        f"{ratio:g}x nominal": Evaluation(mean + spread, 0.05 * ratio, 0.05)
        for ratio, mean in zip(ratios, means, strict=True)
    }


def inspect(recording: Recording, **found: Any) -> tuple[pages.Element, dict[str, pages.Element]]:
    """The page about a recording, which is sound, and its chapters."""
    circuit = LTC(recording.wiring, time_scale=0.05)
    page = pages.check(report_on("Snake", circuit, recording, **found))
    return page, {each.all("h2")[0].text: each for each in page.all("section")}


@pytest.fixture(scope="module")
def recording() -> Recording:
    return synthetic(neurons=NEURONS, steps=100)


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Skip plotting, which takes most of the time; the options of each figure."""
    calls: list[dict[str, Any]] = []
    for figure in (
        "raster",
        "circuit_graph",
        "time_constants",
        "listening_map",
        "rates",
        "learning_curve",
    ):
        monkeypatch.setattr(inspection.figures, figure, lambda *_, **options: calls.append(options))
    monkeypatch.setattr(inspection, "_figure_webp", lambda figure: film())
    return calls


@pytest.fixture(scope="module")
def whole(recording: Recording) -> tuple[pages.Element, dict[str, pages.Element]]:
    """The report of an agent with all optional data."""
    return inspect(
        recording,
        film=film(),
        lesions=lesions(),
        evaluations=evaluations(),
        trained=evaluations((2500.0,))["0.5x nominal"],
        learning=(np.array([1024, 2048, 4096]), np.array([np.nan, 700.0, 600.0])),
        facts={"Seed": "7"},
        settings={"agent.n_steps": 256, "env.interval": None},
    )


def table(chapter: pages.Element, index: int = 0) -> list[list[str]]:
    return pages.rows(chapter.all("table")[index])


def test_a_report_contains_all_given_data(whole: Any, recording: Recording) -> None:
    page, chapters = whole
    assert list(chapters) == CHAPTERS
    (facts,) = page.all("dl")
    stated = dict(
        zip((e.text for e in facts.all("dt")), (e.text for e in facts.all("dd")), strict=True)
    )
    layers = "15 inter, 9 command, 6 motor"
    assert stated["Neurons"] == f"30 LTC: {layers}"
    assert stated["Synapses"] == str(recording.wiring.synapse_count)
    assert stated["Seed"] == "7"
    assert layers in chapters["The circuit"].all("img")[0].attributes["alt"]
    assert table(chapters["Settings"]) == [["agent.n_steps", "256"], ["env.interval", "None"]]


def test_the_summary_repeats_what_each_chapter_says_first(whole: Any) -> None:
    _, chapters = whole
    summary, *others = (chapter.all("li") for chapter in chapters.values())
    assert [each.text for each in summary[:-1]] == [each[0].text for each in others if each]
    assert "one agent of one training" in summary[-1].text


def test_pictures_show_something_and_lose_nothing(whole: Any) -> None:
    page, _ = whole
    moving, *still = map(pages.image, page.all("img"))
    assert moving == film()
    assert len(still) == 6
    for image in still:
        assert image[12:16] == b"VP8L"  # how a WebP begins from which nothing was left out
        with Image.open(BytesIO(image)) as picture:
            assert 500 < picture.width < 1200
            assert len(picture.convert("RGB").getcolors(picture.width * picture.height)) > 20


def test_the_film_is_the_one_given_with_a_still_for_those_who_want_no_motion(whole: Any) -> None:
    _, chapters = whole
    picture, *_ = chapters["One episode"].all("picture")
    (moving,), (still,) = picture.all("img"), picture.all("source")
    assert pages.image(moving) == film()
    assert "0.4 s in 5 pictures" in moving.attributes["alt"]
    with Image.open(BytesIO(pages.image(still, "srcset"))) as shown:
        assert shown.convert("RGB").getpixel((0, 0)) == (40, 0, 0)


@pytest.mark.parametrize(("scale", "end", "steps"), [(0.5, None, 100), (2, 5, None)])
def test_the_first_seconds_of_an_episode_are_drawn(
    scale: float, end: int | None, steps: int | None, recording: Recording, unplotted: list[Any]
) -> None:
    longer = replace(recording, times=scale * recording.times)
    _, chapters = inspect(longer)
    assert unplotted[0]["span"] == (0, end or longer.duration)
    (picture,) = chapters["One episode"].all("img")
    steps = steps or int((longer.times < 5).sum())
    assert f"{steps} control steps" in picture.attributes["alt"]


def test_the_learning_curve_is_put_in_words(whole: Any) -> None:
    _, chapters = whole
    (point,) = chapters["Learning"].all("li")
    assert "was 600 after 4,096 control steps" in point.text
    assert "highest was 700 after 2,048" in point.text


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("returns", [[], [np.nan, np.nan]])
def test_without_returns_there_is_no_learning_curve(
    returns: list[float], recording: Recording
) -> None:
    _, chapters = inspect(recording, learning=(np.arange(len(returns)), np.array(returns)))
    assert "Learning" not in chapters


def test_neurons_are_listed_by_what_is_lost_without_them(whole: Any, recording: Recording) -> None:
    _, chapters = whole
    names = recording.wiring.neuron_names
    first, others = (table(chapters["What each neuron does"], index) for index in (0, 1))
    assert len(first) == 20
    assert [row[0] for row in first + others] == [
        names[4],
        *(names[index] for index in reversed(range(NEURONS)) if index != 4),
    ]
    worst, runner_up, *_ = first
    error = number(np.linspace(-40, 40, 8).std(ddof=1) / np.sqrt(8))
    assert worst[1:4] == ["inter", "1,000", error]
    assert runner_up[1:4] == ["motor", "290", error]


def test_a_neuron_is_said_to_listen_to_what_it_goes_with_most(
    whole: Any, recording: Recording
) -> None:
    _, chapters = whole
    worst, *_ = table(chapters["What each neuron does"])
    correlations = listening(recording).observations[4]
    strongest = np.argsort(-np.abs(correlations))[:3]
    expected = " ".join(f"joint {index} {correlations[index]:+.2f}" for index in strongest)
    assert worst[4] == expected.replace("-", "−")
    assert worst[6] == number(float(np.median(recording.time_constants[:, 4])))


def test_the_largest_lesion_score_is_reported_with_its_error(whole: Any) -> None:
    _, chapters = whole
    price, doubt, *_ = (each.text for each in chapters["What each neuron does"].all("li"))
    assert price == ("Held at rest, inter_4 costs most: the mean return falls from 2,700 to 1,700.")
    assert "in 8 episodes: 28 of 30 neurons cost more than twice the standard error" in doubt


@pytest.mark.usefixtures("unplotted")
def test_lesions_of_one_episode_are_reported_as_uncertain(recording: Recording) -> None:
    _, chapters = inspect(recording, lesions=lesions(episodes=1))
    assert "one episode only" in chapters["What each neuron does"].text
    assert {row[3] for row in table(chapters["What each neuron does"])} == {"—"}


@pytest.mark.usefixtures("unplotted")
def test_no_neuron_is_named_if_none_costs_return(recording: Recording) -> None:
    harmless = Lesions(np.full(4, 10.0), np.full((NEURONS, 4), 11.0))
    _, chapters = inspect(recording, lesions=harmless)
    first, *_ = chapters["What each neuron does"].all("li")
    assert first.text == "No neuron costs return when held at rest; the mean return is 10."


def test_each_control_rate_has_a_row_and_the_best_is_named(whole: Any) -> None:
    _, chapters = whole
    chapter = chapters["Control rate"]
    rows = table(chapter)
    assert [row[0] for row in rows] == ["as trained", "0.5x nominal", "1x nominal", "2x nominal"]
    assert rows[2][1:5] == ["0.05", "20", "20", "3,000"]
    low, high = (float(each.replace(",", "")) for each in rows[2][5:7])
    assert 2950 < low < 3000 < high < 3050
    (said,) = (each.text for each in chapter.all("li"))
    assert "Best is a mean return of 3,000 at 20 Hz (1x nominal, 20 episodes)" in said
    assert "worst is a mean return of 1,000 at 10 Hz (2x nominal, 20 episodes)" in said
    assert "tell the two apart" not in said


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("episodes", [1, 20])
def test_insignificant_differences_of_rates_are_reported_as_such(
    recording: Recording, episodes: int
) -> None:
    near = {
        name: replace(each, returns=each.returns[:episodes])
        for name, each in evaluations((2000.0, 2010.0)).items()
    }
    _, chapters = inspect(recording, evaluations=near)
    assert (
        "With so few episodes, the difference is not significant" in chapters["Control rate"].text
    )


@pytest.mark.usefixtures("unplotted")
def test_sections_without_data_are_omitted(recording: Recording) -> None:
    page, chapters = inspect(replace(recording, time_constants=None))
    missing = {"Time constants", "Control rate", "Learning", "Settings"}
    assert list(chapters) == [name for name in CHAPTERS if name not in missing]
    header = [each.text for each in chapters["What each neuron does"].all("th")[:4]]
    assert header == ["neuron", "layer", "listens most to", "moves most with"]
    assert "at rest" not in page.text
    assert len(page.all("img")) == 3


@pytest.mark.usefixtures("unplotted")
def test_constant_actions_are_reported_without_nan() -> None:
    still = synthetic(neurons=8, actions=1, steps=20, constant=True)
    page, chapters = inspect(still)
    assert "Its actions never change." in chapters["One episode"].text
    assert "nan" not in page.all("main")[0].text.lower()
    assert {row[2] for row in table(chapters["What each neuron does"])} == {""}


@pytest.mark.usefixtures("unplotted")
def test_infinite_time_constants_are_reported(recording: Recording) -> None:
    constants = np.full_like(recording.time_constants, np.inf)
    constants[:, 0] = 0.1
    _, chapters = inspect(replace(recording, time_constants=constants))
    assert "from ∞ to ∞ s" in chapters["Time constants"].text
    rows = table(chapters["What each neuron does"])
    assert [row[-1] for row in rows[:2]] == ["0.1", "∞"]


@pytest.mark.usefixtures("unplotted")
def test_a_report_of_a_small_circuit_is_sound() -> None:
    small = synthetic(neurons=8, actions=1, steps=200, observations=2)
    _, chapters = inspect(small, lesions=lesions(8))
    assert len(table(chapters["What each neuron does"])) == 8
    assert len(chapters["What each neuron does"].all("table")) == 1


@pytest.mark.slow
def test_a_report_of_a_large_circuit_is_sound_and_small() -> None:
    large = synthetic(neurons=256, actions=17, steps=200, observations=376)
    circuit = LTC(large.wiring, time_scale=0.05)
    html = report_on("Snake", circuit, large, lesions=lesions(256))
    _, folded = pages.check(html).all("table")
    assert len(pages.rows(folded)) == 256 - 20
    assert len(html) < 3e6
