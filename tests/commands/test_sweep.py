"""`liquid-control sweep`: studies of real trainings, also when they are killed, on every engine."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from liquid_control import LiquidPPO, cli
from liquid_control.sweeps.engines import Slurm, train_command
from liquid_control.sweeps.progress import newest_checkpoint, progress_of
from tests.commands.test_runs import fails as fails
from tests.test_cli import RECIPE, TINY

ROOT = Path(__file__).parents[2]
LSTM = RECIPE.with_name("lstm_ppo.yaml")
SHORT = [*TINY, "checkpoint_every=64", "evaluation.episodes=2", "evaluation.ratios=[1]"]
LONG = [*SHORT, "agent.total_timesteps=8192", "checkpoint_every=2048"]


def sweep(*arguments: str | Path) -> int:
    return cli.main(["sweep", *map(str, arguments)])


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start a sweep in a process of its own."""
    command = [sys.executable, "-m", "liquid_control", "sweep", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def trainings(study: Path) -> dict[Path, int]:
    """Processes that train runs of a study, by the folder of the run."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "train" in words and "--folder" in words:
            folder = Path(words[words.index("--folder") + 1])
            if folder.is_relative_to(study):
                found[folder] = int(path.parent.name)
    return found


def assert_same_weights(study: Path, other: Path) -> None:
    models = sorted(path.relative_to(study) for path in study.glob("*/*/checkpoints/final.zip"))
    assert models
    for path in models:
        mine, theirs = (LiquidPPO.load(each / path).policy.state_dict() for each in (study, other))
        assert all(theirs[name].equal(weights) for name, weights in mine.items())


def test_a_study_trains_every_run_and_is_left_alone_when_it_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [RECIPE, "--seeds", "0", "--runs", tmp_path, "--jobs", "1", "--set", *SHORT]
    assert sweep(*arguments) == 0
    assert "1 finished" in capsys.readouterr().out
    study = tmp_path / "inverted_pendulum-ncp_ppo"
    run = study / "inverted_pendulum-ncp_ppo" / "0"
    assert json.loads((run / "evaluation.json").read_text())["seed"] == 0
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert sweep(*arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a recipe"),
        (["missing.yaml"], "missing.yaml"),
        ([RECIPE, RECIPE], "another recipe has the name"),
        ([RECIPE, "--seeds", "x"], "--seeds x"),
        ([RECIPE, "--jobs", "0"], "--jobs 0"),
        ([RECIPE, "--trials", "0"], "--trials 0"),
        ([RECIPE, "--set", "agent.gama=1"], "agent.gama"),
        ([RECIPE, "--address", "auto"], "--address is for --on ray"),
        ([RECIPE, "--slurm", "a=b"], "--slurm is for --on slurm"),
        ([RECIPE, "--set", "agent.gamma={log: [0.9, 0.1]}"], "low must be less than high"),
        ([RECIPE, LSTM, "--set", "agent.gamma={log: [0.1, 0.9]}"], "searches only one file"),
        ([RECIPE, "--runs", "/proc/x"], "/proc/x"),
    ],
)
def test_what_cannot_begin_is_one_line(
    arguments: list[str | Path],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in fails("sweep", *map(str, arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_an_engines_package_one_line_says_what_to_install(
    engine: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[..., str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = fails("sweep", str(RECIPE), "--on", engine, "--runs", str(tmp_path))
    assert f'pip install "liquid-control[{engine}]"' in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:x", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_one_line(
    address: str, tmp_path: Path, fails: Callable[..., str]
) -> None:
    pytest.importorskip("ray")
    options = ["--on", "ray", "--address", address, "--runs", str(tmp_path)]
    assert "nothing answers there" in fails("sweep", str(RECIPE), *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # quick tests of the driver play its processes
def test_a_run_that_fails_is_given_up_with_its_output_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--runs", tmp_path, "--set", *SHORT, "policy.neurons=brain"]
    assert sweep(RECIPE, *options) == 1
    assert "Given up" in capsys.readouterr().out
    (log,) = tmp_path.glob("*/*/0/output.log")
    assert "brain" in log.read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two recipes and two seeds."""
    runs = tmp_path_factory.mktemp("undisturbed")
    assert sweep(RECIPE, LSTM, "--seeds", "0-1", "--runs", runs, "--set", *LONG) == 0
    return runs / "inverted_pendulum"


@pytest.fixture
def killer() -> Iterator[Callable[[Path], list[str]]]:
    """Return a function that goes on killing trainings of a study at random, and lists them.

    A run is killed within two seconds of its start and of each checkpoint, if that is not the past
    by then. Starting takes longer, so each is killed at least once.
    """
    done = threading.Event()
    threads = []

    def kill(study: Path, killed: list[str]) -> None:
        draw = random.Random(0)
        due: dict[str, float] = {}
        while not done.wait(0.1):
            for folder, process in trainings(study).items():
                name = f"{folder} after {newest_checkpoint(folder)}"
                now = time.monotonic()
                if name not in killed and now >= due.setdefault(name, now + draw.uniform(0, 2)):
                    os.kill(process, signal.SIGKILL)
                    killed.append(name)

    def begin(study: Path) -> list[str]:
        killed: list[str] = []
        threads.append(threading.Thread(target=kill, args=(study, killed)))
        threads[0].start()
        return killed

    yield begin
    done.set()
    for thread in threads:
        thread.join()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_runs_end_as_if_they_had_not_been(
    engine: str, undisturbed: Path, tmp_path: Path, killer: Callable[[Path], list[str]]
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    study = tmp_path / "inverted_pendulum"
    killed = killer(study)
    options = ["--seeds", "0-1", "--runs", tmp_path, "--on", engine, "--jobs", "2", "--set", *LONG]
    assert sweep(RECIPE, LSTM, *options) == 0
    assert len(killed) >= 4
    assert_same_weights(study, undisturbed)


@pytest.mark.slow
def test_two_drivers_share_a_study(undisturbed: Path, tmp_path: Path) -> None:
    options = ["--seeds", "0-1", "--runs", tmp_path, "--jobs", "1", "--set", *LONG]
    first = start(RECIPE, LSTM, *options)
    second = start(RECIPE, LSTM, *options)
    outputs = [process.communicate(timeout=600)[0] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outputs
    study = tmp_path / "inverted_pendulum"
    assert_same_weights(study, undisturbed)
    for log in study.glob("*/*/output.log"):
        assert "in use" not in log.read_text()


@pytest.mark.slow
def test_interrupted_and_given_again_a_study_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    options = ["--seeds", "0-1", "--runs", tmp_path, "--jobs", "2", "--set", *LONG]
    study = tmp_path / "inverted_pendulum"
    process = start(RECIPE, LSTM, *options)
    while not list(study.glob("*/*/checkpoints/step-*")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130
    assert "the same command resumes it" in output
    assert trainings(study) == {}
    assert sweep(RECIPE, LSTM, *options) == 0
    assert_same_weights(study, undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
def test_a_training_that_slurm_preempts_goes_on_from_its_checkpoint(
    undisturbed: Path, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    name = "inverted_pendulum-ncp_ppo"
    folder = tmp_path / name / "0"
    folder.mkdir(parents=True)
    engine = Slurm(tmp_path / "slurm", cluster="local", parameters=["timeout_min=10"])
    job = engine.start(train_command(undisturbed / "recipes" / f"{name}.yaml", 0, folder))
    preempted = 0
    while job.poll() is None:
        training = trainings(tmp_path).get(folder)
        if preempted < 2 and newest_checkpoint(folder) and training is not None:
            parent = int(Path(f"/proc/{training}/stat").read_text().rpartition(")")[2].split()[1])
            steps = progress_of(folder).steps
            os.kill(parent, signal.SIGUSR2)  # as submitit has Slurm do
            preempted += 1
            while trainings(tmp_path).get(folder) == training:
                time.sleep(0.1)
            assert progress_of(folder).steps >= steps
        time.sleep(0.1)
    assert job.poll() == 0
    assert preempted == 2
    mine, theirs = (
        LiquidPPO.load(each / name / "0" / "checkpoints" / "final.zip").policy.state_dict()
        for each in (tmp_path, undisturbed)
    )
    assert all(theirs[key].equal(weights) for key, weights in mine.items())
