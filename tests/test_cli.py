"""The commands, run end to end with very short trainings."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from io import BytesIO, StringIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from liquid_control import LiquidPPO, __version__, cli
from liquid_control.checkpoints.durable import replacing
from liquid_control.commands import run_folder, run_loader
from liquid_control.commands import train as training
from liquid_control.commands.terminal import Notes
from liquid_control.monitoring import figures
from liquid_control.monitoring.report import inspection
from liquid_control.monitoring.tensorboard import TensorBoardWriter
from liquid_control.recipes import build_agent, build_env, load_recipe

RECIPE = Path(__file__).parent.parent / "configs/inverted_pendulum/ncp_ppo.yaml"
TINY = [
    "agent.total_timesteps=128",
    "agent.n_steps=32",
    "agent.batch_size=32",
    "agent.sequence_length=32",
    "agent.n_epochs=1",
    "env.num_envs=2",
    "evaluation.episodes=3",
    "monitoring.every=null",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*arguments: str) -> Path:
    """Run a short training, with an empty plot at its end; return the folder of the run."""
    before = set(Path("runs").glob("*/*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "rates", lambda *_, **__: Figure())  # drawing it would take longest
        assert cli.main(["train", str(RECIPE), "--set", *TINY, *arguments]) == 0
    (folder,) = set(Path("runs").glob("*/*")) - before
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training, not to be changed."""
    with contextlib.chdir(tmp_path_factory.mktemp("finished")):
        return train("--quiet").absolute()


@pytest.fixture
def run(finished: Path, elsewhere: Path) -> Path:
    """A copy of that folder, where a training in the current folder would leave it."""
    folder = Path("runs", finished.parent.name, finished.name)
    shutil.copytree(finished, elsewhere / folder)
    return folder


def test_a_training_leaves_one_folder_with_everything() -> None:
    folder = train("--seed", "3", "--quiet", "--set", "checkpoint_every=64")
    assert re.fullmatch(
        r"inverted_pendulum-ncp_ppo/\d{8}-\d{6}-3", folder.relative_to("runs").as_posix()
    )
    assert {path.name.split(".")[0] for path in folder.glob("[!.]*")} == {
        "config",
        "progress",
        "events",
        "checkpoints",
        "evaluation",
        "run",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "final.zip",
        "best.zip",
        "step-000000000064",
        "step-000000000128",
    }
    recipe = load_recipe(folder / "config.yaml")
    given = [*TINY, "seed=3", "checkpoint_every=64"]
    assert recipe == load_recipe(RECIPE, given)
    rows = list(csv.DictReader((folder / "progress.csv").open()))
    assert [row["time/total_timesteps"] for row in rows] == ["64", "128"]


SAC = """
task: InvertedPendulum-v5
env: {observe: positions, interval: {kind: uniform, low: 0.02, high: 0.08}, num_envs: 2}
agent: {algorithm: sac, total_timesteps: 200, batch_size: 32, sequence_length: 8, burn_in: 4,
  learning_starts: 50, recurrent_learning_rate: {start: 1e-3, end: 0}}
policy: {wiring: {kind: dense, neurons: 4}, critic_layers: [8]}
evaluation: {episodes: 2, ratios: [1]}
monitoring: {every: null}
"""


def test_a_recipe_of_sac_is_trained_and_evaluated_alike(elsewhere: Path) -> None:
    (elsewhere / "sac.yaml").write_text(SAC)
    assert cli.main(["train", "sac.yaml", "--quiet"]) == 0
    (folder,) = Path("runs").glob("*/*")
    first = (folder / "evaluation.json").read_text()
    assert cli.main(["evaluate", str(folder), "--quiet"]) == 0
    (again,) = (folder / "evaluations").glob("*.json")
    assert again.read_text() == first
    rows = list(csv.DictReader((folder / "progress.csv").open()))
    assert float(rows[-1]["train/n_updates"]) > 0


def test_evaluate_uses_the_requested_rates() -> None:
    folder = train("--quiet", "--set", "evaluation.ratios=[0.5, 2]")
    figures = json.loads((folder / "evaluation.json").read_text())
    assert figures["task"] == "InvertedPendulum-v5"
    assert [each["interval_s"] for each in figures["intervals"]] == [0.02, 0.08]
    assert [each["ratio"] for each in figures["intervals"]] == [0.5, 2.0]
    for each in (*figures["intervals"], figures["trained"]):
        assert each["episodes"] == 3
        assert 0 < each["mean_return"] <= 1000
    assert 0.02 <= figures["trained"]["interval_s"] <= 0.08


def test_the_output_describes_the_training_and_its_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = train()
    shown = capsys.readouterr().out
    recipe = load_recipe(folder / "config.yaml")
    env = build_env(recipe)
    wiring = build_agent(recipe, env).policy.actor_circuit.wiring
    env.close()
    for text in (
        "InvertedPendulum-v5, observing positions",
        "per episode, 20 ms to 80 ms (12.5 to 50 Hz); nominal 40 ms (25 Hz)",
        f"{wiring.neuron_count} neurons",
        f"{wiring.synapse_count:,} synapses",
        "128 control steps in 2 environments",
        f"tensorboard --logdir {folder.parent}",
        str(folder / "checkpoints" / "final.zip"),
        "\n         128 steps  return ",  # the line of the last iteration
        "mean return",
        f"evaluate {folder}",
    ):
        assert text in shown


def test_quiet_prints_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    folder = train("--quiet")
    out, err = capfd.readouterr()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    trained, *fixed = evaluation["trained"], *evaluation["intervals"]
    means = [f"{each['mean_return']:,.1f}" for each in (trained, *fixed)]
    names = ["as trained", "0.5x nominal", "1x nominal", "2x nominal"]
    returns = ", ".join(map(" ".join, zip(means, names, strict=True)))
    assert out == f"{folder}: 128 steps, return {returns}\n"
    assert err == ""


def test_the_resolved_recipe_trains_the_same_agent_under_the_same_name(run: Path) -> None:
    assert cli.main(["train", str(run / "config.yaml"), "--quiet"]) == 0
    (again,) = set(run.parent.iterdir()) - {run}
    weights = [
        LiquidPPO.load(each / "checkpoints" / "final.zip").get_parameters()["policy"]
        for each in (run, again)
    ]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_evaluate_repeats_itself_and_takes_other_seeds(run: Path) -> None:
    def evaluated(*arguments: str) -> Any:
        before = set(run.glob("evaluations/*.json"))
        assert cli.main(["evaluate", str(run), "--quiet", *arguments]) == 0
        (path,) = set(run.glob("evaluations/*.json")) - before
        assert path.with_suffix(".png").exists()
        return json.loads(path.read_text())

    after_training = json.loads((run / "evaluation.json").read_text())
    assert evaluated() == after_training
    more = evaluated("--episodes", "5", "--ratios", "1", "1.5", "--seed", "9")
    assert [each["interval_s"] for each in more["intervals"]] == [0.04, 0.06]
    assert {each["episodes"] for each in more["intervals"]} == {5}
    assert json.loads((run / "evaluation.json").read_text()) == after_training


def test_evaluation_never_sees_a_seed_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[range] = []

    def spy(recipe: Any, *, num_envs: int | None = None, **kwargs: Any) -> Any:
        first = kwargs.get("seed", recipe.seed)
        seeds.append(range(first, first + (num_envs or recipe.env.num_envs)))
        return build_env(recipe, num_envs=num_envs, **kwargs)

    monkeypatch.setattr(training, "build_training_env", spy)
    monkeypatch.setattr(run_loader, "build_env", spy)
    train("--quiet", "--seed", "5")
    trained_on, *evaluations = seeds
    assert len(evaluations) == 4  # as trained, and at three fixed rates
    assert not set(trained_on) & set(chain(*evaluations))


def test_an_interval_off_the_physics_grid_is_noted_and_reported_as_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = train("--quiet", "--set", "evaluation.ratios=[1.2, 1]")  # the same, so once
    note = "note: 1.2 times the nominal interval is not a multiple of the physics step of 0.02 s; "
    assert f"{note}1x nominal, 0.04 s, is evaluated" in capsys.readouterr().err
    (each,) = json.loads((folder / "evaluation.json").read_text())["intervals"]
    assert (each["interval_s"], each["ratio"]) == (0.04, 1.0)


def test_a_second_interrupt_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("liquid_control.commands.doctor.execute", interrupt)
    monkeypatch.setattr("liquid_control.cli.problems.print", interrupt)
    assert cli.main(["doctor"]) == 130


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stopped_training_resumes_to_the_same_result(
    number: signal.Signals,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    collect = LiquidPPO.collect_rollouts

    def interrupted(self: LiquidPPO, *args: Any, **kwargs: Any) -> bool:
        os.kill(os.getpid(), number)
        return collect(self, *args, **kwargs)

    with monkeypatch.context() as context:
        context.setattr(LiquidPPO, "collect_rollouts", interrupted)
        assert cli.main(["train", str(RECIPE), "--set", *TINY]) == 130
    (folder,) = set(run.parent.iterdir()) - {run}
    assert f"resume {folder}" in capsys.readouterr().out
    assert cli.main(["evaluate", str(folder), "--quiet"]) == 0  # as far as it has come

    assert cli.main(["resume", str(folder), "--quiet"]) == 0
    ends = [LiquidPPO.load(each / "checkpoints" / "final.zip") for each in (run, folder)]
    weights = [agent.policy.state_dict() for agent in ends]
    assert all(weights[1][name].equal(value) for name, value in weights[0].items())
    assert (folder / "evaluation.json").read_text() == (run / "evaluation.json").read_text()
    logs = [list(csv.DictReader((each / "progress.csv").open())) for each in (run, folder)]
    for mine, theirs in zip(*logs, strict=True):
        clocks = {"time/fps", "time/time_elapsed", *(key for key in mine if key[:6] == "speed/")}
        assert {key: mine[key] for key in mine.keys() - clocks} == {
            key: theirs[key] for key in theirs.keys() - clocks
        }
    assert cli.main(["resume", str(folder)]) == 2
    assert "is finished" in " ".join(capsys.readouterr().err.split())


def test_an_evaluation_that_is_interrupted_costs_no_training(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    folder = run.parent / "again"
    with monkeypatch.context() as patch:
        patch.setattr("liquid_control.commands.training.examine", interrupted)
        assert cli.main(["train", str(RECIPE), "--folder", str(folder), "--set", *TINY]) == 130
    assert cli.main(["resume", str(folder)]) == 0
    steps = json.loads((folder / "run.json").read_text())["steps"]
    captured = capsys.readouterr()
    assert f"Resumed at {steps} steps" in " ".join((captured.out + captured.err).split())


def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    collect = LiquidPPO.collect_rollouts

    def interrupted(self: LiquidPPO, *args: Any, **kwargs: Any) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return collect(self, *args, **kwargs)

    monkeypatch.setattr(LiquidPPO, "collect_rollouts", interrupted)
    assert cli.main(["train", str(RECIPE), "--quiet", "--set", *TINY]) == 130
    (model,) = Path("runs").glob("*/*/checkpoints/final.zip")
    assert LiquidPPO.load(model).num_timesteps == 0


def test_an_error_during_training_saves_the_model_and_reports_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_once = LiquidPPO.train

    def broken(self: LiquidPPO) -> None:
        if self.num_timesteps == 128:
            raise RuntimeError("the robot fell apart")
        train_once(self)

    with monkeypatch.context() as context:
        context.setattr(LiquidPPO, "train", broken)
        with pytest.raises(RuntimeError, match="the robot fell apart"):
            cli.main(["train", str(RECIPE), "--quiet", "--set", *TINY, "checkpoint_every=64"])
    (folder,) = Path("runs").glob("*/*")
    assert LiquidPPO.load(folder / "checkpoints" / "final.zip").num_timesteps == 128
    assert cli.main(["resume", str(folder), "--quiet"]) == 0


DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS)


@pytest.mark.parametrize(
    "number",
    [DISK_ERRORS[0], *(pytest.param(each, marks=pytest.mark.slow) for each in DISK_ERRORS[1:])],
)
def test_a_full_disk_is_one_line_and_keeps_old_checkpoints(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bytes, written = Path.write_bytes, 0

    def full(path: Path, content: bytes) -> int:
        nonlocal written
        written += 1
        if written > 20:  # within a checkpoint
            raise OSError(number, os.strerror(number), str(path))
        return write_bytes(path, content)

    with monkeypatch.context() as context:
        context.setattr(Path, "write_bytes", full)
        assert cli.main(["train", str(RECIPE), "--set", *TINY, "checkpoint_every=64"]) == 2
    out, err = capsys.readouterr()
    assert f"{os.strerror(number)}; files saved earlier are unchanged" in " ".join(err.split())
    assert "Traceback" not in err
    (folder,) = Path("runs").glob("*/*")
    assert f"resume {folder}" in " ".join(out.split())
    assert not list(folder.rglob("*.partial*"))
    assert cli.main(["resume", str(folder), "--quiet"]) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_suppress_disk_errors_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def fail(error: Exception) -> None:
        raise error

    for _ in range(2):
        cli.silence_disk_errors_in_threads()
    full = [OSError(number, "full") for number in DISK_ERRORS]
    for error in (*full, OSError(errno.EIO, "broken"), ValueError()):
        thread = threading.Thread(target=fail, args=[error])
        thread.start()
        thread.join()
    assert [type(each.exc_value) for each in reported] == [OSError, ValueError]


def test_a_run_is_locked_by_one_process(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_folder.in_use(run_folder.Run(run)):
        assert cli.main(["resume", str(run)]) == 2
    assert "is in use by another training" in " ".join(capsys.readouterr().err.split())


def test_two_runs_in_one_second_are_two_folders(tmp_path: Path) -> None:
    folders = {run_folder.new_run(tmp_path, "recipe", 0).folder for _ in range(5)}
    assert len(folders) == 5


def test_runs_in_a_place_that_is_missing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that is not mounted."""
    (tmp_path / "runs").symlink_to(tmp_path / "missing")
    arguments = ["--runs", str(tmp_path / "runs"), "--set", *TINY]
    assert cli.main(["train", str(RECIPE), *arguments]) == 2
    assert "File exists" in capsys.readouterr().err


def test_control_characters_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "run\x1b]0;owned\x07"]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "\\x1b" in error


def test_a_name_that_is_too_long_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "x" * 300]) == 2
    assert "File name too long" in " ".join(capsys.readouterr().err.split())


def test_output_may_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert cli.main(["recipes"]) == 0


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    run_folder.write_json(path, {"a": 1})

    def write_half() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def failing(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end with exit code 2, one line of error and no traceback."""
    code = cli.main(arguments)
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert not Path("runs").exists()
    return err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("agent.n_stepz=3", "agent.n_stepz: unknown key; did you mean agent.n_steps?"),
        ("agent.n_steps=few", "agent.n_steps: "),
        ("env.interval={kind: sometimes}", "env.interval: "),
        ("task=NoSuchTask-v5", "NoSuchTask-v5"),
        ("policy.wiring={kind: dense, neurons: [1, 2]}", "agent and policy: "),
        ("policy.neurons='[red]spiking'", "[red]spiking"),
    ],
)
def test_a_mistake_in_a_recipe_ends_with_one_line(
    override: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in failing("train", str(RECIPE), "--set", override, capsys=capsys)


def test_missing_files_end_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = str(RECIPE).replace("ncp_ppo", "npc_ppo")
    assert f"did you mean {RECIPE}" in failing("train", wrong, capsys=capsys)
    assert "nowhere" in failing("evaluate", "nowhere", capsys=capsys)


@pytest.mark.parametrize("runs", ["/dev/null/runs", "n" * 300])
def test_a_folder_that_cannot_be_created_is_one_line(
    runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing("train", str(RECIPE), "--runs", runs, capsys=capsys).startswith("error: --runs ")


def test_a_run_without_a_fitting_model_ends_with_one_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, model = run / "config.yaml", run / "checkpoints" / "final.zip"
    other = load_recipe(config, ["policy.wiring={kind: dense, neurons: 5}"])
    config.write_text(other.to_yaml())
    (run / "run.json").unlink()
    assert cli.main(["evaluate", str(run)]) == 2
    model.write_bytes(b"no zip file")
    assert cli.main(["evaluate", str(run)]) == 2
    shutil.rmtree(model.parent)
    assert cli.main(["evaluate", str(run)]) == 2
    mismatch, broken, missing = capsys.readouterr().err.splitlines()
    assert "does not fit" in mismatch
    assert "is not a liquid_control file" in broken
    assert "no model was saved" in missing


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["train", "x", "--sed", "1"]])
def test_a_wrong_command_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_set_may_be_repeated_and_take_several() -> None:
    more = ["--set", "agent.gamma=0.5", "--set", "agent.vf_coef=1", "agent.ent_coef=0.25"]
    folder = train("--quiet", *more)
    agent = load_recipe(folder / "config.yaml").agent
    assert (agent.gamma, agent.vf_coef, agent.ent_coef) == (0.5, 1.0, 0.25)


def test_unavailable_kernels_end_the_command_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def load() -> None:
        raise ValueError("LIQUID_CONTROL_KERNELS=fast: unknown; use one of auto, off")

    monkeypatch.setattr("liquid_control.kernels.extension.load", load)
    assert cli.main(["train", str(RECIPE), "--runs", str(tmp_path)]) == 2
    assert "error: LIQUID_CONTROL_KERNELS=fast: unknown" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_recorded_inspected_and_watched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, int]] = []
    with monkeypatch.context() as context:  # drawing takes its time, and `inspect` draws them all
        context.setattr(
            TensorBoardWriter, "figure", lambda _, tag, __, step: drawn.append((tag, step))
        )
        folder = train("--set", "monitoring.every=64", "monitoring.film_seconds=0.2")
    assert {path.name for path in (folder / "videos").iterdir()} == {"64.mp4", "128.mp4"}
    assert {("circuit/graph", 64), ("circuit/graph", 128)} < {*drawn}
    assert ("evaluation/return_against_rate", 64) in drawn
    capsys.readouterr()

    assert cli.main(["record", str(folder), "--seconds", "0.16", "--ratio", "0.5"]) == 0
    shown = capsys.readouterr().out
    for name in ("film.mp4", "film.gif"):
        assert str(folder / "videos" / name) in shown
    with Image.open(folder / "videos" / "film.gif") as gif:
        assert gif.n_frames == 2  # type: ignore[attr-defined]

    short = ["--episodes", "2", "--lesion-episodes", "1", "--lesion-seconds", "0.2"]
    with monkeypatch.context() as context:  # tests of the report draw its figures
        picture = BytesIO()
        Image.new("RGB", (2, 2)).save(picture, "webp")
        context.setattr(inspection, "_figure_webp", lambda _: picture.getvalue())
        assert cli.main(["inspect", str(folder), *short, "--quiet"]) == 0
    page = (folder / "report.html").read_text()
    for text in ("InvertedPendulum-v5", "motor_0", "agent.total_timesteps", "data:image/gif"):
        assert text in page

    monkeypatch.delenv("DISPLAY", raising=False)
    assert cli.main(["watch", str(folder)]) == 2
    assert "liquid-control record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["record", "nowhere"], "nowhere: no run; it has no config.yaml"),
        (["record", "nowhere", "--seconds", "0"], "--seconds must be positive, got 0"),
        (["inspect", "nowhere", "--lesion-episodes", "-1"], "must be 0 or more, got -1"),
        (["inspect", "nowhere", "--lesion-seconds", "nan"], "must be positive, got nan"),
        (["watch", "nowhere"], "nowhere: no run; it has no config.yaml"),
    ],
)
def test_missing_runs_are_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())


def test_notes_without_a_reader_do_not_end_a_command() -> None:
    class Closed(StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    notes = Notes(file=Closed())
    notes.print("unread")
    assert notes.quiet


def test_ctrl_c_ends_the_process_while_modules_are_imported() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        for handler, during in (
            (signal.default_int_handler, signal.SIG_DFL),
            (signal.SIG_IGN, signal.SIG_IGN),  # of `nohup`
        ):
            signal.signal(signal.SIGINT, handler)
            with cli.ended_by_interrupts():
                assert signal.getsignal(signal.SIGINT) is during
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="other systems keep a folder that is in use")
def test_it_runs_in_a_folder_that_was_deleted(tmp_path: Path) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -m liquid_control --version'
    command = ["sh", "-c", script, sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, __version__), done.stderr
