"""Environments that bend the rules of SB3's interface."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from liquid_control import LiquidPPO, LiquidSAC
from liquid_control.collectors.nominal_interval import seconds_of_steps

AGENTS: dict[str, Any] = {
    "ppo": lambda env: LiquidPPO("LiquidPolicy", env, n_steps=128, batch_size=64, seed=7),
    "sac": lambda env: LiquidSAC("LiquidPolicy", env, learning_starts=32, seed=7),
}
agents = pytest.mark.parametrize("agent", AGENTS)


def test_seconds_may_be_arrays_of_one_number() -> None:
    infos = [{"elapsed_time": np.array([0.5], np.float32)}, {"elapsed_time": 0.25}]
    for given in infos[:1], infos[1:]:
        seconds = seconds_of_steps(2 * given, carry_time=True)
        assert seconds.tolist() == [float(np.squeeze(given[0]["elapsed_time"]))] * 2
    with pytest.raises(ValueError, match=r"must be one number of seconds, got arrays of \(2,\)"):
        seconds_of_steps([{"elapsed_time": np.ones(2)}], carry_time=True)


class NumbersForDones(VecEnvWrapper):
    """Returns one instead of true."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observation, rewards, dones, infos = self.venv.step_wait()
        return observation, rewards, dones.astype(np.int64), infos


class Narrowing(NumbersForDones):
    """Loses its last feature after some steps."""

    steps = 0

    def step_wait(self) -> VecEnvStepReturn:
        observation, *others = self.venv.step_wait()
        self.steps += 1
        return observation[:, : 2 if self.steps > 20 else 3], *others


def pendulums() -> VecEnv:
    return DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=30)] * 2)


@agents
def test_dones_may_be_numbers(agent: str) -> None:
    trained = [AGENTS[agent](env).learn(256) for env in (pendulums(), NumbersForDones(pendulums()))]
    mine, theirs = (each.policy.state_dict() for each in trained)
    assert all(torch.equal(each, theirs[name]) for name, each in mine.items())


@agents
def test_an_observation_that_its_space_does_not_describe_is_refused(agent: str) -> None:
    with pytest.raises(ValueError, match="must have 3 features, as their space describes, got 2"):
        AGENTS[agent](Narrowing(pendulums())).learn(256)
