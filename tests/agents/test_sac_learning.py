"""LiquidSAC on tasks that need memory or elapsed time."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from liquid_control import LiquidSAC
from tests.agents.tasks import Forgetful, GradedClock, GradedRecall, mean_return


def train(task: type[gym.Env[Any, Any]], timesteps: int, **options: Any) -> LiquidSAC:
    options = {"neurons": "cfc", "wiring": {"kind": "dense", "neurons": 16}} | options
    model = LiquidSAC(
        "LiquidPolicy",
        make_vec_env(task, n_envs=16, seed=0),
        learning_rate=3e-3,
        buffer_size=20_000,
        learning_starts=256,
        batch_size=256,
        sequence_length=4,
        burn_in=2,
        ent_coef=0.02,
        tau=0.02,
        seed=0,
        device="cpu",
        policy_kwargs={"critic_layers": [32], **options},
    )
    return model.learn(timesteps)


@pytest.mark.slow
@pytest.mark.parametrize("neurons", ["cfc", "lstm"])
def test_a_cue_is_remembered(neurons: str) -> None:
    model = train(GradedRecall, 6144, neurons=neurons)
    assert mean_return(model, GradedRecall) > 0.8
    assert mean_return(Forgetful(model), GradedRecall) < 0.4


@pytest.mark.parametrize("neurons", ["cfc", pytest.param("lstm", marks=pytest.mark.slow)])
def test_elapsed_time_is_used(neurons: str) -> None:
    assert mean_return(train(GradedClock, 4096, neurons=neurons), GradedClock) > 4


def without_velocity() -> gym.Env[np.ndarray, np.ndarray]:
    return TransformObservation(gym.make("Pendulum-v1"), lambda o: o[:2], spaces.Box(-1, 1, (2,)))


@pytest.mark.slow
def test_a_pendulum_is_swung_up_without_seeing_its_velocity() -> None:
    model = LiquidSAC(
        "LiquidPolicy",
        make_vec_env(without_velocity, n_envs=4, seed=0),
        learning_rate=1e-3,
        buffer_size=50_000,
        learning_starts=1000,
        batch_size=512,
        sequence_length=16,
        burn_in=8,
        gradient_steps=4,  # one for each control step, as usual
        gamma=0.98,
        seed=0,
        device="cpu",
        policy_kwargs={"wiring": {"kind": "auto_ncp", "neurons": 32}},
    ).learn(30_000)
    mean, _ = evaluate_policy(
        model, make_vec_env(without_velocity, n_envs=10, seed=99), n_eval_episodes=20
    )
    assert mean > -200
