"""The commands `export` and `verify`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `deploy` is not installed")

from liquid_control import cli

RECIPE = """
task: InvertedPendulum-v5
env: {observe: positions, interval: {kind: uniform, low: 0.02, high: 0.08}, num_envs: 1, threads: 0}
agent: {algorithm: ppo, total_timesteps: 64, n_steps: 64, batch_size: 64, sequence_length: 32}
policy: {wiring: {kind: auto_ncp, neurons: 12, motor: 4}, encoder: [6], critic_layers: [8]}
evaluation: {episodes: 1, ratios: [1]}
monitoring: {every: null}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.yaml").write_text(RECIPE)
    with contextlib.chdir(folder):
        assert cli.main(["train", "tiny.yaml", "--folder", "run", "--quiet"]) == 0
    return folder / "run"


def test_a_run_is_exported_and_verified(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "robot"
    command = ["export", str(run), "--output", str(exported), "--episodes", "2"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "onnx: differs from the policy by at most" in printed
    assert f"Exported: {exported}" in printed
    assert "0.02 to 0.08 s in training" in (exported / "policy.h").read_text()
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


def test_another_run_is_not_the_exported_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(tmp_path):
        Path("tiny.yaml").write_text(RECIPE + "seed: 5\n")
        assert cli.main(["train", "tiny.yaml", "--folder", "other", "--quiet"]) == 0
        assert cli.main(["export", str(run), "--output", "robot", "--episodes", "0"]) == 0
        assert cli.main(["verify", "robot", "--against", "other", "--quiet"]) == 2
    assert "not of this policy: onnx" in capsys.readouterr().err
