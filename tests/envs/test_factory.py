"""`make` and `make_vec` are determined by seeds, write no files and hide no warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from liquid_control import envs
from liquid_control.envs import Uniform

INTERVAL = Uniform(0.01, 0.06)


def play(venv: Any, steps: int = 60) -> list[Any]:
    """Step with a fixed torque and return everything that steps and resets return."""
    action = np.full((venv.num_envs, *venv.action_space.shape), 0.1, np.float32)
    history = [venv.reset()]
    for _ in range(steps):
        observation, reward, done, _ = venv.step(action)
        history.append(({k: v.copy() for k, v in observation.items()}, reward, done))
    return history


def test_one_seed_gives_one_history() -> None:
    def build(seed: int) -> Any:
        return envs.make_vec("Reacher-v5", 3, observe="positions", interval=INTERVAL, seed=seed)

    history = play(build(0))
    np.testing.assert_equal(play(build(0)), history)
    first = history[0]["observation"]
    assert len(np.unique(first, axis=0)) == 3
    assert (play(build(7))[0]["observation"] != first).any()


def test_env_i_is_the_env_of_seed_plus_i() -> None:
    venv = envs.make_vec("Reacher-v5", 3, interval=INTERVAL, seed=5)
    history = play(venv, steps=10)
    for index in range(3):
        env = envs.make("Reacher-v5", interval=INTERVAL, seed=5 + index)
        timed, _ = env.reset()
        np.testing.assert_array_equal(history[0]["observation"][index], timed["observation"])
        for observations, rewards, _ in history[1:]:
            timed, reward, *_ = env.step(np.full(2, 0.1, np.float32))
            for key, value in timed.items():
                np.testing.assert_array_equal(observations[key][index], value)
            assert rewards[index] == np.float32(reward)


def test_the_seed_of_make_is_the_seed_of_its_first_reset() -> None:
    seeded, unseeded = envs.make("Reacher-v5", seed=3), envs.make("Reacher-v5")
    np.testing.assert_equal(seeded.reset()[0], unseeded.reset(seed=3)[0])
    again = envs.make("Reacher-v5", seed=3)
    np.testing.assert_equal(seeded.action_space.sample(), again.action_space.sample())


def test_a_vec_env_reports_time_and_the_episodes_true_length() -> None:
    venv = envs.make_vec("Reacher-v5", 2, interval=0.01, seed=0)
    assert venv.get_attr("nominal_interval") == [0.02, 0.02]
    assert venv.get_attr("horizon") == [1.0, 1.0]
    venv.reset()
    for step in range(100):
        observation, _, done, infos = venv.step(np.zeros((2, 2)))
        assert done.all() == (step == 99)
    assert infos[0]["episode"]["l"] == 100
    assert infos[0]["TimeLimit.truncated"]
    assert infos[0]["terminal_observation"]["elapsed_time"] == np.float32(0.01)
    assert observation["elapsed_time"][0] == np.float32(0.02)


def test_arguments_reach_the_task() -> None:
    env = envs.make("HalfCheetah-v5", frame_skip=2, ctrl_cost_weight=0.0, max_episode_steps=10)
    assert env.get_wrapper_attr("nominal_interval") == pytest.approx(0.02)
    assert env.get_wrapper_attr("horizon") == pytest.approx(0.2)
    env.reset()
    assert env.step(np.ones(6, np.float32))[-1]["reward_ctrl"] == 0.0


def test_loading_half_cheetah_prints_and_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    envs.make("HalfCheetah-v5")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert mujoco.get_mju_user_warning() is None


def test_other_warnings_of_mujoco_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    build = gym.make

    def warn_and_build(*args: Any, **kwargs: Any) -> Any:
        mujoco.get_mju_user_warning()("the robot has no feet")
        return build(*args, **kwargs)

    monkeypatch.setattr(gym, "make", warn_and_build)
    with pytest.warns(RuntimeWarning, match="the robot has no feet"):
        envs.make("HalfCheetah-v5")
    messages: list[str] = []
    mujoco.set_mju_user_warning(messages.append)
    try:
        envs.make("HalfCheetah-v5")
    finally:
        mujoco.set_mju_user_warning(None)
    assert messages == ["the robot has no feet"]


def test_a_task_without_mujoco_is_stepped_env_by_env() -> None:
    venv = envs.make_vec("Pendulum-v1", 2, observe=[0, 1], seed=3)
    assert isinstance(venv, envs.SerialVecEnv)
    assert venv.reason == "PendulumEnv has no batched implementation"
    tasks = [gym.make("Pendulum-v1") for _ in range(2)]
    expected = np.array([task.reset(seed=3 + i)[0] for i, task in enumerate(tasks)])
    np.testing.assert_array_equal(venv.reset(), expected[:, :2])
    actions = np.ones((2, 1), np.float32)
    for _ in range(200):
        _, rewards, dones, infos = venv.step(actions)
        steps = [task.step(action) for task, action in zip(tasks, actions, strict=True)]
        np.testing.assert_allclose(rewards, [step[1] for step in steps], rtol=1e-6)
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, True]
    for info, step in zip(infos, steps, strict=True):
        np.testing.assert_array_equal(info["terminal_observation"], step[0][:2])


def test_counts_may_be_those_of_numpy() -> None:
    counts: Any = {"num_envs": np.int64(2), "seed": np.int32(3), "threads": np.int8(1)}
    venv = envs.make_vec("Reacher-v5", **counts)
    assert venv.num_envs == 2
    same: Any = envs.make_vec("Reacher-v5", 2, seed=3).reset()
    observed: Any = venv.reset()
    for name, part in observed.items():
        np.testing.assert_array_equal(part, same[name])


def test_episodes_of_any_length_need_no_memory() -> None:
    with pytest.raises(ValueError, match="at most 10,000,000, got 1,000,000,000; -1 stands for"):
        envs.make_vec("Hopper-v5", 2, max_episode_steps=10**9)
    envs.make_vec("Hopper-v5", 2, max_episode_steps=-1).reset()


def test_invalid_arguments_raise() -> None:
    with pytest.raises(ValueError, match=r"unknown task 'HalfCheeta-v5': .*HalfCheetah"):
        envs.make("HalfCheeta-v5")
    with pytest.raises(ValueError, match="unknown task 'Half Cheetah': Malformed"):
        envs.make("Half Cheetah")
    with pytest.raises(TypeError, match=r"needs a Gymnasium MujocoEnv.*got CartPoleEnv"):
        envs.make("CartPole-v1", interval=0.02)
    with pytest.raises(TypeError, match="frameskip"):
        envs.make("HalfCheetah-v5", frameskip=2)
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        envs.make_vec("Reacher-v5", 0)
    with pytest.raises(TypeError, match=r"num_envs must be an integer, got 2\.0"):
        envs.make_vec("Reacher-v5", 2.0)  # type: ignore[arg-type]
