"""`liquid-control report`, on made-up studies and on one that is trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from liquid_control import cli
from liquid_control.commands.report import limits_from
from liquid_control.recipes import CommandError
from liquid_control.sweeps import statistics
from liquid_control.sweeps.results import read_results
from tests.sweeps.studies import write_json, write_run, write_study
from tests.test_cli import RECIPE, TINY


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every command in an empty folder, with fast statistics."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(statistics, "REPLICATIONS", 60)


def test_a_study_is_reported_in_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    write_study(Path("study"), recipes=["a", "b"], seeds=2)
    assert cli.main(["report", "study"]) == 0
    shown = capsys.readouterr().out
    for name in ("results.csv", "report.md", "report.html"):
        assert f"study/{name}" in shown
        assert (Path("study") / name).stat().st_size
    assert "All 8 runs are finished." in shown
    assert cli.main(["report", "study"]) == 0  # figures and tables are no runs
    assert len(read_results(Path("study/results.csv"))) == 8 * 4


def test_a_damaged_plan_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    write_study(Path("study"), recipes=["a"], seeds=2)
    Path("study/study.json").write_text("{")
    assert cli.main(["report", "study"]) == 0
    assert "note: study.json " in capsys.readouterr().err


def test_output_and_threshold_are_those_given(capfd: pytest.CaptureFixture[str]) -> None:
    write_run(Path("study/ncp/0"))
    arguments = ["--threshold", "HalfCheetah-v5=300", "--output", "a/b", "--quiet"]
    assert cli.main(["report", "study", *arguments]) == 0
    assert capfd.readouterr().out == ""
    assert "the threshold is 300, as asked for" in Path("a/b/report.md").read_text()
    assert {path.name for path in Path("study").iterdir()} == {"ncp"}


def test_runs_of_train_are_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    changes = ["--set", *TINY, "agent.total_timesteps=64", "evaluation.ratios=[1]"]
    for seed in ("0", "1"):
        assert cli.main(["train", str(RECIPE), "--seed", seed, "--quiet", *changes]) == 0
    assert cli.main(["report", "runs", "--quiet"]) == 0
    rows = read_results(Path("runs/results.csv"))
    assert [(row.seed, row.condition) for row in rows] == [
        (0, "as trained"),
        (0, "1x nominal"),
        (1, "as trained"),
        (1, "1x nominal"),
    ]
    for row in rows:
        assert (row.task, row.observe) == ("InvertedPendulum-v5", "positions")
        assert (row.agent, row.neurons, row.status) == ("ppo", "cfc", "finished")
        assert (row.recipe, row.steps, row.total_timesteps) == ("inverted_pendulum-ncp_ppo", 64, 64)
        assert row.mean_return is not None
        assert 0 < row.mean_return <= 1000
        assert row.seconds is not None
    assert rows[1].interval == 0.04
    assert "All 2 runs are finished." in Path("runs/report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["empty"], "empty: no runs in it"),
        (["newer"], "newer/study.json is of version 2"),
        (["study", "--threshold", "high"], "--threshold high: must be a return, or TASK=return"),
        (["study", "--threshold", "nan"], "--threshold nan: must be"),
        (["study", "--threshold", "Ant-v5=1"], "--threshold Ant-v5: no run of this task"),
        (["study", "--threshold", "1", "2"], "is given twice"),
        (["study", "--output", "file/below"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    for name in ("study", "newer"):
        write_run(Path(name) / "ncp" / "0")
    write_json(Path("newer/study.json"), {"version": 2})
    assert cli.main(["report", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert complaint in err
    shutil.rmtree("empty")


def test_without_rliable_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(Path("study/ncp/0"))

    def missing() -> None:
        raise CommandError(f"statistics need rliable; install it: {statistics.INSTALL}")

    monkeypatch.setattr(statistics, "_rliable", missing)
    assert cli.main(["report", "study"]) == 2
    assert 'pip install "liquid-control[sweep]"' in capsys.readouterr().err
    assert {path.name for path in Path("study").iterdir()} == {"ncp"}


def test_thresholds_are_parsed() -> None:
    assert limits_from([]) == {}
    assert limits_from(["-5"]) == {"": -5.0}
    assert limits_from(["1e3", "a=b:Task-v0=2.5"]) == {"": 1000.0, "a=b:Task-v0": 2.5}
