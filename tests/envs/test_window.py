"""Windows contain the last observations of an episode."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from liquid_control import envs
from liquid_control.envs import VecWindow
from tests.noise import Noise, noise

ENVS = 3


def window(history: list[dict[str, Any]], length: int) -> dict[str, Any]:
    """Return the expected window after the observations of an episode."""
    reach = [max(index, 0) for index in range(len(history) - length, len(history))]
    expected = {key: np.array([history[i][key] for i in reach]) for key in history[0]}
    return expected | {"episode_start": np.array([i == 0 for i in reach])}


def assert_holds(shown: dict[str, Any], expected: dict[str, Any], space: spaces.Dict) -> None:
    assert shown.keys() == expected.keys() == space.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(shown[key], value.reshape(space[key].shape))


@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_a_window_is_the_last_observations_of_the_episode(length: int) -> None:
    twin, venv = noise(ENVS), VecWindow(noise(ENVS), length)
    space = venv.observation_space
    assert isinstance(space, spaces.Dict)
    lived, shown = twin.reset(), venv.reset()
    histories = [[{key: of[i] for key, of in lived.items()}] for i in range(ENVS)]
    ends = 0
    for _ in range(60):
        for i, history in enumerate(histories):
            now = {key: of[i] for key, of in shown.items()}
            assert space.contains({key: of.astype(space[key].dtype) for key, of in now.items()})
            assert_holds(now, window(history, length), space)
        actions = np.zeros((ENVS, 2))
        lived, rewards, dones, infos = twin.step(actions)
        shown, same_rewards, same_dones, shown_infos = venv.step(actions)
        np.testing.assert_array_equal(rewards, same_rewards)
        np.testing.assert_array_equal(dones, same_dones)
        for i, history in enumerate(histories):
            if dones[i]:
                ends += 1
                terminal = [*history, infos[i]["terminal_observation"]]
                last = shown_infos[i]["terminal_observation"]
                assert_holds(last, window(terminal, length), space)
                history.clear()
            history.append({key: of[i] for key, of in lived.items()})
    assert ends > 20


def test_a_reset_forgets_the_episode_before() -> None:
    venv = VecWindow(noise(ENVS, longest=99), 4)
    venv.reset()
    for _ in range(6):
        venv.step(np.zeros((ENVS, 2)))
    assert venv.reset()["episode_start"].all()


def test_returned_windows_are_never_overwritten() -> None:
    venv = VecWindow(noise(ENVS), 4)
    shown = [venv.reset()]
    copies = [{key: of.copy() for key, of in shown[0].items()}]
    for _ in range(12):
        shown.append(venv.step(np.zeros((ENVS, 2)))[0])
        copies.append({key: of.copy() for key, of in shown[-1].items()})
    for kept, copy in zip(shown, copies, strict=True):
        for key, of in copy.items():
            np.testing.assert_array_equal(kept[key], of)


def test_a_single_env_is_monitored_once() -> None:
    for env in (Noise(), Monitor(Noise())):
        venv = VecWindow(env, 4)
        assert venv.num_envs == 1
        assert venv.get_attr("nominal_interval") == [Noise.nominal_interval]
        wrapped = venv.get_attr("env")[0]
        assert isinstance(wrapped, Noise)
        assert is_wrapped(venv.unwrapped.envs[0], Monitor)  # type: ignore[attr-defined]


def test_a_plain_observation_gets_a_name() -> None:
    venv = VecWindow(gym.make("CartPole-v1"), 4)
    assert venv.reset().keys() == {"observation", "episode_start"}
    assert venv.observation_space["observation"].shape == (4, 4)  # type: ignore[index]


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3, start=5), spaces.MultiDiscrete([2, 3], start=[-1, 4])]
)
def test_discrete_observations_count_from_zero(space: Any) -> None:
    venv = VecWindow(DummyVecEnv([lambda: Noise({"places": space})]), 3)
    venv.seed(0)
    shown = [venv.reset(), *(venv.step(np.zeros((1, 1)))[0] for _ in range(20))]
    window = venv.observation_space["places"]  # type: ignore[index]
    assert all(window.contains(each["places"][0]) for each in shown)
    assert len({each["places"].tobytes() for each in shown}) > 3


def test_normalising_batched_windows_excludes_the_time() -> None:
    task = {"observe": "positions", "interval": envs.Uniform(0.02, 0.08), "seed": 0}
    batched = VecWindow(envs.make_vec("InvertedPendulum-v5", 2, **task), 4)
    venv = VecNormalize(batched, norm_obs_keys=["observation"])
    shown = [venv.reset(), *(venv.step(np.zeros((2, 1)))[0] for _ in range(9))]
    times = np.stack([each["elapsed_time"] for each in shown])
    assert times.shape == (10, 2, 4, 1)
    assert times.min() >= 0.02
    assert times.max() <= 0.08
    assert np.abs(shown[-1]["observation"]).max() > 0.5  # of angles of hundredths


def test_normalising_all_keys_raises() -> None:
    with pytest.raises(ValueError, match="norm_obs_keys"):
        VecNormalize(VecWindow(noise(1), 4))


@pytest.mark.parametrize(
    ("length", "error", "text"),
    [(0, ValueError, "at least 1, got 0"), (2.0, TypeError, "2.0"), (True, TypeError, "True")],
)
def test_a_length_is_a_positive_integer(length: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        VecWindow(noise(1), length)


def test_nested_windows_raise() -> None:
    with pytest.raises(ValueError, match="once"):
        VecWindow(VecWindow(noise(1), 4), 4)


@pytest.mark.parametrize(
    "space", [spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.MultiDiscrete([[2, 3], [3, 2]])]
)
def test_unsupported_spaces_raise(space: spaces.Space[Any]) -> None:
    with pytest.raises(TypeError, match="'picture' is"):
        VecWindow(DummyVecEnv([lambda: Noise({"picture": space})]), 4)
