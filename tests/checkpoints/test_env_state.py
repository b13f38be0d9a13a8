"""A saved environment goes on as if nothing had happened; unknown layers are named."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.wrappers import (
    ClipAction,
    FrameStackObservation,
    NormalizeObservation,
    NormalizeReward,
    TimeAwareObservation,
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
from liquid_control.checkpoints.env_state import (
    ADAPTERS,
    UnknownStateError,
    load_state_dict,
    state_dict,
)


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


class Cart(gym.Env):  # type: ignore[type-arg]
    """A robot of a user that saves all of its own state, and draws nothing itself."""

    observation_space = gym.spaces.Box(-9, 9, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    nominal_interval, timestep = 0.05, 0.01

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = 0.0
        return np.zeros(1, np.float32), {}

    def substep(self, action: Any) -> Any:
        self.x += 0.01 * float(action[0])
        return np.array([self.x], np.float32), 0.2, False, False, {}

    def step(self, action: Any) -> Any:
        for _ in range(5):
            result = self.substep(action)
        return result[0], 1.0, False, False, {}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        return {"x": np.array(self.x)}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        self.x = state["x"].item()


class Picture(gym.ObservationWrapper):  # type: ignore[type-arg]
    """An observation as pixels, without a state."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def observation(self, observation: Any) -> Any:
        return np.full((8, 8, 3), 30 * observation + 100, np.uint8)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        return {}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        assert not state


def frozen(env: Any) -> Any:
    """The moments of the layer do not change any more."""
    env.update_running_mean = False
    return env


class HeavierGravity(RandomGravity):
    """A subclass, which may have more state."""


def wrapped(
    *layers: Callable[[Any], Any], task: str = "Pendulum-v1", **options: Any
) -> Callable[[], VecEnv]:
    def one() -> Any:
        env = gym.make(task, **options)
        for layer in layers:
            env = layer(env)
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
    "frames of a Dict": wrapped(
        lambda env: FrameStackObservation(envs.VariableRate(env), 3), task="Hopper-v5"
    ),
    "sticky in a table": wrapped(lambda env: wrappers.StickyAction(env, 0.5), task="Taxi-v4"),
    "frozen moments": wrapped(NormalizeObservation, frozen, NormalizeReward, ClipAction),
}


def with_time(env: Any) -> Any:
    """A Dict with the number of the step."""
    return TimeAwareObservation(env, flatten=False)


UNIT = {"min_obs": np.float32(-1), "max_obs": np.float32(1)}
# All wrappers of Gymnasium: the layers whose state is restored exactly, or None where the wrapper
# is named as unknown: it calls a function of the user's, draws pictures, or converts arrays of
# other libraries.
GYMNASIUM: dict[str, tuple[Callable[[Any], Any], ...] | None] = {
    "AddRenderObservation": None,
    "AddWhiteNoise": None,
    "ArrayConversion": None,
    "AtariPreprocessing": None,
    "Autoreset": (wrappers.Autoreset,),
    "ClipAction": (wrappers.ClipAction,),
    "ClipReward": (lambda env: wrappers.ClipReward(env, -1, 1),),
    "DelayObservation": (lambda env: wrappers.DelayObservation(env, 3),),
    "DiscretizeAction": (lambda env: wrappers.DiscretizeAction(env, 5),),
    "DiscretizeObservation": (
        lambda env: wrappers.RescaleObservation(env, **UNIT),
        lambda env: wrappers.DiscretizeObservation(env, 5),
    ),
    "DtypeObservation": (lambda env: wrappers.DtypeObservation(env, np.float32),),
    "FilterObservation": (with_time, lambda env: wrappers.FilterObservation(env, ["obs"])),
    "FlattenObservation": (with_time, wrappers.FlattenObservation),
    "FrameStackObservation": (lambda env: wrappers.FrameStackObservation(env, 4),),
    "GrayscaleObservation": (Picture, wrappers.GrayscaleObservation),
    "HumanRendering": None,
    "JaxToNumpy": None,
    "JaxToTorch": None,
    "MaxAndSkipObservation": (wrappers.MaxAndSkipObservation,),
    "NormalizeObservation": (wrappers.NormalizeObservation,),
    "NormalizeReward": (wrappers.NormalizeReward,),
    "NumpyToTorch": None,
    "ObstructView": None,
    "OrderEnforcing": (wrappers.OrderEnforcing,),
    "PassiveEnvChecker": (wrappers.PassiveEnvChecker,),
    "RecordEpisodeStatistics": (wrappers.RecordEpisodeStatistics,),
    "RecordVideo": None,
    "RenderCollection": None,
    "RepeatAction": (lambda env: wrappers.RepeatAction(env, 3),),
    "RescaleAction": (lambda env: wrappers.RescaleAction(env, np.float32(-1), np.float32(1)),),
    "RescaleObservation": (lambda env: wrappers.RescaleObservation(env, **UNIT),),
    "ReshapeObservation": (lambda env: wrappers.ReshapeObservation(env, (3, 1)),),
    "ResizeObservation": (Picture, lambda env: wrappers.ResizeObservation(env, (4, 4))),
    "StickyAction": (lambda env: wrappers.StickyAction(env, 0.5, (1, 4)),),
    "TimeAwareObservation": (wrappers.TimeAwareObservation,),
    "TimeLimit": (lambda env: wrappers.TimeLimit(env, 5),),
    "TransformAction": None,
    "TransformObservation": None,
    "TransformReward": None,
}
ENVS |= {
    name: wrapped(*layers, max_episode_steps=7)
    for name, layers in GYMNASIUM.items()
    if layers and (name != "ResizeObservation" or find_spec("cv2"))
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


def lasting(info: dict[str, Any]) -> dict[str, Any]:
    """What a step says, but for wall-clock times."""
    episode = {key: value for key, value in info.get("episode", {}).items() if key != "t"}
    return {**info, "episode": episode}


@pytest.mark.filterwarnings("ignore:.*Monitor.*:UserWarning")
@pytest.mark.parametrize("steps", [pytest.param(0, marks=pytest.mark.slow), 37])
@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS)
def test_an_environment_goes_on_where_it_was_saved(make: Callable[[], VecEnv], steps: int) -> None:
    one, act = lived(make, steps)
    other = make()
    state = {name: array.copy() for name, array in state_dict(one).items()}
    other.reset()
    other.step(act())
    load_state_dict(other, state)
    for _ in range(30):
        actions = act()
        mine, theirs = one.step(actions), other.step(actions)
        for part in range(3):
            np.testing.assert_equal(theirs[part], mine[part])
        np.testing.assert_equal([*map(lasting, theirs[3])], [*map(lasting, mine[3])])


def test_draws_of_our_wrappers_go_on_around_a_robot_of_the_user() -> None:
    gym.register("Cart-v0", Cart, max_episode_steps=6)
    options: Any = {"interval": envs.Uniform(0.02, 0.1), "sensors": [envs.Noise(0.1)]}
    try:
        one, other = (envs.make_vec("Cart-v0", 2, seed=seed, **options) for seed in (1, 2))
    finally:
        del gym.registry["Cart-v0"]
    for env in (one, other):
        env.reset()
    for _ in range(3):
        one.step(np.zeros((2, 1), np.float32))
    state = {name: array.copy() for name, array in state_dict(one).items()}
    load_state_dict(other, state)
    for _ in range(30):
        mine, theirs = (env.step(np.ones((2, 1), np.float32)) for env in (one, other))
        for part in range(3):
            np.testing.assert_equal(theirs[part], mine[part])
    early = {name: each for name, each in state.items() if "liquid_control.generator" not in name}
    load_state_dict(other, early)  # of before it was saved


def test_each_wrapper_of_gymnasium_is_restored_or_named() -> None:
    assert GYMNASIUM.keys() == {*wrappers.__all__} - {"vector"}
    known = {key.rpartition(".")[2] for key in ADAPTERS if key.startswith("gymnasium.wrappers.")}
    assert known == {name for name, layers in GYMNASIUM.items() if layers}


class InASpace(gym.Wrapper):  # type: ignore[type-arg]
    """State in the generator of a space."""

    def step(self, action: Any) -> Any:
        return self.env.step(self.action_space.sample())


def replaced(env: Any) -> Any:
    """State in a method that was put into the place of another."""
    inner, steps = env.unwrapped.step, []

    def step(action: Any) -> Any:
        steps.append(action)
        return inner(action * 0.9 ** len(steps))

    env.unwrapped.step = step
    return env


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
        (InASpace, "InASpace"),
        (replaced, "HopperEnv with another step"),
        (HeavierGravity, "HeavierGravity"),
        (
            lambda env: wrappers.TransformObservation(env, lambda seen: seen, None),
            "TransformObservation",
        ),
        (
            lambda env: wrappers.TransformAction(env, lambda action: action, env.action_space),
            "TransformAction",
        ),
        (lambda env: wrappers.TransformReward(env, float), "TransformReward"),
    ],
)
def test_unknown_layers_are_named(wrapper: Callable[[Any], Any], named: str) -> None:
    env, _ = lived(wrapped(wrapper, task="Hopper-v5"), 3)
    with pytest.raises(UnknownStateError, match=named):
        state_dict(env)


@pytest.mark.parametrize("value", [None, "text", np.array([{}]), 1j])
def test_a_state_that_no_file_can_hold_is_refused_by_its_name(value: Any) -> None:
    class Odd(Picture):
        def state_dict(self) -> dict[str, Any]:
            return {"fine": 1.0, "odd": value}

        def load_state_dict(self, state: Any) -> None:
            pass

    with pytest.raises(TypeError, match=r"state_dict of .*Odd returns 'odd' as .*; return arrays"):
        state_dict(lived(wrapped(Odd), 1)[0])


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
