"""A saved environment goes on as if nothing had happened; unknown layers are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import (
    ClipAction,
    DelayObservation,
    FrameStackObservation,
    NormalizeObservation,
    NormalizeReward,
    TimeAwareObservation,
    TransformObservation,
)
from numpy.typing import NDArray
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from liquid_control import envs
from liquid_control.checkpoints.env_state import UnknownStateError, load_state_dict, state_dict


def uneven(task: str) -> Callable[[], gym.Env[Any, Any]]:
    """A robot at a varying rate."""
    interval = envs.Uniform(0.01, 0.04)
    return lambda: Monitor(envs.make(task, observe="positions", interval=interval, seed=3))


class RandomGravity(gym.Wrapper):  # type: ignore[type-arg]
    """Another weight and gravity in each episode, which it saves by their names."""

    def reset(self, **options: Any) -> Any:
        observation = self.env.reset(**options)
        model: Any = self.env.unwrapped.model  # type: ignore[attr-defined]
        model.opt.gravity[2] = self.np_random.uniform(-12, -8)
        model.body_mass[:] *= self.np_random.uniform(0.9, 1.1)
        return observation

    def state_dict(self) -> dict[str, NDArray[Any]]:
        model: Any = self.env.unwrapped.model  # type: ignore[attr-defined]
        return {"gravity": model.opt.gravity.copy(), "mass": model.body_mass.copy()}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        model: Any = self.env.unwrapped.model  # type: ignore[attr-defined]
        np.copyto(model.opt.gravity, state["gravity"])
        np.copyto(model.body_mass, state["mass"])


class HeavierGravity(RandomGravity):
    """A subclass, which may have more state."""


def wrapped(*wrappers: Callable[[Any], Any], task: str = "Pendulum-v1") -> Callable[[], VecEnv]:
    def one() -> Any:
        env = gym.make(task)
        for wrapper in wrappers:
            env = wrapper(env)
        return env

    return lambda: DummyVecEnv([one, one])


ENVS: dict[str, Callable[[], VecEnv]] = {
    "CartPole": lambda: make_vec_env("CartPole-v1", 2, seed=1),
    "Acrobot": lambda: make_vec_env("Acrobot-v1", 2, seed=1),
    "MountainCar": lambda: make_vec_env("MountainCar-v0", 2, seed=1),
    "MountainCarContinuous": lambda: make_vec_env("MountainCarContinuous-v0", 2, seed=1),
    "FrozenLake": lambda: make_vec_env("FrozenLake-v1", 2, seed=1),
    "CliffWalking": lambda: make_vec_env("CliffWalking-v1", 2, seed=1),
    "Taxi": lambda: make_vec_env("Taxi-v4", 2, seed=1),
    "normalised Pendulum": lambda: VecNormalize(make_vec_env("Pendulum-v1", 2, seed=1)),
    "stacked Hopper": lambda: VecFrameStack(make_vec_env("Hopper-v5", 2, seed=1), 3),
    "Ant": lambda: VecMonitor(DummyVecEnv([lambda: gym.make("Ant-v5")])),
    "Humanoid": lambda: make_vec_env("Humanoid-v5", 1, seed=1),
    "Pusher": lambda: make_vec_env("Pusher-v5", 1, seed=1),
    "uneven Humanoid": lambda: DummyVecEnv([uneven("Humanoid-v5"), uneven("Humanoid-v5")]),
    "uneven Walker": lambda: VecNormalize(DummyVecEnv([uneven("Walker2d-v5")])),
    "windows": lambda: envs.VecWindow(envs.make_vec("Hopper-v5", 2, seed=3, threads=1), length=3),
    "random gravity": lambda: DummyVecEnv([lambda: RandomGravity(gym.make("Hopper-v5"))]),
    "frames": wrapped(lambda env: FrameStackObservation(env, 4)),
    "frames of a Dict": wrapped(
        lambda env: FrameStackObservation(envs.VariableRate(env), 3), task="Hopper-v5"
    ),
    "delayed": wrapped(lambda env: DelayObservation(env, 2)),
    "normalised by Gymnasium": wrapped(NormalizeObservation, NormalizeReward, ClipAction),
    "time-aware": wrapped(TimeAwareObservation),
}


def lived(make: Callable[[], VecEnv], steps: int) -> tuple[VecEnv, Callable[[], Any]]:
    """An environment after some random steps, and what draws its next actions."""
    env = make()
    env.seed(5)
    env.reset()
    env.action_space.seed(0)

    def act() -> Any:
        return np.array([env.action_space.sample() for _ in range(env.num_envs)])

    for _ in range(steps):
        env.step(act())
    return env, act


@pytest.mark.filterwarnings("ignore:.*Monitor.*:UserWarning")
@pytest.mark.parametrize("steps", [0, 37])
@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS)
def test_an_environment_goes_on_where_it_was_saved(make: Callable[[], VecEnv], steps: int) -> None:
    one, act = lived(make, steps)
    other = make()
    state = {name: array.copy() for name, array in state_dict(one).items()}
    other.reset()
    other.step(act())
    load_state_dict(other, state)
    for _ in range(60):
        actions = act()
        mine, theirs = one.step(actions), other.step(actions)
        for part in range(3):
            np.testing.assert_equal(theirs[part], mine[part])
        for info, same in zip(mine[3], theirs[3], strict=True):
            assert ("episode" in info) == ("episode" in same)
            if "episode" in info:
                assert info["episode"]["r"] == same["episode"]["r"]


class Closure(gym.Wrapper):  # type: ignore[type-arg]
    """Rewards that grow with each step, by a state in a closure."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        count = 0

        def grow(reward: Any) -> Any:
            nonlocal count
            count += 1
            return reward * count

        self.grow = grow

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, self.grow(reward), *rest


class Slots(gym.Wrapper):  # type: ignore[type-arg]
    """State in a slot, which vars() does not show."""

    __slots__ = ("count",)

    def step(self, action: Any) -> Any:
        self.count = getattr(self, "count", 0) + 1
        return self.env.step(action)


class OfTheClass(gym.Wrapper):  # type: ignore[type-arg]
    """State in an attribute of the class."""

    count = 0


@pytest.mark.parametrize(
    ("wrapper", "named"),
    [
        (Closure, "Closure"),
        (Slots, "Slots"),
        (OfTheClass, "OfTheClass"),
        (HeavierGravity, "HeavierGravity"),
        (
            lambda env: TransformObservation(env, lambda seen: seen, env.observation_space),
            "TransformObservation",
        ),
    ],
)
def test_unknown_layers_are_named(wrapper: Callable[[Any], Any], named: str) -> None:
    env, _ = lived(wrapped(wrapper, task="Hopper-v5"), 3)
    with pytest.raises(UnknownStateError, match=named):
        state_dict(env)


def physics(env: VecEnv) -> Any:
    return env.envs[0].unwrapped  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("5.HopperEnv.physics", 1e11),
        ("5.HopperEnv.physics", np.nan),
        ("5.HopperEnv.jnt_dofadr", np.full(6, 500_000_000, np.int32)),
        ("5.HopperEnv.xpos", np.zeros((2, 3))),
        ("5.HopperEnv.xpos", np.zeros((5, 3), np.int64)),
        ("5.HopperEnv.generator", np.zeros(6)),
        ("2.VariableRate.schedule", np.full(3, 10**9)),
        ("2.VariableRate.tick", np.array(-1)),
        ("2.VariableRate.step", np.array(1)),
        ("1.Monitor.total_steps", np.array(-1)),
        ("1.Monitor.step", np.array(1)),
        ("9.Nothing.at_all", np.array(1)),
    ],
)
def test_a_forged_state_is_refused_before_anything_changes(name: str, value: Any) -> None:
    def make() -> VecEnv:
        return DummyVecEnv([uneven("Hopper-v5")])

    env, _ = lived(make, 5)
    state, before = state_dict(env), state_dict(env)
    if isinstance(value, float):
        state[name][3] = value
    else:
        state[name] = value
    model = {key: getattr(physics(env).model, key).copy() for key in ("jnt_dofadr", "body_mass")}
    with pytest.raises(ValueError, match=r"state|schedule|environment"):
        load_state_dict(env, state)
    after = state_dict(env)
    for key in before.keys() - {"1.Monitor.started"}:
        np.testing.assert_array_equal(after[key], before[key])
    for key, array in model.items():
        np.testing.assert_array_equal(getattr(physics(env).model, key), array)
