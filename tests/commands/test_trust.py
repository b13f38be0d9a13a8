"""The recipe of a run imports and opens nothing, unless the user says so."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

from liquid_control import __version__, cli
from liquid_control.commands.run_loader import open_run
from liquid_control.recipes import CommandError, build_agent, build_env, load_recipe, needs_trust

CONFIG = """
name: strange
task: InvertedPendulum-v5
agent: {total_timesteps: 64, n_steps: 32, batch_size: 32}
policy: {wiring: {kind: dense, neurons: 4}}
evaluation: {episodes: 1, ratios: [1]}
monitoring: {every: null}
"""
ROBOTS = """
from dataclasses import dataclass
from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from liquid_control import envs
from liquid_control.envs.tasks.pendulums import InvertedPendulum

@dataclass(frozen=True)
class Mine(InvertedPendulum):
    effort: float = 1.0
    log: str = ""

model = expand_model_path("inverted_pendulum.xml")
envs.register("Mine-v0", Mine, model=model, frame_skip=2, max_episode_steps=20)
"""
MODULE = "robots_of_a_stranger"
RUNS_RECIPES = ["evaluate", "record", "inspect", "watch", "resume", "pack"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a folder with a module that registers a task, as `python -m` would find it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / f"{MODULE}.py").write_text(ROBOTS)
    yield
    sys.modules.pop(MODULE, None)
    gym.registry.pop("Mine-v0", None)


def run_of(**changes: object) -> Path:
    """A run whose recipe was changed, with a policy for InvertedPendulum."""
    folder = Path("run")
    (folder / "checkpoints").mkdir(parents=True)
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    recipe = load_recipe(config)
    env = build_env(recipe)
    build_agent(recipe, env).save(folder / "checkpoints/final.zip")
    env.close()
    config.write_text(yaml.safe_dump({**yaml.safe_load(CONFIG), **changes}))
    return folder


MODULE_IN_FRONT = {"task": f"{MODULE}:Mine-v0"}
FILE = {"env": {"kwargs": {"xml_file": "pipe"}}}
TRACE = {
    "env": {"interval": {"kind": "per_episode", "interval": {"kind": "trace", "path": "pipe"}}}
}
CAMERA = {"env": {"kwargs": {"default_camera_config": {"distance": 3}}}}


@pytest.mark.parametrize("command", RUNS_RECIPES)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (MODULE_IN_FRONT, f"task imports the module {MODULE}"),
        ({"task": "this:InvertedPendulum-v5"}, "task imports the module this"),
        (FILE, "env.kwargs.xml_file is 'pipe'"),
        (TRACE, "env.interval opens the file 'pipe'"),
        (CAMERA, "env.kwargs.default_camera_config is {'distance': 3}"),
    ],
    ids=["module", "standard library", "file", "trace", "undeclared"],
)
def test_what_runs_or_opens_is_refused_in_one_line(
    command: str, changes: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")  # opening it would not end
    folder = Path("run")
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({**yaml.safe_load(CONFIG), **changes}))
    sys.modules.pop("this", None)
    assert cli.main([command, str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder}/config.yaml: {words}" in line
    assert "--trust" in line
    assert not {MODULE, "this"} & sys.modules.keys()


@pytest.mark.parametrize("flags", [("--trust",), ("--import", MODULE)])
def test_the_users_word_runs_a_robot(
    flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_of(**MODULE_IN_FRONT, env={"kwargs": {"effort": 2, "max_episode_steps": 9}})
    assert cli.main(["evaluate", str(folder), "--quiet", *flags]) == 0
    said = capsys.readouterr().err
    if "--trust" in flags:
        assert f"trusting run/config.yaml: task imports the module {MODULE}" in said
        assert f"{Path.cwd() / MODULE}.py" in said
    else:
        assert "trusting" not in said


def test_arguments_that_are_text_need_trust_even_where_the_module_is_the_users(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = run_of(**MODULE_IN_FRONT, env={"kwargs": {"log": "/etc/passwd"}})
    assert cli.main(["evaluate", str(folder), "--import", MODULE]) == 2
    assert "env.kwargs.log is '/etc/passwd'" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [FILE, TRACE], ids=["file", "trace"])
def test_a_trusted_pipe_is_refused_as_well(
    changes: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    changes = yaml.safe_load(yaml.safe_dump(changes).replace("pipe", f"{Path.cwd()}/pipe"))
    assert cli.main(["evaluate", str(run_of(**changes)), "--trust"]) == 2
    noted, error = capsys.readouterr().err.splitlines()
    assert noted.startswith("note: trusting run/config.yaml: env.")
    assert error.startswith("error: ")


@pytest.mark.parametrize("name", ["no_such_module", ".relative", ""])
def test_an_import_that_fails_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text(CONFIG)
    assert cli.main(["evaluate", "run", "--import", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --import {name}: ")


def test_a_cluster_needs_trust() -> None:
    env = {"workers": 2, "engine": "ray", "address": "ray.example:6379"}
    needs = [*needs_trust({"task": "InvertedPendulum-v5", "env": env})]
    assert needs == ["env.address connects to 'ray.example:6379'"]
    for own in (None, "auto"):
        assert [*needs_trust({"task": "InvertedPendulum-v5", "env": {**env, "address": own}})] == []


def test_a_cluster_that_the_user_chooses_needs_no_trust() -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text(
        "task: InvertedPendulum-v5\n"
        "env: {num_envs: 4, workers: 2, block: 2, engine: ray, address: 'ray.example:6379'}\n"
        "agent: {total_timesteps: 64}\n"
    )
    with pytest.raises(CommandError, match=r"env\.address connects to 'ray\.example:6379'"):
        open_run(Path("run"))
    _, recipe = open_run(Path("run"), ["env.address=10.0.0.1:6379"])
    assert recipe.env.address == "10.0.0.1:6379"


def test_declared_arguments_need_no_trust() -> None:
    kwargs = {"reset_noise_scale": 0.1, "frame_skip": 3, "max_episode_steps": 5}
    assert [*needs_trust({"task": "InvertedPendulum-v5", "env": {"kwargs": kwargs}})] == []


def test_a_users_recipe_may_name_a_module_and_the_commands_for_its_run_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(CONFIG.replace("InvertedPendulum-v5", f"{MODULE}:Mine-v0"))
    assert cli.main(["train", "mine.yaml"]) == 0
    (folder,) = Path("runs").glob("*/*")
    assert f"evaluate {folder} --trust" in capsys.readouterr().out
    assert cli.main(["pack", str(folder), "--import", MODULE, "--output", "mine.zip"]) == 0
    assert "whoever unpacks it must give --trust too" in capsys.readouterr().err


def test_python_m_does_not_search_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
    monkeypatch.setattr(sys, "argv", ["liquid-control", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("liquid_control", run_name="__main__")
    assert (caught.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")
    assert str(Path.cwd()) not in sys.path
