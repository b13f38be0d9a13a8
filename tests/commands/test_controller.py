"""A controller is loaded from whatever holds a trained agent, and from nothing else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import liquid_control
from liquid_control import LiquidPPO, LiquidSAC
from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.durable import write_text
from liquid_control.commands.policy_package import pack
from liquid_control.commands.run_folder import Run
from liquid_control.policies import Controller
from liquid_control.recipes import build_agent, build_env, load_recipe
from tests.checkpoints.test_archive import turn_a_bit
from tests.test_cli import RECIPE, TINY


class Own(LiquidPPO):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """An agent, and a folder with a run of it and the same as single files."""
    folder = tmp_path_factory.mktemp("made")
    recipe = load_recipe(RECIPE, TINY)
    agent = build_agent(recipe, build_env(recipe))
    run = Run(folder / "run")
    write_text(run.config, recipe.to_yaml())
    agent.save(run.model)
    agent.save(folder / "agent.zip")
    pack(run, recipe, folder / "policy.zip")
    return agent, folder


def actions(controller: Controller) -> np.ndarray:
    size = controller.observation_space.shape or ()
    return np.array([controller.step(np.full(size, step / 9), step / 25.0) for step in range(5)])


@pytest.mark.parametrize("name", ["run", "agent.zip", "policy.zip"])
def test_runs_packed_policies_and_agents_are_loaded(made: tuple[Any, Path], name: str) -> None:
    agent, folder = made
    controller = liquid_control.load_controller(folder / name)
    np.testing.assert_array_equal(actions(controller), actions(Controller(agent.policy)))


def test_a_soft_agent_is_loaded(tmp_path: Path) -> None:
    agent = LiquidSAC("LiquidPolicy", "Pendulum-v1", buffer_size=1000)
    agent.save(tmp_path / "agent")
    controller = liquid_control.load_controller(str(tmp_path / "agent.zip"))
    np.testing.assert_array_equal(actions(controller), actions(Controller(agent.policy)))


def test_an_agent_that_observes_what_another_normalises_is_refused(tmp_path: Path) -> None:
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    agent = LiquidPPO("LiquidPolicy", VecNormalize(env), n_steps=32)
    agent.save(tmp_path / "agent")
    LiquidPPO.load(tmp_path / "agent").save(tmp_path / "again")
    LiquidPPO("LiquidPolicy", VecNormalize(env, norm_obs=False), n_steps=32).save(tmp_path / "raw")
    for name in ("agent", "again"):
        with pytest.raises(CheckpointError, match="trained with VecNormalize, whose statistics"):
            liquid_control.load_controller(tmp_path / name)
    liquid_control.load_controller(tmp_path / "raw")


def test_nothing_else_is_loaded(made: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = made
    for name in ("agent.zip", "policy.zip"):
        path = tmp_path / name
        content = bytearray((folder / name).read_bytes())
        turn_a_bit(content, random.Random(0))
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            liquid_control.load_controller(path)
    PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16).save(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="not a liquid_control file"):
        liquid_control.load_controller(tmp_path / "theirs.zip")
    Own("LiquidPolicy", "CartPole-v1", n_steps=16).save(tmp_path / "own")
    with pytest.raises(CheckpointError, match=r"holds a Own.*Controller\(Own\.load"):
        liquid_control.load_controller(tmp_path / "own.zip")
    with pytest.raises(FileNotFoundError):
        liquid_control.load_controller(tmp_path / "nothing")
    shutil.copytree(folder / "run", tmp_path / "run")
    Run(tmp_path / "run").model.unlink()
    with pytest.raises(FileNotFoundError, match="no agent was saved in this run yet"):
        liquid_control.load_controller(tmp_path / "run")
