"""Engines: they start commands, return their exit codes, and pass a stop on."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from liquid_control.recipes import CommandError
from liquid_control.sweeps.engines import LOST, Engine, Local, Process, Ray, Slurm
from liquid_control.sweeps.worker import Command

PATIENCE = 60.0  # seconds

# A command that says that it runs, and on SIGTERM saves and ends with 130, as a training does.
TRAINING = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def save(*_):
    (folder / "saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
if (folder / "saved").exists():
    print("goes on")
    sys.exit(0)
print("begins", flush=True)
(folder / "pid").write_text(str(os.getpid()))
(folder / "parent").write_text(str(os.getppid()))
(folder / "running").touch()
time.sleep(60)
"""


def python(code: str, folder: Path) -> Command:
    return Command((sys.executable, "-c", code, str(folder)), folder / "output.log")


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def end_of(process: Process) -> int:
    wait_for(lambda: process.poll() is not None)
    code = process.poll()
    assert code is not None
    return code


def slurm(folder: Path) -> Slurm:
    pytest.importorskip("submitit")
    return Slurm(folder / "submitit", cluster="local", parameters=["timeout_min=5"])


def ray(_: Path) -> Ray:
    pytest.importorskip("ray")
    return Ray()


@pytest.fixture(
    params=[
        pytest.param(lambda _: Local(), id="local"),
        pytest.param(slurm, id="submitit", marks=pytest.mark.slow),
        pytest.param(ray, id="ray", marks=pytest.mark.slow),
    ]
)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = request.param(tmp_path)
    yield engine
    engine.close()


@pytest.mark.parametrize("code", [0, 2, 130])
def test_the_exit_code_is_the_commands(engine: Engine, tmp_path: Path, code: int) -> None:
    assert end_of(engine.start(python(f"raise SystemExit({code})", tmp_path))) == code


def test_output_and_errors_are_appended_to_a_file(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "output.log").write_text("before\n")
    end_of(engine.start(python("print('said'); raise ValueError('why')", tmp_path)))
    text = (tmp_path / "output.log").read_text()
    assert text.startswith("before\n")
    assert "said" in text
    assert "ValueError: why" in text


def test_a_command_that_is_killed_has_a_negative_exit_code(engine: Engine, tmp_path: Path) -> None:
    process = engine.start(python(TRAINING, tmp_path))
    wait_for((tmp_path / "running").exists)
    assert process.poll() is None
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert end_of(process) == LOST


def test_a_stop_lets_a_command_save(engine: Engine, tmp_path: Path) -> None:
    process = engine.start(python(TRAINING, tmp_path))
    wait_for((tmp_path / "running").exists)
    process.stop()
    assert end_of(process) != 0
    wait_for((tmp_path / "saved").exists)


def test_a_job_that_slurm_preempts_is_started_again_and_goes_on(tmp_path: Path) -> None:
    engine = slurm(tmp_path)
    process = engine.start(python(TRAINING, tmp_path))
    wait_for((tmp_path / "running").exists)
    os.kill(int((tmp_path / "parent").read_text()), signal.SIGUSR2)  # as submitit has Slurm do
    assert end_of(process) == 0
    assert (tmp_path / "output.log").read_text() == "begins\ngoes on\n"


@pytest.mark.parametrize("parameter", ["partition", "timeout_min=soon", "no_such=1"])
def test_a_parameter_that_submitit_does_not_have_is_one_line(
    tmp_path: Path, parameter: str
) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(CommandError, match="slurm") as error:
        Slurm(tmp_path, cluster="local", parameters=[parameter])
    assert "\n" not in str(error.value)


def test_without_slurm_on_this_machine_one_line_says_so(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(CommandError, match="--on slurm"):
        Slurm(tmp_path)
