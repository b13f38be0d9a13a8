"""Conditions and batches of tasks that are not quite Gymnasium's, as users write them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.wrappers import RescaleAction
from stable_baselines3.common.vec_env import VecEnv

from liquid_control import envs
from liquid_control.envs import VariableRate
from liquid_control.envs.conditioned import Conditioned
from liquid_control.envs.conditions import conditions_from

ONE = np.ones(1, np.float32)
WITHIN: Mapping[str, Mapping[str, Any]] = {
    "actuators": {"actuators": [envs.RateLimit(0.01)]},
    "events": {"events": [envs.Push(0.04, 5.0)]},
    "change": {"events": [envs.Change(at=9.0, gravity=1.0)]},
    "delayed sensors": {"sensors": [envs.Delay(0.02)]},
}

WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "noise": {"sensors": [envs.Noise(0.1)]},
    "relative noise": {"sensors": [envs.Noise(0.1, relative=True)]},
    "lost observations": {"sensors": [envs.Dropout(0.5), envs.Age()]},
}


class Halved(InvertedPendulumEnv):
    """Gives the simulation half of the action."""

    def step(self, action: Any) -> Any:
        return super().step(np.asarray(action) * 0.5)


class OwnLoop(InvertedPendulumEnv):
    def do_simulation(self, ctrl: Any, n_frames: int) -> None:
        self.data.ctrl[:] = ctrl
        mujoco.mj_step(self.model, self.data, nstep=n_frames)


class OwnPhysics(InvertedPendulumEnv):
    def _step_mujoco_simulation(self, ctrl: Any, n_frames: int) -> None:
        for _ in range(n_frames):
            self.data.ctrl[:] = ctrl - self.data.qvel[:1]
            mujoco.mj_step(self.model, self.data)


class Tenfold(InvertedPendulumEnv):
    """Transforms its observations outside `_get_obs`."""

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return 10 * observation, *rest


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Tasks of the classes above."""
    for kind in (Halved, OwnLoop, OwnPhysics, Tenfold):
        gym.register(f"{kind.__name__}-v0", entry_point=kind, max_episode_steps=1000)
    yield
    for kind in (Halved, OwnLoop, OwnPhysics, Tenfold):
        del gym.registry[f"{kind.__name__}-v0"]


def controls(env: gym.Env[Any, Any], action: float, steps: int = 2) -> float:
    """Return the control of the simulation after some steps with an action."""
    env.reset(seed=0)
    for _ in range(steps):
        env.step(np.full(1, action, np.float32))
    data: Any = env.unwrapped.data  # type: ignore[attr-defined]
    return float(data.ctrl[0])


def test_actuators_act_on_what_the_task_gives_the_simulation() -> None:
    no_limit = {"actuators": [envs.RateLimit(1e9)]}
    assert controls(envs.make("Halved-v0"), 2.0) == 1.0
    assert controls(envs.make("Halved-v0", **no_limit), 2.0) == 1.0
    inner = RescaleAction(gym.make("InvertedPendulum-v5"), -1.0, 1.0)
    scaled = Conditioned(VariableRate(inner), conditions_from(**no_limit))
    assert controls(scaled, 0.8) == pytest.approx(2.4)
    late = envs.make("Halved-v0", actuators=[envs.Delay(0.04)])
    assert [controls(late, 2.0, steps) for steps in (1, 2)] == [0.0, 1.0]


@pytest.mark.parametrize("name", WITHIN)
@pytest.mark.parametrize("task", ["OwnLoop-v0", "OwnPhysics-v0"])
def test_a_simulation_of_its_own_takes_no_condition_within_a_step(task: str, name: str) -> None:
    def step() -> None:
        env = envs.make(task, **WITHIN[name])
        env.reset(seed=0)
        env.step(ONE)

    with pytest.raises(TypeError, match="a simulation of its own, so actuators, events and delay"):
        step()
    env = envs.make(task, sensors=[envs.Noise(0.1)])  # acts around the step
    env.reset(seed=0)
    env.step(ONE)


def test_observations_that_cannot_be_delayed_are_refused() -> None:
    env = envs.make("Tenfold-v0", sensors=[envs.Delay(0.02)])
    env.reset(seed=0)
    with pytest.raises(TypeError, match="are not those of its method _get_obs"):
        env.step(ONE)


def changed_afterwards(**kwargs: Any) -> gym.Env[Any, Any]:
    env = HopperEnv(**kwargs)
    env._healthy_z_range = (1.2, np.inf)
    return env


@pytest.mark.parametrize(
    "make",
    [
        partial(HopperEnv, forward_reward_weight=10.0, ctrl_cost_weight=0.5),
        changed_afterwards,
        partial(HopperEnv, frame_skip=8),
    ],
    ids=["arguments", "attributes", "frame_skip"],
)
def test_what_an_entry_point_fixes_holds_in_batches(make: Callable[..., Any]) -> None:
    gym.register("Fixed-v0", entry_point=make, max_episode_steps=200)
    try:
        together, alone = (envs.make_vec("Fixed-v0", 2, seed=0, threads=n) for n in (1, 0))
        assert type(together) is not type(alone)
        found, expected = (rewards_of(env) for env in (together, alone))
    finally:
        del gym.registry["Fixed-v0"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def rewards_of(env: VecEnv) -> np.ndarray[Any, Any]:
    """Return rewards and dones of 60 random steps."""
    rng = np.random.default_rng(0)
    env.reset()
    rows = [env.step(rng.uniform(-1, 1, (2, 3)).astype(np.float32))[1:3] for _ in range(60)]
    return np.array(rows, np.float64)


@pytest.mark.parametrize("name", [*WITHIN, *WITHOUT])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copied_task_keeps_its_conditions(copied: Callable[[Any], Any], name: str) -> None:
    env = envs.make("InvertedPendulum-v5", **(WITHIN | WITHOUT)[name])
    env.reset(seed=0)
    env.step(0.3 * ONE)
    other = copied(env)
    seen = []
    for each in (env, other):
        each.reset(seed=3)
        seen.append([each.step(0.3 * ONE)[0]["observation"] for _ in range(6)])
    np.testing.assert_array_equal(*seen)
    assert other.unwrapped.data.time == env.unwrapped.data.time


def test_models_of_batches_are_copies() -> None:
    env = envs.make_vec("Hopper-v5", 2, seed=0)
    env.get_attr("model")[0].opt.gravity[2] = 0.0
    assert env.get_attr("model")[0].opt.gravity[2] == -9.81
