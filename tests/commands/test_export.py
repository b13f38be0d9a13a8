"""The commands `export`, `verify` and `replay`."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `deploy` is not installed")

from liquid_control import cli
from liquid_control.commands.export import trained_interval
from liquid_control.deploy import ControlLoop, OnnxPolicy
from liquid_control.monitoring import figures
from liquid_control.recipes import load_recipe

RECIPE = """
task: InvertedPendulum-v5
env: {observe: positions, interval: {kind: uniform, low: 0.02, high: 0.08}, num_envs: 1, threads: 0}
agent: {algorithm: ppo, total_timesteps: 64, n_steps: 64, batch_size: 64, sequence_length: 32}
policy: {wiring: {kind: auto_ncp, neurons: 12, motor: 4}, encoder: [6], critic_layers: [8]}
evaluation: {episodes: 1, ratios: [1]}
monitoring: {every: null}
"""


@pytest.fixture(autouse=True, scope="module")
def _unplotted() -> Iterator[None]:
    """Leave plots of evaluations empty; plotting takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "rates", lambda *_, **__: Figure())
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.yaml").write_text(RECIPE)
    with contextlib.chdir(folder):
        assert cli.main(["train", "tiny.yaml", "--folder", "run", "--quiet"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same training with another seed."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "tiny.yaml").write_text(RECIPE + "seed: 5\n")
    with contextlib.chdir(folder):
        assert cli.main(["train", "tiny.yaml", "--folder", "other", "--quiet"]) == 0
    return folder / "other"


def test_a_run_is_exported_and_verified(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "robot"
    command = ["export", str(run), "--output", str(exported), "--episodes", "2"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "onnx: differs from the policy by at most" in printed
    assert f"Exported: {exported}" in printed
    header = (exported / "policy.h").read_text()
    assert "0.02 to 0.08 s in training" in header
    assert "observed   slider (m), hinge (rad)" in header
    assert "action     slide (100 N)" in header
    assert "#define POLICY_TRAINED_LONGEST 0.079999" in header
    facts = json.loads((exported / "policy.json").read_text())
    assert {cell["delay"] for cell in facts["certificate"]["cells"]} == {0.0, 0.02, 0.04}
    assert {cell["dropout"] for cell in facts["certificate"]["cells"]} == {0.0, 0.1, 0.3}
    assert "InvertedPendulum-v5" in (exported / "certificate.md").read_text()
    assert (exported / "certificate.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["verify", str(exported), "--against", str(run), "--quiet"]) == 0
    assert cli.main(["export", str(run), "--output", str(exported)]) == 2
    assert "choose another folder" in capsys.readouterr().err
    with (exported / "policy.c").open("a") as source:
        source.write("\n")
    assert cli.main(["verify", str(exported), "--against", str(run)]) == 2
    assert "policy.c is damaged" in capsys.readouterr().err


def test_one_format_is_exported_alone(run: Path, tmp_path: Path) -> None:
    exported = tmp_path / "robot"
    command = ["export", str(run), "--output", str(exported), "--format", "c"]
    command += ["--episodes", "0", "--quiet"]
    assert cli.main(command) == 0
    assert not (exported / "policy.onnx").exists()
    assert cli.main(["verify", str(exported), "--against", str(run), "--quiet"]) == 0


def test_what_cannot_be_verified_is_no_success(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, kind in (("in_c", "c"), ("in_onnx", "onnx")):
        command = ["export", str(run), "--output", str(tmp_path / name), "--format", kind]
        assert cli.main([*command, "--episodes", "0", "--quiet"]) == 0
    monkeypatch.setattr("liquid_control.export.folder.COMPILERS", ())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name, message in (
        ("in_c", "could be compared; install a C compiler"),
        ("in_onnx", "onnxruntime is missing; pip install 'liquid-control[export]'"),
    ):
        assert cli.main(["verify", str(tmp_path / name), "--against", str(run), "--quiet"]) == 2
        assert message in capsys.readouterr().err


def test_a_compiler_that_fails_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho no tools >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    export = ["export", str(run), "--output", str(tmp_path / "to"), "--episodes", "0", "--quiet"]
    assert cli.main(export) == 2
    assert "cc fails: no tools; the C code is compiled here" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()
    assert cli.main([*export, "--format", "onnx"]) == 0
    assert cli.main([*export, "--episodes", "-1"]) == 2
    assert "--episodes must be at least 0, got -1" in capsys.readouterr().err


def test_lost_observations_are_longer_intervals_of_the_training(run: Path) -> None:
    lossy = "env.sensors=[{kind: dropout, probability: 0.3}]"
    low, high = trained_interval(load_recipe(run / "config.yaml"), 0.04)
    assert high < 0.5
    assert trained_interval(load_recipe(run / "config.yaml", [lossy]), 0.04) == (low, 2.0)


def test_weights_are_rounded_and_the_cost_is_measured(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "robot"
    command = ["export", str(run), "--output", str(exported), "--format", "c"]
    assert cli.main([*command, "--quantize", "int8", "--episodes", "1"]) == 0
    assert "rounded weights move it by" in capsys.readouterr().out
    facts = json.loads((exported / "policy.json").read_text())
    assert facts["weights"] == "int8"
    assert 0 < facts["rounding"]["mean_error"] < facts["rounding"]["error"] < 0.1
    assert facts["rounding"]["return"] == facts["certificate"]["nominal_return"]
    assert "static const int8_t" in (exported / "policy.c").read_text()
    assert "Weights are rounded to int8" in (exported / "certificate.md").read_text()
    assert cli.main(["verify", str(exported), "--against", str(run), "--quiet"]) == 0


def test_another_run_is_not_the_exported_one(
    run: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(tmp_path):
        assert cli.main(["export", str(run), "--output", "robot", "--episodes", "0"]) == 0
        assert cli.main(["verify", "robot", "--against", str(other), "--quiet"]) == 2
    assert "not of this policy: onnx" in capsys.readouterr().err


@pytest.fixture(scope="module")
def log(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a robot whose policy is that of the run."""
    pytest.importorskip("mcap", reason="the extra `deploy` is not installed")
    folder = tmp_path_factory.mktemp("log")
    with contextlib.chdir(folder):
        assert cli.main(["export", str(run), "--output", "it", "--episodes", "0", "--quiet"]) == 0
    rng = np.random.default_rng(0)
    times = iter(np.repeat(np.cumsum(rng.uniform(0.02, 0.08, 81)), 2))  # before and after a step
    path = folder / "robot.mcap"
    policy = OnnxPolicy(folder / "it/policy.onnx")
    with ControlLoop(policy, log=path, clock=lambda: float(next(times))) as loop:
        for step in range(80):
            loop.step(None if step % 10 == 9 else rng.normal(0, 0.1, 2))
    return path


def test_a_log_is_replayed(
    run: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "replay"
    command = ["replay", str(log), str(run), "--output", str(folder)]
    command += ["--start", "1", "--seconds", "0.5", "--lesions", "motor_0", "inter_0"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "72 steps with an observation, 8 without" in printed
    assert "motor_0 at rest moves actions by" in printed
    assert {path.name for path in folder.iterdir()} == {
        "actions.png",
        "activity.png",
        "film.mp4",
        "lesions.csv",
        "replay.csv",
    }
    with (folder / "replay.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 72
    assert [row["step"] for row in rows[7:11]] == ["7", "8", "10", "11"]
    (recorded,) = [name for name in rows[0] if name.startswith("recorded ")]
    recomputed = recorded.replace("recorded", "recomputed")
    assert len({row[recorded] for row in rows}) > 50
    for row in rows:
        assert float(row[recorded]) == pytest.approx(float(row[recomputed]), abs=1e-5)
    assert {"motor_0", "inter_0"} <= rows[0].keys()
    assert (folder / "film.mp4").stat().st_size > 1000
    assert cli.main(command) == 2
    assert "choose another folder" in capsys.readouterr().err


def test_a_replay_and_an_export_are_written_whole_or_not_at_all(
    run: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("liquid_control.monitoring.film.to_mp4", full)
    assert cli.main(["replay", str(log), str(run), "--seconds", "0.2"]) == 2
    write = Path.write_bytes

    def nearly_full(path: Path, data: bytes) -> int:
        return full() or 0 if path.name == "policy.onnx" else write(path, data)

    monkeypatch.setattr(Path, "write_bytes", nearly_full)
    assert cli.main(["export", str(run), "--output", "robot", "--episodes", "0"]) == 2
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_replayed_is_named(
    run: Path, other: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*arguments: str | Path) -> str:
        with contextlib.chdir(tmp_path):
            assert cli.main(["replay", *map(str, arguments)]) == 2
        return " ".join(capsys.readouterr().err.split())

    assert "none.mcap: there is no such log" in error("none.mcap", run)
    assert "is a folder; give the log itself" in error(tmp_path, run)
    assert "no run; it has no config.yaml" in error(log, tmp_path)
    assert "there is no neuron 'brain'; give all, or some of inter_0" in error(
        log, run, "--lesions", "brain"
    )
    assert "the log has no step from 900 to 901 s" in error(
        log, run, "--start", "900", "--seconds", "1"
    )
    assert "--start must be 0 or more" in error(log, run, "--start", "-1")
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(log.read_bytes()[:-50])
    assert "not a complete MCAP file" in error(damaged, run)
    with contextlib.chdir(tmp_path):
        Path("large.yaml").write_text(RECIPE.replace("neurons: 12", "neurons: 14"))
        assert cli.main(["train", "large.yaml", "--folder", "large", "--quiet"]) == 0
    assert "the hashes of their weights" in error(log, other)
    assert "it has a state of 12, and the run of 14" in error(log, "large")
    assert not [path for path in tmp_path.iterdir() if "replay" in path.name]
