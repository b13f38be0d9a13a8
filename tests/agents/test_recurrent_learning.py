"""sb3-contrib's RecurrentPPO learns with circuits where its LSTMs were."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env

from liquid_control import LiquidRecurrentPolicy
from tests.agents.tasks import Clock, Forgetful, Recall, mean_return

EXAMPLE = Path(__file__).parents[2] / "examples" / "recurrent_ppo.py"


def train(task: type[Recall] | type[Clock], timesteps: int) -> RecurrentPPO:
    model = RecurrentPPO(
        LiquidRecurrentPolicy,
        make_vec_env(task, n_envs=16, seed=0),
        learning_rate=1e-2,
        n_steps=16,
        batch_size=128,
        n_epochs=4,
        seed=0,
        device="cpu",
        policy_kwargs={
            "wiring": {"kind": "dense", "neurons": 16},
            "nominal_interval": Clock.nominal_interval,
        },
    )
    return model.learn(timesteps)


@pytest.mark.slow
def test_a_cue_is_remembered() -> None:
    model = train(Recall, 4096)
    assert mean_return(model, Recall) > 0.95
    assert mean_return(Forgetful(model), Recall) < 0.75


def test_elapsed_time_is_used() -> None:
    assert mean_return(train(Clock, 4096), Clock) > 0.9


@pytest.mark.slow
def test_a_pole_is_balanced_from_positions_at_a_varying_rate() -> None:
    """Mean return of at least 900 of 1000 over 20 unseen episodes."""
    example = runpy.run_path(str(EXAMPLE))
    mean, _ = example["evaluate"](example["train"](), episodes=20)
    assert mean >= 900
