"""The plug for RL Baselines3 Zoo: what it adds to RL Zoo's tables, and RL Zoo with it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import optuna
import pytest
import yaml

from liquid_control import LiquidPPO, LiquidSAC
from tests.docs.blocks import ROOT

SCRIPT = ROOT / "examples/rl_zoo.py"
AGENTS = {"liquid_ppo": LiquidPPO, "liquid_sac": LiquidSAC}


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names of the script, after it added to tables in the place of RL Zoo's."""
    modules = {name: ModuleType(name) for name in ("rl_zoo3", *PLACES)}
    for name, table in PLACES.items():
        setattr(modules[name], table, {"ppo": None})
        setattr(modules["rl_zoo3"], name.partition(".")[2], modules[name])
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    before = {*gym.registry}
    script = runpy.run_path(str(SCRIPT), run_name="example")
    script["plug_in"]()
    yield script | {table: getattr(modules[name], table) for name, table in PLACES.items()}
    for name in {*gym.registry} - before:
        del gym.registry[name]


PLACES = {"rl_zoo3.utils": "ALGOS", "rl_zoo3.hyperparams_opt": "HYPERPARAMS_SAMPLER"}


def test_the_agents_join_those_of_rl_zoo(plugged: dict[str, Any]) -> None:
    assert plugged["ALGOS"] == {"ppo": None, **AGENTS}
    assert plugged["HYPERPARAMS_SAMPLER"].keys() == {"ppo", *AGENTS}
    for name in plugged["TASKS"]:
        env = gym.make(name)
        assert {*env.observation_space.spaces} == {"observation", "elapsed_time"}
        assert env.get_wrapper_attr("interval") == plugged["TASKS"][name][2]
        env.close()


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_settings_and_every_draw_make_an_agent(
    plugged: dict[str, Any], name: str, seed: int
) -> None:
    settings = yaml.safe_load(SCRIPT.with_name(f"rl_zoo_{name}.yml").read_text())
    for task, arguments in settings.items():
        assert task == "default" or task in plugged["TASKS"]
        given = {key: value for key, value in arguments.items() if key != "n_timesteps"}
        envs = given.pop("n_envs", 1)
        given["learning_rate"] = 1e-3  # RL Zoo makes a schedule of lin_...
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
        drawn = plugged["HYPERPARAMS_SAMPLER"][name](trial, 1, envs, {})
        given |= drawn
        agent = AGENTS[name](env=gym.make("LiquidPendulum-v0"), device="cpu", seed=0, **given)
        assert agent.policy.actor_circuit.wiring.neuron_count == trial.params["neurons"]
        if name == "liquid_ppo":
            assert given["n_steps"] * envs % given["batch_size"] == 0


def test_train_gets_the_settings_beside_the_script(plugged: dict[str, Any]) -> None:
    with_settings = plugged["with_settings"]
    train = ["train", "--algo", "liquid_sac"]
    file = str(SCRIPT.with_name("rl_zoo_liquid_sac.yml"))
    assert with_settings(train) == [*train, "--conf-file", file]
    for own in ([*train, "-conf", "mine.yml"], ["train", "--algo", "ppo"], ["enjoy", *train[1:]]):
        assert with_settings(own) == own


@pytest.mark.slow
def test_rl_zoo_trains_enjoys_and_tunes(tmp_path: Path) -> None:
    pytest.importorskip("rl_zoo3")

    def rl_zoo(*arguments: str) -> str:
        command = [sys.executable, str(SCRIPT), *arguments, "--env", "LiquidPendulum-v0"]
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    algorithm = ("--algo", "liquid_ppo")
    rl_zoo("train", *algorithm, "-n", "4096", "--eval-freq", "2048", "--eval-episodes", "1")
    folder = tmp_path / "logs/liquid_ppo/LiquidPendulum-v0_1"
    assert {"LiquidPendulum-v0.zip", "best_model.zip"} <= {each.name for each in folder.iterdir()}
    shown = rl_zoo("enjoy", *algorithm, "-f", "logs", "--no-render", "-n", "2000")
    assert "Mean reward:" in shown
    tune = ("-optimize", "--n-trials", "2", "-n", "2048", "--eval-episodes", "1")
    assert "Best trial" in rl_zoo("train", *algorithm, *tune, "--no-optim-plots")
