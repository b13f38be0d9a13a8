"""LiquidPPO on tasks that need memory or elapsed time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import (
    IdentityEnv,
    IdentityEnvBox,
    IdentityEnvMultiBinary,
    IdentityEnvMultiDiscrete,
)
from stable_baselines3.common.evaluation import evaluate_policy

from liquid_control import LiquidPPO
from tests.agents.tasks import Clock, Forgetful, Recall, mean_return


def train(
    task: type[gym.Env[Any, Any]],
    neurons: str,
    timesteps: int,
    seed: int = 0,
    *,
    neuron_kwargs: dict[str, Any] | None = None,
    **options: Any,
) -> LiquidPPO:
    options = {"n_steps": 16, "batch_size": 128, "recurrent_learning_rate": 1e-2} | options
    model = LiquidPPO(
        "LiquidPolicy",
        make_vec_env(task, n_envs=16, seed=seed),
        learning_rate=1e-2,
        n_epochs=4,
        seed=seed,
        device="cpu",
        policy_kwargs={
            "neurons": neurons,
            "neuron_kwargs": neuron_kwargs,
            "wiring": {"kind": "dense", "neurons": 16},
            "critic": "shared",
        },
        **options,
    )
    return model.learn(timesteps)


@pytest.mark.parametrize(
    ("neurons", "timesteps"),
    [
        ("cfc", 3072),
        pytest.param("lstm", 3072, marks=pytest.mark.slow),
        pytest.param("ltc", 24_576, marks=pytest.mark.slow),
        pytest.param("lrc", 12_288, marks=pytest.mark.slow),
    ],
)
def test_a_cue_is_remembered(neurons: str, timesteps: int) -> None:
    # With a time scale of one interval, synapses let an LTC forget within a step.
    slow = {"time_scale": 3.0} if neurons == "ltc" else None
    for model in trained_to_recall(neurons, timesteps, neuron_kwargs=slow):
        assert mean_return(model, Recall) > 0.95
        assert mean_return(Forgetful(model), Recall) < 0.75


@pytest.mark.slow
def test_a_cue_is_remembered_with_a_slow_recurrence() -> None:
    for model in trained_to_recall("cfc", 24_576, recurrent_learning_rate=None):
        assert mean_return(model, Recall) > 0.95


def trained_to_recall(neurons: str, timesteps: int, **options: Any) -> Iterator[LiquidPPO]:
    """Train with three seeds; the only reward comes last, so foresight is complete."""
    options |= {"gamma": 1.0, "gae_lambda": 1.0, "ent_coef": 0.02}
    return (train(Recall, neurons, timesteps, seed, **options) for seed in range(3))


@pytest.mark.slow
def test_a_cue_is_remembered_across_sequences() -> None:
    """Episodes of four steps in sequences of six: every other sequence starts from a memory."""
    model = train(Recall, "cfc", 4608, n_steps=18, sequence_length=6, batch_size=96)
    assert mean_return(model, Recall) > 0.95


@pytest.mark.parametrize(
    "neurons",
    ["cfc", *(pytest.param(each, marks=pytest.mark.slow) for each in ("lstm", "lrc"))],
)
def test_elapsed_time_is_used(neurons: str) -> None:
    assert mean_return(train(Clock, neurons, 4096), Clock) > 0.9


@pytest.mark.parametrize(
    "task",
    [
        IdentityEnvBox,  # the tasks above have discrete actions
        *(
            pytest.param(task, marks=pytest.mark.slow)
            for task in (IdentityEnv, IdentityEnvMultiDiscrete, IdentityEnvMultiBinary)
        ),
    ],
)
def test_the_identity_is_learned_by_default(task: type[gym.Env[Any, Any]]) -> None:
    """The steps, settings, seeds and thresholds of SB3's own test of its agents."""
    if task is IdentityEnvBox:
        env, options, steps = IdentityEnvBox(eps=0.5), {"learning_rate": 1e-3, "seed": 0}, 1000
    else:
        env, options, steps = task(4), {"learning_rate": 2e-3, "gamma": 0.4, "seed": 3}, 1200
    model = LiquidPPO("LiquidPolicy", env, n_steps=256, n_epochs=4, device="cpu", **options)
    mean, _ = evaluate_policy(model.learn(steps), model.get_env(), n_eval_episodes=20)
    assert mean >= 90
