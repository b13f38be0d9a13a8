"""Windows joined from single observations against SB3's buffer, which stores them whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize

from liquid_control import WindowReplayBuffer
from liquid_control.envs import VecWindow
from tests.noise import PARTS, noise

Transition = tuple[Any, Any, Any, Any, Any, list[dict[str, Any]]]


def step_through(venv: VecWindow, steps: int) -> list[Transition]:
    """Transitions as SB3's off-policy algorithms store them, from a reset on."""
    rng = np.random.default_rng(0)
    transitions: list[Transition] = []
    observation = venv.reset()
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (venv.num_envs, 2)).astype(np.float32)
        following, rewards, dones, infos = venv.step(actions)
        ended = {key: of.copy() for key, of in following.items()}
        for index in np.flatnonzero(dones):
            for key, of in infos[index]["terminal_observation"].items():
                ended[key][index] = of
        transitions.append((observation, ended, actions, rewards, dones, infos))
        observation = following
    return transitions


def buffers(venv: VecWindow, size: int) -> tuple[WindowReplayBuffer, DictReplayBuffer]:
    arguments = size * venv.num_envs, venv.observation_space, venv.action_space, "cpu"
    joined, whole = (
        kind(*arguments, n_envs=venv.num_envs) for kind in (WindowReplayBuffer, DictReplayBuffer)
    )
    assert isinstance(joined, WindowReplayBuffer)
    return joined, whole


def fill(buffer: DictReplayBuffer, transitions: list[Transition]) -> None:
    for transition in transitions:
        buffer.add(*transition)


def drawn(buffer: DictReplayBuffer, steps: Any, env: VecNormalize | None = None) -> Any:
    """What is sampled of these steps, env by env at random, as if by the same generator."""
    set_random_seed(0)
    return buffer._get_samples(np.asarray(steps), env=env)


def assert_same(joined: Any, whole: Any) -> None:
    for field in ("observations", "next_observations"):
        found, expected = getattr(joined, field), getattr(whole, field)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key], value), key
    for field in ("actions", "dones", "rewards"):
        assert torch.equal(getattr(joined, field), getattr(whole, field)), field


@given(
    num_envs=st.integers(1, 3),
    length=st.integers(1, 6),
    size=st.integers(1, 30),
    steps=st.integers(1, 70),
    longest=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_samples_are_the_windows_that_were_added(
    num_envs: int, length: int, size: int, steps: int, longest: int, seed: int
) -> None:
    """Bit for bit, but for the oldest `length` transitions of a full buffer."""
    venv = VecWindow(noise(num_envs, seed, longest=longest), length)
    joined, whole = buffers(venv, size)
    transitions = step_through(venv, steps)
    fill(joined, transitions)
    fill(whole, transitions)
    oldest, lost = (whole.pos, length) if whole.full else (0, 0)
    intact = [(oldest + age) % size for age in range(lost, whole.size())]
    if intact:
        assert_same(drawn(joined, intact * 4), drawn(whole, intact * 4))


@pytest.mark.parametrize("age", range(4))
def test_a_full_buffer_begins_windows_at_its_oldest_observation(age: int) -> None:
    length, size = 4, 10
    venv = VecWindow(noise(1, longest=99, seed=1), length)
    joined, whole = buffers(venv, size)
    transitions = step_through(venv, size + 5)
    assert not any(transition[4] for transition in transitions)  # one long episode
    fill(joined, transitions)
    fill(whole, transitions)
    step = [(whole.pos + age) % size]
    found, expected = drawn(joined, step), drawn(whole, step)
    slots = np.arange(length)
    for windows, copies, oldest in (
        (found.observations, expected.observations, length - 1 - age),
        (found.next_observations, expected.next_observations, length - 2 - age),
    ):
        begin = max(oldest, 0)
        assert torch.equal(windows["box"], copies["box"][:, np.maximum(slots, begin)])
        begins = torch.as_tensor(slots <= oldest).to(torch.int8)
        assert torch.equal(windows["episode_start"][0], begins)


def test_windows_begin_where_a_transition_does_not_follow() -> None:
    """As when a buffer is loaded in the midst of an episode."""
    venv = VecWindow(noise(1, longest=99, seed=1), 4)
    joined, whole = buffers(venv, 20)
    transitions = step_through(venv, 12)
    for part in (transitions[:5], transitions[7:]):  # two steps are missing between them
        fill(joined, part)
        fill(whole, part)
    found, expected = drawn(joined, range(10)), drawn(whole, range(10))
    box, copies = found.observations["box"], expected.observations["box"]
    assert torch.equal(box[:5], copies[:5])
    assert torch.equal(box[8:], copies[8:])
    assert torch.equal(box[6], copies[6, [2, 2, 2, 3]])
    assert found.observations["episode_start"][6].tolist() == [1, 1, 1, 0]


def test_samples_are_normalised_like_those_of_copies() -> None:
    venv = VecWindow(noise(2), 4)
    normalize = VecNormalize(venv, norm_obs_keys=["box", "double"])
    normalize.reset()
    for _ in range(20):
        normalize.step(np.zeros((2, 2)))
    joined, whole = buffers(venv, 30)
    transitions = step_through(venv, 25)
    fill(joined, transitions)
    fill(whole, transitions)
    assert_same(drawn(joined, range(25), normalize), drawn(whole, range(25), normalize))


def test_it_takes_the_memory_of_single_observations() -> None:
    length = 16
    joined, whole = buffers(VecWindow(noise(2), length), 50)
    for key, stored in joined.observations.items():
        assert length * stored.nbytes == whole.observations[key].nbytes
        assert length * joined.next_observations[key].nbytes == whole.observations[key].nbytes


def test_a_saved_buffer_goes_on(tmp_path: Path) -> None:
    venv = VecWindow(noise(2), 4)
    joined, whole = buffers(venv, 20)
    transitions = step_through(venv, 40)
    fill(joined, transitions[:15])
    save_to_pkl(tmp_path / "buffer.pkl", joined)
    loaded = load_from_pkl(tmp_path / "buffer.pkl")
    fill(loaded, transitions[15:])
    fill(whole, transitions)
    intact = (whole.pos + np.arange(4, 20)) % 20
    assert_same(drawn(loaded, intact), drawn(whole, intact))


def test_samples_join_along_the_batch() -> None:
    """CrossQ joins observations and next observations, which it takes for tensors."""
    joined, _ = buffers(VecWindow(noise(2), 4), 20)
    fill(joined, step_through(VecWindow(noise(2), 4), 10))
    found = joined.sample(3)
    both = torch.cat([found.observations, found.next_observations], dim=0)  # type: ignore[list-item]
    for key, value in found.observations.items():
        assert torch.equal(both[key], torch.cat([value, found.next_observations[key]]))


@pytest.mark.parametrize("space", [PARTS["box"], spaces.Dict(PARTS)])
def test_other_observations_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(TypeError, match=r"WindowReplayBuffer .*VecWindow"):
        WindowReplayBuffer(10, space, spaces.Discrete(2))
