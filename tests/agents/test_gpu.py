"""Agents on a GPU; these tests run where there is one."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from torch.testing import assert_close

from liquid_control import LiquidPPO, LiquidSAC
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.policies import Controller
from tests.agents.tasks import Clock, GradedClock
from tests.agents.test_images import POLICY, Look, Point

DEVICE = "cuda"

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("ignore:the state of .* is unknown"),
]

WIRED = {"wiring": {"kind": "auto_ncp", "neurons": 12}, "encoder": [8]}
SETTINGS: dict[type, dict[str, Any]] = {
    LiquidPPO: {"n_steps": 32, "batch_size": 64, "n_epochs": 2},
    LiquidSAC: {"learning_starts": 64, "batch_size": 64, "sequence_length": 8, "burn_in": 4},
}
CASES = {
    "ppo": (LiquidPPO, Clock, WIRED),
    "ppo with images": (LiquidPPO, Look, POLICY),
    "sac": (LiquidSAC, GradedClock, WIRED),
    "sac with images": (LiquidSAC, Point, POLICY),
}


def build(agent: type[Any], task: type[Any], policy: dict[str, Any], device: str) -> Any:
    env = make_vec_env(task, n_envs=4, seed=0)
    options = SETTINGS[agent]
    return agent("LiquidPolicy", env, device=device, seed=0, policy_kwargs=policy, **options)


@pytest.mark.parametrize("memory", [None, "lstm"])
@pytest.mark.parametrize("neurons", ["cfc", "ltc", "ctrnn", "lrc"])
def test_values_and_gradients_are_those_of_the_cpu(neurons: str, memory: str | None) -> None:
    check_against_the_cpu({"neurons": neurons, "neuron_kwargs": {"memory": memory}})


@pytest.mark.parametrize("neurons", ["lstm", "gru"])
def test_values_and_gradients_of_baselines_are_those_of_the_cpu(neurons: str) -> None:
    check_against_the_cpu({"neurons": neurons})


def check_against_the_cpu(options: dict[str, Any]) -> None:
    """Compare log-probabilities, values and gradients over sequences with episode starts."""
    policy = build(LiquidPPO, GradedClock, {**WIRED, **options}, "cpu").policy
    shape = (7, 5)
    starts = torch.rand(shape) < 0.2
    given = [torch.randn(*shape, 1), 0.05 + 0.2 * torch.rand(shape)]
    given += [policy.initial_actor_critic_state(5), starts, torch.randn(*shape, 1)]
    results = []
    for device in ("cpu", DEVICE):
        moved = deepcopy(policy).to(device)
        sequences = [each.to(device) for each in given]
        values, log_probabilities, *_ = moved.evaluate_actions(*sequences)
        (values.sum() + log_probabilities.sum()).backward()
        gradients = [each.grad for each in moved.parameters() if each.grad is not None]
        results.append([each.detach().cpu() for each in (values, log_probabilities, *gradients)])
    assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_an_agent_trains_is_saved_resumed_and_taken_to_the_cpu(case: str, tmp_path: Path) -> None:
    agent, task, policy = CASES[case]
    model = build(agent, task, policy, DEVICE).learn(256)
    assert {each.device.type for each in model.policy.parameters()} == {DEVICE}

    model.save(tmp_path / "agent")
    observation = model.env.reset()
    expected, state = model.predict(observation, deterministic=True)
    one = {key: value[0] for key, value in observation.items() if key != "elapsed_time"}
    for device in ("cpu", DEVICE):
        loaded = agent.load(tmp_path / "agent", model.env, device=device)
        found, after = loaded.predict(observation, deterministic=True)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(after, state, atol=1e-5)
        controller = Controller(loaded.policy)
        assert np.shape(controller.step(one, 0.0)) == expected[0].shape
        loaded.learn(128)

    manager = CheckpointManager(tmp_path / "checkpoints")
    manager.save(model.num_timesteps, model.state_dict(training=True))
    for device in (DEVICE, "cpu"):
        env = make_vec_env(task, n_envs=4, seed=0)
        resumed = agent.resume(tmp_path / "checkpoints", env, device=device)
        resumed.learn(128, reset_num_timesteps=False)
        assert resumed.num_timesteps == 384
