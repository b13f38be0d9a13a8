"""What is imported when: parsing arguments and naming the package need nothing that is large."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import liquid_control
from liquid_control import cli

ROOT = Path(__file__).parent.parent
LARGE = ["gymnasium", "matplotlib", "mujoco", "numpy", "pydantic", "stable_baselines3", "torch"]
VERBS = [name.lower() for name in (each.__name__ for each in cli.MODULES)]


def output_of(code: str) -> list[str]:
    """Lines that code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


PARSE = f"""
import contextlib, io, sys
from liquid_control import cli
for arguments in {{calls}}:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = end.code
    print(code, len(said.getvalue()) > 4, *(name for name in {LARGE} if name in sys.modules))
"""


def test_help_and_wrong_arguments_import_nothing_large() -> None:
    helps = [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)]
    errors = [[], ["fly"], ["train"], ["evaluate", "run", "--episodes", "many"], ["record", "-x"]]
    lines = output_of(PARSE.format(calls=[*helps, *errors]))
    assert lines == ["0 True"] * len(helps) + ["2 True"] * len(errors)


def test_help_shows_the_examples_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["resume", "--help"])
    shown = capsys.readouterr().out
    assert "\nExamples:\n  liquid-control resume RUN\n" in shown


@pytest.mark.parametrize("arguments", [["train", "--help"], ["--tyro-print-completion", "bash"]])
def test_a_reader_that_stops_reading_sees_no_traceback(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "liquid_control", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=300)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("signalled", [False, True])
def test_a_training_outlasts_its_reader(signalled: bool, tmp_path: Path) -> None:
    """As of `train | tee`, whose reader a Ctrl-C ends too."""
    command = [sys.executable, "-m", "liquid_control", "train", "inverted_pendulum/ncp_ppo"]
    command += ["--folder", str(tmp_path / "run"), "--set", "evaluation.episodes=1"]
    command += [f"agent.total_timesteps={10**8 if signalled else 4096}", "monitoring.every=null"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        if signalled:
            while not (tmp_path / "run/checkpoints/step-000000000000/manifest.json").exists():
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert b"Traceback" not in errors
    state = json.loads((tmp_path / "run/run.json").read_text())
    newest = max((tmp_path / "run/checkpoints").glob("step-*"))
    assert state["steps"] > 0
    assert state["steps"] - int(newest.name[5:]) <= 16  # one step of each environment
    assert process.returncode == (130 if signalled else 141)
    assert state["status"] == ("interrupted" if signalled else "finished")


def test_an_impossible_backend_of_mujoco_is_one_line() -> None:
    command = [sys.executable, "-m", "liquid_control", "recipes"]
    variables = os.environ | {"MUJOCO_GL": "nonsense"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "MUJOCO_GL: nonsense; set it to egl, osmesa or glfw, or unset it" in line


def test_shells_complete_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--tyro-print-completion", "bash"])
    script = capsys.readouterr().out
    assert not caught.value.code
    assert "_liquid_control" in script.replace("-", "_")
    assert all(verb in script for verb in VERBS)


def test_the_package_is_imported_without_anything_large() -> None:
    code = f"import sys, liquid_control; print(*(name for name in {LARGE} if name in sys.modules))"
    assert output_of(code) == [""]


def test_an_agent_is_imported_without_what_some_trainings_do_without() -> None:
    names = ["matplotlib", "mujoco", "pydantic", "tyro", "yaml"]
    code = f"""
import sys
from liquid_control import LiquidPPO, LiquidSAC, LiquidExtractor
print(*(name for name in {names} if name in sys.modules))"""
    assert output_of(code) == [""]


def test_every_public_name_is_there() -> None:
    for name in liquid_control.__all__:
        assert getattr(liquid_control, name) is getattr(liquid_control, name)
    assert set(liquid_control.__all__) <= set(dir(liquid_control))
    assert liquid_control.LiquidPPO is liquid_control.agents.LiquidPPO
    assert liquid_control.wiring.ncp.__name__ == "ncp"
    assert pickle.loads(pickle.dumps(liquid_control.LiquidSAC)) is liquid_control.LiquidSAC


def test_other_names_are_missing() -> None:
    with pytest.raises(AttributeError, match="'liquid_control' has no attribute 'LiquidDQN'"):
        liquid_control.LiquidDQN  # noqa: B018


def test_an_import_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise AttributeError("module 'mujoco' has no attribute 'mjtState'")

    monkeypatch.delitem(vars(liquid_control), "LiquidPPO", raising=False)
    monkeypatch.setattr(liquid_control, "import_module", broken)
    with pytest.raises(ImportError, match="'mujoco' has no attribute 'mjtState'"):
        from liquid_control import LiquidPPO  # noqa: F401


def test_each_command_has_a_module_that_executes_it() -> None:
    folder = Path(cli.__file__).parent / "commands"
    for command, module in cli.MODULES.items():
        text = (folder / f"{module}.py").read_text("utf-8")
        assert f"def execute(arguments: {command.__name__}) -> int:" in text
