"""Agents discount by the time that steps last, whatever time a policy sees of lost observations."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control import LiquidPPO, LiquidSAC, WorkerVecEnv, envs

NOMINAL = 0.04
POLICY = {"wiring": {"kind": "dense", "neurons": 4}}


def lossy(hold: bool = True) -> Any:
    return envs.make_vec(
        "InvertedPendulum-v5",
        2,
        interval=envs.Uniform(0.02, 0.08),
        sensors=[envs.Dropout(0.5, hold=hold)],
        max_episode_steps=20,
        seed=0,
        threads=1,
    )


def noted(env: Any) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Lists that grow by the true and the observed seconds of each step of an environment."""
    true: list[NDArray[Any]] = []
    seen: list[NDArray[Any]] = []
    step_wait = env.step_wait

    def noting() -> Any:
        observations, rewards, dones, infos = step_wait()
        true.append(np.array([info["elapsed_time"] for info in infos], np.float32))
        last = observations["elapsed_time"][:, 0].copy()
        for index in np.flatnonzero(dones):
            last[index] = infos[index]["terminal_observation"]["elapsed_time"][0]
        seen.append(last)
        return observations, rewards, dones, infos

    env.step_wait = noting
    return true, seen


def test_ppo_discounts_by_the_true_interval_and_shows_the_neurons_what_was_seen() -> None:
    env = lossy()
    true, seen = noted(env)
    options: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 1}
    model = LiquidPPO("LiquidPolicy", env, policy_kwargs=POLICY, seed=0, device="cpu", **options)
    model.learn(128)
    rollout = model.rollout_buffer.rollout
    np.testing.assert_allclose(rollout.duration.numpy() * NOMINAL, np.array(true), rtol=1e-6)
    transitions = rollout.transitions
    going_on = ~transitions.ended[:-1].numpy()
    now = transitions.elapsed_time[1:].numpy()
    np.testing.assert_array_equal(now[going_on], np.array(seen)[:-1][going_on])
    assert (now[going_on] > np.array(true)[:-1][going_on] + 1e-6).any()


def test_sac_discounts_by_the_true_interval_and_shows_the_neurons_what_was_seen() -> None:
    env = lossy(hold=False)
    true, seen = noted(env)
    options: dict[str, Any] = {"batch_size": 16, "sequence_length": 4, "burn_in": 2}
    model = LiquidSAC(
        "LiquidPolicy",
        env,
        policy_kwargs=POLICY,
        seed=0,
        device="cpu",
        learning_starts=1000,
        buffer_size=1000,
        **options,
    )
    stored: list[tuple[Any, ...]] = []
    add = model.replay_buffer.add  # type: ignore[union-attr]

    def noting(*step: Any) -> None:
        stored.append(step)
        add(*step)

    model.replay_buffer.add = noting  # type: ignore[union-attr,method-assign,assignment]
    model.learn(128)
    duration = np.array([each[2].numpy() for each in stored])
    np.testing.assert_allclose(duration * NOMINAL, np.array(true), rtol=1e-6)
    now = np.array([each[1].elapsed_time.numpy() for each in stored])[1:]
    starts = np.array([each[1].episode_start.numpy() for each in stored])[1:].astype(bool)
    np.testing.assert_array_equal(now[~starts], np.array(seen)[:-1][~starts])
    assert (now[~starts] > np.array(true)[:-1][~starts] + 1e-6).any()


def in_blocks() -> WorkerVecEnv:
    """Environments at a fixed interval that lose observations, where workers have them."""
    dropout = [envs.Dropout(0.5)]
    make = partial(envs.make_vec, "InvertedPendulum-v5", interval=NOMINAL, sensors=dropout)
    return WorkerVecEnv(partial(make, threads=1), 2, block=2, seed=0)


def test_workers_return_the_true_interval_to_ppo() -> None:
    options: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "seed": 0}
    model = LiquidPPO("LiquidPolicy", in_blocks(), policy_kwargs=POLICY, device="cpu", **options)
    model.learn(128)
    rollout = model.rollout_buffer.rollout
    np.testing.assert_allclose(rollout.duration.numpy(), 1, rtol=1e-6)
    assert rollout.transitions.elapsed_time.max() > 1.5 * NOMINAL


def test_workers_return_the_true_interval_to_sac() -> None:
    options: dict[str, Any] = {"batch_size": 16, "sequence_length": 4, "burn_in": 2, "seed": 0}
    options |= {"learning_starts": 1000, "buffer_size": 1000, "train_freq": 32}
    model = LiquidSAC("LiquidPolicy", in_blocks(), policy_kwargs=POLICY, device="cpu", **options)
    stored: list[tuple[Any, ...]] = []
    model.replay_buffer.add = lambda *step: stored.append(step)  # type: ignore
    model.learn(128)
    duration = np.array([each[2].numpy() for each in stored])
    seen = np.array([each[1].elapsed_time.numpy() for each in stored])
    np.testing.assert_allclose(duration, 1, rtol=1e-6)
    assert seen.max() > 1.5 * NOMINAL
