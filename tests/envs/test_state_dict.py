"""Laws of saved states: envs made anew go on from one bit for bit, whatever the threads."""

from __future__ import annotations

import json
from collections.abc import Callable
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
    """What is seen of some steps; each has actions of its own."""
    seen = []
    for step in steps:
        rng = np.random.default_rng(step)
        low, high = venv.action_space.low, venv.action_space.high
        observations, rewards, dones, infos = venv.step(rng.uniform(low, high, (COUNT, *low.shape)))
        for info in infos:
            info.get("episode", {}).pop("t", None)  # the clock on the wall
        seen.append((observations, rewards, dones, infos))
    return seen


def test_an_env_made_anew_goes_on_bit_for_bit(some_task: str) -> None:
    straight = build(some_task, max_episode_steps=10)
    straight.reset()
    live(straight, range(15))
    state = straight.state_dict()
    expected = live(straight, range(15, 30))
    assert any(dones.any() for _, _, dones, _ in expected)

    for threads in (1, 2):
        resumed = build(some_task, max_episode_steps=10, threads=threads, seed=9)
        resumed.load_state_dict(state)
        for now, then in zip(live(resumed, range(15, 30)), expected, strict=True):
            np.testing.assert_equal(now, then)


def test_a_state_is_not_changed_by_what_follows() -> None:
    venv = build()
    venv.reset()
    arrays = venv.state_dict()
    before = {name: array.copy() for name, array in arrays.items()}
    live(venv, range(10))
    np.testing.assert_equal(arrays, before)


def test_seeds_set_since_are_forgotten() -> None:
    straight, resumed = build(), build()
    straight.reset()
    resumed.seed(77)
    resumed.load_state_dict(straight.state_dict())
    np.testing.assert_equal(resumed.reset(), straight.reset())


def test_what_was_counted_and_noted_is_kept() -> None:
    venv, other = build(), build()
    venv.reset()
    venv.physics.simulations.qpos[1] = np.inf
    live(venv, range(1))
    assert venv.diverged == 1
    venv.set_attr("stage", 4, indices=[2])
    venv.set_attr("teacher", object())
    other.load_state_dict(venv.state_dict())
    assert other.diverged == 1
    assert other.get_attr("stage", indices=[2]) == [4]
    assert not other.has_attr("teacher")


def test_an_episode_is_as_old_as_its_env() -> None:
    venv, other = build(), build()
    venv.reset()
    state = venv.state_dict()
    other.load_state_dict({**state, "seconds": np.array(3600.0)})
    ended = []
    while not ended:
        *_, infos = other.step(np.zeros((COUNT, 1)))
        ended = [info["episode"]["t"] for info in infos if "episode" in info]
    assert 3600 < ended[0] < 3660


@pytest.mark.parametrize(
    "other",
    [{"num_envs": 2}, {"task": "InvertedDoublePendulum-v5"}, {"interval": Uniform(0.04, 0.1)}],
)
def test_the_state_of_other_envs_is_refused_whole(other: dict[str, Any]) -> None:
    venv, straight = build(), build(**other)
    straight.reset()
    venv.reset()
    before = arrays_of(venv)
    with pytest.raises(ValueError, match="the same arguments"):
        venv.load_state_dict(straight.state_dict())
    np.testing.assert_equal(arrays_of(venv), before)


def arrays_of(venv: BatchedVecEnv) -> dict[str, np.ndarray]:
    """Its state without the time."""
    return {name: array for name, array in venv.state_dict().items() if name != "seconds"}


def with_notes(state: dict[str, np.ndarray], **changed: Any) -> dict[str, np.ndarray]:
    notes = json.loads(state["notes"].tobytes()) | changed
    return {**state, "notes": np.frombuffer(json.dumps(notes).encode(), np.uint8)}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["schedule"].__setitem__((0, 0), 10**9),
        lambda state: state["schedule"].__setitem__((0, 0), 0),
        lambda state: state["schedule"].__setitem__((0, 0), -1),
        lambda state: state["ticks"].__setitem__(1, 10**9),
        lambda state: state["ticks"].__setitem__(1, -1),
        lambda state: state["substeps_since_reset"].__setitem__(1, 10**9),
        lambda state: state["state"].__setitem__((2, 1), np.nan),
        lambda state: state["state"].__setitem__((2, 1), 1e300),
        lambda state: state["returns"].__setitem__(0, np.inf),
        lambda state: state.update(returns=state["returns"].astype(np.float32)),
        lambda state: state.update(jnt_dofadr=np.zeros(1, np.int32)),
        lambda state: state.pop("ticks"),
        lambda state: state.pop("seconds"),
        lambda state: state.pop("notes"),
        lambda state: state.update(notes=np.frombuffer(b"[", np.uint8)),
        lambda state: state.update(with_notes(state, generators=[])),
        lambda state: state.update(with_notes(state, generators=[{"bit_generator": "PCG64"}] * 3)),
        lambda state: state.update(with_notes(state, attributes=[{"step_wait": 1}, {}, {}])),
        lambda state: state.update(with_notes(state, attributes=[{"render": 1}, {}, {}])),
        lambda state: state.update(seconds=np.array(np.nan)),
        lambda state: state.update(with_notes(state, diverged=-1)),
    ],
)
def test_a_forged_state_is_refused_whole(change: Callable[[dict[str, Any]], Any]) -> None:
    venv, other = build(), build()
    venv.reset()
    other.reset()
    live(venv, range(3))
    before, state = arrays_of(other), venv.state_dict()
    change(state)
    with pytest.raises(ValueError, match=r"saved|state is of other envs"):
        other.load_state_dict(state)
    np.testing.assert_equal(arrays_of(other), before)


def test_no_state_before_the_first_reset() -> None:
    with pytest.raises(ResetNeeded):
        build().state_dict()
