"""Reports of made-up studies: what they say, in both formats, and what they must never do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liquid_control.recipes import CommandError
from liquid_control.sweeps import chapters
from liquid_control.sweeps.reading import read_study
from liquid_control.sweeps.report import StudyReport, report_on_study, write_report
from liquid_control.sweeps.results import read_results
from tests.monitoring.report import pages
from tests.sweeps.studies import write_json, write_run, write_study

pytestmark = pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")

EVIL = "<script>alert(1)<|script><img src=x onerror=alert(2)>"


def reported(folder: Path, limits: Mapping[str, float] | None = None) -> StudyReport:
    """The report of a study, whose page must be sound."""
    report = report_on_study(read_study(folder), limits or {})
    pages.check(report.html())
    return report


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the figures white, for tests of words: drawing takes most of the time."""
    picture = BytesIO()
    Image.new("RGB", (1080, 40), "white").save(picture, "png")
    monkeypatch.setattr(chapters, "drawn", lambda _: picture.getvalue())


def table(report: StudyReport, title: str) -> list[list[str]]:
    """The cells of a table of the page, by the beginning of its title."""
    page = pages.read(report.html())
    headings = {each.attributes.get("id"): each.text for each in page.all("h3", "summary")}
    (found,) = [
        each
        for each in page.all("div")
        if headings.get(each.attributes.get("aria-labelledby"), "").startswith(title)
    ]
    return pages.rows(found.all("table")[0])


def points(report: StudyReport, title: str) -> str:
    """The points of a chapter, as one text."""
    (chapter,) = [each for each in report.chapters if each.title == title]
    return "\n".join(chapter.points)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three recipes with five seeds on two tasks."""
    return write_study(tmp_path_factory.mktemp("studies") / "study")


@pytest.fixture(scope="module")
def report(folder: Path) -> StudyReport:
    return reported(folder)


def test_the_best_recipe_of_each_task_is_named(report: StudyReport) -> None:
    summary = points(report, "In short")
    assert "All 30 runs are finished." in summary
    for task in ("HalfCheetah-v5", "Hopper-v5"):
        assert f"On {task}, ncp_ppo is best" in summary
    assert "Over HalfCheetah-v5 and Hopper-v5" in summary


def test_tables_hold_the_statistics_of_the_scores(report: StudyReport, folder: Path) -> None:
    rows = {cells[0]: cells[1:] for cells in table(report, "Return on Hopper-v5")}
    assert list(rows) == ["ncp_ppo", "lstm_ppo", "dense_ppo"]
    scores = sorted(
        row.mean_return or 0
        for row in read_study(folder).rows()
        if (row.recipe, row.condition) == ("hopper-lstm_ppo", "as trained")
    )
    seeds, middle, low, high, mean, normalised, steps, minutes = rows["lstm_ppo"]
    assert (seeds, steps) == ("5", "100,000")
    assert middle == f"{np.mean(scores[1:-1]):,.0f}"
    assert mean == f"{np.mean(scores):,.0f}"
    assert (
        float(low.replace(",", "")) < float(middle.replace(",", "")) < float(high.replace(",", ""))
    )
    assert 0 < float(normalised) < 1
    assert 20 < float(minutes) < 22


@pytest.mark.usefixtures("report", "unplotted")  # the report is plotted before
def test_the_best_is_bold_only_if_intervals_do_not_overlap(
    report: StudyReport, tmp_path: Path
) -> None:
    def bold(report: StudyReport) -> list[str]:
        page = pages.read(report.html())
        title = "Return on HalfCheetah-v5"
        (table,) = [
            each
            for each in page.all("div")
            if each.attributes.get("class") == "table" and each.all("h3")[0].text == title
        ]
        return [each.text for each in table.all("strong")]

    (best,) = bold(report)
    assert best == table(report, "Return on HalfCheetah-v5")[0][2]
    for seed in range(5):
        write_run(tmp_path / "close" / "a" / str(seed), 1000 + 100 * seed, seed=seed)
        write_run(tmp_path / "close" / "b" / str(seed), 1010 + 100 * seed, seed=seed)
    for seed in range(2):
        write_run(tmp_path / "few" / "a" / str(seed), 1000 + seed, seed=seed)
        write_run(tmp_path / "few" / "b" / str(seed), 9000 + seed, seed=seed)
    for name in ("close", "few"):
        unsure = reported(tmp_path / name)
        assert bold(unsure) == []
        assert "is not sure to be better than a" in points(unsure, "In short")


def test_a_report_repeats_itself(report: StudyReport, folder: Path) -> None:
    again = reported(folder)
    assert again.html() == report.html()
    assert again.markdown() == report.markdown()


def test_files_are_complete_and_name_each_other(
    report: StudyReport, folder: Path, tmp_path: Path
) -> None:
    study = read_study(folder)
    paths = write_report(study, report, tmp_path / "new" / "output")
    assert [path.name for path in paths] == ["results.csv", "report.md", "report.html"]
    assert read_results(paths[0]) == study.rows()
    links = re.findall(r"\]\((.*?)\)", paths[1].read_text())
    assert len(links) == 4
    for link in links:
        with Image.open(paths[1].parent / link) as image:
            assert image.width > 800
    page = pages.check(paths[2].read_text())
    assert {pages.image(each) for each in page.all("img")} == {
        (paths[1].parent / link).read_bytes() for link in links
    }
    assert not list(tmp_path.rglob("*.partial*"))
    write_report(study, report, tmp_path / "new" / "output")  # once more, over the old files


def test_both_formats_have_the_same_tables(report: StudyReport) -> None:
    text = report.markdown()
    for row in pages.read(report.html()).all("tr"):
        for cell in row.all("th", "td"):
            plain = text.replace("\\", "").replace("**", "")
            assert cell.text.split(" ")[0] in plain


def test_how_it_was_made_comes_last(report: StudyReport) -> None:
    last = report.chapters[-1]
    assert last.title == "How it was made"
    page = pages.read(report.html())
    (command,) = page.all("pre")
    assert command.text == "liquid-control sweep configs/*/*.yaml --seeds 0-4"
    names = [cells[0] for cells in table(report, "Versions")]
    for package in ("liquid-control", "torch", "mujoco", "gymnasium", "stable-baselines3"):
        assert f"report made with {package}" in names
    assert "commit of the report's code" in names


@pytest.mark.usefixtures("unplotted")
def test_runs_that_are_not_finished_are_listed_with_their_reason(tmp_path: Path) -> None:
    study = write_study(tmp_path, recipes=["ncp"], seeds=2)
    write_run(study / "hopper-ncp" / "1", seed=1, task="Hopper-v5", status="interrupted", share=0.5)
    (study / "hopper-ncp" / "1" / "evaluation.json").unlink()
    shutil.rmtree(study / "half_cheetah-ncp" / "1")
    report = reported(study)
    assert "2 of 4 runs are finished" in points(report, "In short")
    rows = {cells[0]: cells[1:] for cells in table(report, "2 runs")}
    assert rows["half_cheetah-ncp/1"] == ["not started", "0", "it has no folder yet"]
    status, steps, reason = rows["hopper-ncp/1"]
    assert (status, steps) == ("interrupted", "50,000")
    assert "50,000 of 100,000 control steps" in reason


def test_one_run_makes_a_report(tmp_path: Path) -> None:
    write_run(tmp_path / "ncp" / "0")
    report = reported(tmp_path)
    summary = points(report, "In short")
    assert "The only run is finished." in summary
    assert "ncp has an interquartile mean return of 1,000 (1 run)" in summary
    assert "Fewer than 3 seeds" in summary
    assert "The study does not say with which command." in report.markdown()
    (row,) = table(report, "Return on HalfCheetah-v5")
    assert row[3:5] == ["—", "—"]


def test_without_a_finished_run_it_says_so_and_shows_how_far_runs_are(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "0", status="training", share=0.4)
    write_run(tmp_path / "b" / "0", status="training", share=0.2)
    report = reported(tmp_path)
    assert "None of the 2 runs is finished yet" in points(report, "In short")
    assert list(report.pictures) == ["learning_curves.png", "steps_and_time_to_a_threshold.png"]
    write_report(read_study(tmp_path), report, tmp_path)
    assert all(row.mean_return is None for row in read_results(tmp_path / "results.csv"))


def test_runs_without_any_log_make_a_report(tmp_path: Path) -> None:
    (tmp_path / "a" / "0").mkdir(parents=True)
    report = reported(tmp_path)
    assert report.pictures == {}
    assert table(report, "1 runs")[0][:2] == ["a/0", "unknown"]


@pytest.mark.usefixtures("unplotted")
def test_finished_runs_without_an_evaluation_have_no_scores(tmp_path: Path) -> None:
    (write_run(tmp_path / "a" / "0") / "evaluation.json").unlink()
    report = reported(tmp_path)
    assert "no scores" in points(report, "In short")
    assert "evaluation.json has no results as trained" in report.html()


@pytest.mark.slow
def test_sixty_trials_are_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for trial in range(60):
        write_run(tmp_path / f"trial-{trial:04}" / "0", 1000 + 100 * rng.normal())
    report = reported(tmp_path)
    assert "Of 60 recipes, the 6 best are told apart." in report.markdown()
    assert "The best of many recipes is so by luck too" in points(report, "In short")
    assert len(table(report, "Return on HalfCheetah-v5")) == 20
    assert len(table(report, "The other 40 recipes on HalfCheetah-v5")) == 40


@pytest.mark.usefixtures("unplotted")
def test_what_makes_numbers_hard_to_compare_is_said(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "20260101-0", 5.0)
    write_run(tmp_path / "a" / "20260102-0", env={"observe": "full", "interval": None})
    write_run(tmp_path / "b" / "0", env={"observe": "positions", "interval": 0.1}, total=200_000)
    write_run(tmp_path / "b" / "1", task="MyRobot-v0", seed=1)
    state = json.loads((tmp_path / "b" / "0" / "run.json").read_text())
    write_json(tmp_path / "b" / "0" / "run.json", state | {"version": "9.9"})
    summary = points(reported(tmp_path), "In short")
    for words in (
        "get different parts of the observation",
        "ask for different numbers of control steps",
        "at different control intervals",
        "several finished runs with seed 0",
        "no reference score for MyRobot-v0",
        "different versions of liquid_control: 0.1.0 and 9.9",
    ):
        assert words in summary


@pytest.mark.usefixtures("unplotted")
def test_thresholds_are_those_asked_for(tmp_path: Path) -> None:
    study = write_study(tmp_path, recipes=["ncp"], seeds=1)
    text = points(reported(study, {"": 500.0, "Hopper-v5": 700.0}), "Time to a threshold")
    assert "On HalfCheetah-v5, the threshold is 500, as asked for." in text
    assert "On Hopper-v5, the threshold is 700, as asked for." in text
    text = points(reported(study), "Time to a threshold")
    assert text.count("80 % of the way from random actions to the best curve's end") == 2


def test_nothing_in_a_file_becomes_html_or_markdown(tmp_path: Path) -> None:
    study = tmp_path / EVIL
    keys = {"policy": {"neurons": EVIL}, "env": {"observe": EVIL}}
    folder = write_run(study / EVIL / "0", task=EVIL, **keys)
    state = {"status": EVIL, "steps": 5, "version": EVIL, "reason": f"{EVIL}\n# title\n[a](b)"}
    write_json(write_run(study / EVIL / "1", seed=1, task=EVIL) / "run.json", state)
    write_json(folder / "fault-1.json", {"quantity": EVIL, "timesteps": EVIL})
    plan = {"version": 1, "command": f"{EVIL}\n```\n{EVIL}", "recipes": {EVIL: {}}, "seeds": [7]}
    write_json(study / "study.json", plan)
    report = reported(study)  # which has no script, and images of its own only
    page = pages.read(report.html())
    assert not page.all("script")
    assert all("onerror" not in each.attributes for each in page)
    fences = report.markdown().split("````")
    assert len(fences) == 3
    outside = fences[0] + fences[2]
    assert "<" not in outside
    assert "[a](b)" not in outside
    assert "\n# title" not in outside
    rows = write_report(read_study(study), report, tmp_path / "out")
    assert rows[0].read_text().count("\n") == 1 + len(read_study(study).rows())


def test_names_of_a_hundred_letters_are_reported_in_full(tmp_path: Path) -> None:
    names = [f"{'a_long_name_' * 8}{index:04}" for index in range(3)]
    for name in names:
        write_run(tmp_path / name / "0", 1000.0 + len(name))
    report = reported(tmp_path)
    assert sorted(cells[0] for cells in table(report, "Return on HalfCheetah-v5")) == names


def test_figures_are_pictures_of_the_same_width(report: StudyReport) -> None:
    for picture in report.pictures.values():
        with Image.open(BytesIO(picture.image)) as image:
            assert image.width == 1080
        assert picture.alt


def test_figures_that_are_a_link_are_refused(
    report: StudyReport, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "figures").symlink_to("elsewhere")
    with pytest.raises(CommandError, match="figures is a link"):
        write_report(read_study(folder), report, tmp_path)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_that_is_a_link_is_replaced_and_not_followed(
    report: StudyReport, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("keep")
    for name in ("results.csv", "report.md", "report.html"):
        (tmp_path / name).symlink_to("secret")
    write_report(read_study(folder), report, tmp_path)
    assert (tmp_path / "secret").read_text() == "keep"
    assert not (tmp_path / "report.html").is_symlink()


def test_a_folder_that_cannot_be_written_to_is_one_line(
    report: StudyReport, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="cannot be written"):
        write_report(read_study(folder), report, tmp_path / "file" / "below")
    (tmp_path / "report.md").mkdir()
    with pytest.raises(CommandError, match="cannot be written"):
        write_report(read_study(folder), report, tmp_path)
