"""Agents choose intervals through every door, and discount by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC

from liquid_control import LiquidExtractor, LiquidPPO, LiquidRecurrentPolicy, LiquidSAC, envs
from liquid_control.recipes import build_agent, build_env, load_recipe

NOMINAL = 0.04
WIRING = {"kind": "dense", "neurons": 6}
EXTRACTOR = {
    "features_extractor_class": LiquidExtractor,
    "features_extractor_kwargs": {"wiring": WIRING | {"motor": 4}, "nominal_interval": NOMINAL},
}
ON_POLICY = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
OFF_POLICY = {"learning_starts": 16, "batch_size": 16, "buffer_size": 1000}
DOORS: dict[str, Any] = {
    "LiquidPPO": lambda env: LiquidPPO(
        "LiquidPolicy", env, policy_kwargs={"wiring": WIRING}, **ON_POLICY
    ),
    "LiquidSAC": lambda env: LiquidSAC(
        "LiquidPolicy",
        env,
        policy_kwargs={"wiring": WIRING},
        **OFF_POLICY,
        sequence_length=4,
        burn_in=2,
    ),
    "RecurrentPPO": lambda env: RecurrentPPO(
        LiquidRecurrentPolicy,
        env,
        policy_kwargs={"wiring": WIRING, "nominal_interval": NOMINAL},
        **ON_POLICY,
    ),
    "PPO": lambda env: PPO(
        "MultiInputPolicy", envs.VecWindow(env, 3), policy_kwargs=EXTRACTOR, **ON_POLICY
    ),
    "SAC": lambda env: SAC(
        "MultiInputPolicy", envs.VecWindow(env, 3), policy_kwargs=EXTRACTOR, **OFF_POLICY
    ),
}


def task() -> Any:
    return envs.make_vec(
        "InvertedPendulum-v5", 2, interval=envs.Chosen(0.02, 0.16, cost=0.01), seed=0, threads=1
    )


@pytest.mark.parametrize(
    "name",
    [
        each if each in ("LiquidPPO", "LiquidSAC") else pytest.param(each, marks=pytest.mark.slow)
        for each in DOORS
    ],
)
def test_a_policy_chooses_through_every_door(name: str) -> None:
    model = DOORS[name](task())
    model.learn(96)
    assert model.action_space.shape == (2,)


@pytest.mark.parametrize("name", ["LiquidPPO", "LiquidSAC"])
def test_a_step_is_discounted_by_the_interval_that_was_chosen(name: str) -> None:
    env = task()
    lasted: list[list[float]] = []
    step_wait = env.step_wait

    def noting() -> Any:
        results = step_wait()
        lasted.append([info["elapsed_time"] for info in results[3]])
        return results

    env.step_wait = noting
    model = DOORS[name](env)
    if name == "LiquidPPO":
        model.learn(64)
        duration = model.rollout_buffer.rollout.duration.numpy()
    else:
        stored: list[Any] = []
        add = model.replay_buffer.add

        def storing(*step: Any) -> None:
            stored.append(step[2].numpy().copy())
            add(*step)

        model.replay_buffer.add = storing
        model.learn(64)
        duration = np.array(stored)
    lasted = lasted[-len(duration) :]
    np.testing.assert_allclose(duration * NOMINAL, lasted, rtol=1e-6)
    assert len(np.unique(np.round(lasted, 6))) > 3


def test_a_recipe_chooses_and_is_evaluated_at_fixed_intervals(tmp_path: Path) -> None:
    path = tmp_path / "chosen.yaml"
    path.write_text("""
        task: InvertedPendulum-v5
        env: {interval: {kind: chosen, low: 0.02, high: 0.16, cost: 0.01}, num_envs: 2}
        agent: {total_timesteps: 64, n_steps: 32, batch_size: 32}
        policy: {wiring: {kind: dense, neurons: 4}}
    """)
    recipe = load_recipe(path)
    assert recipe.env.rule == envs.Chosen(0.02, 0.16, cost=0.01)
    model = build_agent(recipe, build_env(recipe))
    model.learn(64)
    fixed = build_env(recipe, interval=0.08)
    assert fixed.action_space == model.action_space
    fixed.reset()
    *_, infos = fixed.step(np.array([[0.0, -1.0], [0.0, 1.0]]))
    assert [info["elapsed_time"] for info in infos] == pytest.approx([0.08, 0.08])
