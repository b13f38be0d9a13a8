"""New envs continue from a snapshot bit for bit, for any number of threads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from liquid_control import envs
from liquid_control.envs import BatchedVecEnv, Uniform

COUNT = 3


def build(task: str = "InvertedPendulum-v5", **arguments: Any) -> BatchedVecEnv:
    defaults = {"num_envs": COUNT, "interval": Uniform(0.02, 0.1), "seed": 3, "threads": 2}
    venv = envs.make_vec(task, **(defaults | arguments))
    assert isinstance(venv, BatchedVecEnv)
    return venv


def live(venv: BatchedVecEnv, steps: range) -> list[Any]:
    """Return the results of some steps with different actions."""
    seen = []
    for step in steps:
        rng = np.random.default_rng(step)
        low, high = venv.action_space.low, venv.action_space.high
        observations, rewards, dones, infos = venv.step(rng.uniform(low, high, (COUNT, *low.shape)))
        for info in infos:
            info.get("episode", {}).pop("t", None)  # wall-clock time
        seen.append((observations, rewards, dones, infos))
    return seen


def passed_on(venv: BatchedVecEnv) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a snapshot after a round trip through JSON."""
    notes, arrays = venv.snapshot()
    return json.loads(json.dumps(notes, allow_nan=False)), arrays


def test_a_new_env_continues_bit_for_bit(task: str) -> None:
    straight = build(task, max_episode_steps=20)
    straight.reset()
    live(straight, range(30))
    snapshot = passed_on(straight)
    expected = live(straight, range(30, 60))
    assert any(dones.any() for _, _, dones, _ in expected)

    for threads in (1, 2):
        resumed = build(task, max_episode_steps=20, threads=threads, seed=9)
        resumed.restore(*snapshot)
        for now, then in zip(live(resumed, range(30, 60)), expected, strict=True):
            np.testing.assert_equal(now, then)


def test_a_snapshot_is_not_changed_by_what_follows() -> None:
    venv = build()
    venv.reset()
    _, arrays = venv.snapshot()
    before = {name: array.copy() for name, array in arrays.items()}
    live(venv, range(10))
    np.testing.assert_equal(arrays, before)


def test_seeds_set_since_are_forgotten() -> None:
    straight, resumed = build(), build()
    straight.reset()
    resumed.seed(77)
    resumed.restore(*straight.snapshot())
    np.testing.assert_equal(resumed.reset(), straight.reset())


def test_counters_and_attributes_are_restored() -> None:
    venv, other = build(), build()
    venv.reset()
    venv.physics.simulations.qpos[1] = np.inf
    live(venv, range(1))
    assert venv.diverged == 1
    venv.set_attr("stage", 4, indices=[2])
    venv.set_attr("teacher", object())
    other.restore(*passed_on(venv))
    assert other.diverged == 1
    assert other.get_attr("stage", indices=[2]) == [4]
    assert not other.has_attr("teacher")


def test_an_episode_is_as_old_as_its_env() -> None:
    venv, other = build(), build()
    venv.reset()
    notes, arrays = venv.snapshot()
    other.restore(notes | {"seconds": 3600.0}, arrays)
    ended = []
    while not ended:
        *_, infos = other.step(np.zeros((COUNT, 1)))
        ended = [info["episode"]["t"] for info in infos if "episode" in info]
    assert 3600 < ended[0] < 3660


@pytest.mark.parametrize(
    "other",
    [{"num_envs": 2}, {"task": "InvertedDoublePendulum-v5"}, {"interval": Uniform(0.04, 0.1)}],
)
def test_a_snapshot_of_other_envs_raises_and_changes_nothing(other: dict[str, Any]) -> None:
    venv, straight = build(), build(**other)
    straight.reset()
    venv.reset()
    _, before = venv.snapshot()
    with pytest.raises(ValueError, match="the same arguments"):
        venv.restore(*straight.snapshot())
    np.testing.assert_equal(venv.snapshot()[1], before)


def test_nothing_is_snapshot_before_the_first_reset() -> None:
    with pytest.raises(ResetNeeded):
        build().snapshot()
