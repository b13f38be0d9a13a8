"""Observed positions do not depend on velocities, and velocities not on positions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

from liquid_control import envs
from liquid_control.envs import ObserveOnly


def chosen(env: gym.Env[Any, Any], part: Any) -> set[int]:
    """Return the entries that a part shows."""
    size = env.observation_space.shape[0]
    return set(ObserveOnly(env, part).observation(np.arange(size)).tolist())


def observation(task: Any, state: dict[str, Any]) -> Any:
    """Return the full observation of joints and torques, with or without contact and limits."""
    task.model.opt.disableflags = (
        0 if state["constraint"] else mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    )
    task.data.ctrl[:] = state["ctrl"]
    task.set_state(state["qpos"], state["qvel"])
    mujoco.mj_rnePostConstraint(task.model, task.data)
    return task._get_obs()


def sensitive(task: Any, what: str) -> set[int]:
    """Return the entries of the full observation that change when one part of the state does."""
    rng = np.random.default_rng(0)
    changed: set[int] = set()
    for _ in range(32):
        state = {
            "qpos": task.init_qpos + rng.uniform(-1.2, 1.2, task.model.nq),
            "qvel": rng.uniform(-1, 1, task.model.nv),
            "ctrl": np.zeros(task.model.nu),
            "constraint": np.array(0),
        }
        other = state | {what: state[what] + rng.uniform(0.05, 0.1, state[what].shape)}
        different = observation(task, state) != observation(task, other)
        changed |= set(np.flatnonzero(different).tolist())
    return changed


def test_parts_are_what_depends_on_one_kind_of_state_alone(task: str) -> None:
    env = gym.make(task, disable_env_checker=True)
    env.reset(seed=0)
    by_position, by_velocity, by_torque, by_constraint = (
        sensitive(env.unwrapped, what) for what in ("qpos", "qvel", "ctrl", "constraint")
    )
    everything = set(range(env.observation_space.shape[0]))
    # Masses and the heights of things on a table never change; either part may show them.
    constant = everything - by_position - by_velocity
    positions, velocities = chosen(env, "positions"), chosen(env, "velocities")
    assert positions - constant == by_position - by_velocity
    assert velocities - constant == by_velocity - by_position
    assert not (positions | velocities) & (by_torque | by_constraint)
    assert chosen(env, "full") == everything


@pytest.mark.parametrize(
    "task", ["Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "Swimmer-v5", "Walker2d-v5"]
)
@pytest.mark.parametrize(("part", "field"), [("positions", "qpos"), ("velocities", "qvel")])
def test_parts_begin_with_the_joints_when_none_is_excluded(
    task: str, part: Any, field: str
) -> None:
    env = envs.make(task, observe=part, exclude_current_positions_from_observation=False)
    timed, _ = env.reset(seed=0)
    joints = getattr(env.unwrapped.data, field)
    np.testing.assert_array_equal(timed["observation"][: len(joints)], joints)


def test_bounds_and_dtype_are_those_of_the_entries_shown() -> None:
    low = np.arange(4, dtype=np.float32)
    env = InvertedPendulumEnv()
    env.observation_space = gym.spaces.Box(low, low + 10)
    space = ObserveOnly(env, [3, 1]).observation_space
    assert space.dtype == np.float32
    assert space.low.tolist() == [3, 1]
    assert space.high.tolist() == [13, 11]


def test_a_user_defined_structure_is_used() -> None:
    env = InvertedPendulumEnv()
    env.observation_structure = {"skipped_qpos": 7, "qvel": 1, "lidar": 1, "qpos": 2}
    assert chosen(env, "positions") == {2, 3}
    assert chosen(env, "velocities") == {0}


@pytest.mark.parametrize("make", [envs.make, lambda task, **parts: envs.make_vec(task, 2, **parts)])
def test_indices_may_be_an_array(make: Any) -> None:
    env = make("Hopper-v5", observe=np.array([0, 1]))
    assert env.observation_space["observation"].shape == (2,)


def test_invalid_parts_raise() -> None:
    env = InvertedPendulumEnv()
    with pytest.raises(ValueError, match=r"observe 'poses' is unknown; use one of \('full'"):
        ObserveOnly(env, "poses")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must lie in 0\.\.3, got \[4\]"):
        ObserveOnly(env, [4])
    with pytest.raises(ValueError, match=r"takes a list of indices, got \[\]"):
        ObserveOnly(env, [])
    env.observation_structure = {"qpos": 2, "lidar": 2}
    with pytest.raises(ValueError, match="InvertedPendulumEnv has no velocities"):
        ObserveOnly(env, "velocities")
    del env.observation_structure
    with pytest.raises(ValueError, match=r"layout .* is unknown: 0 of its 4 entries"):
        ObserveOnly(env, "positions")
    with pytest.raises(TypeError, match="needs a Box observation of one axis"):
        ObserveOnly(gym.make("FrozenLake-v1"), "full")
    with pytest.raises(ValueError, match="ObserveOnly goes inside VariableRate"):
        ObserveOnly(envs.make("Reacher-v5"), "positions")
