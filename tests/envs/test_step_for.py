"""Robots of one's own: plain Gymnasium envs at any rate, under conditions, and their check."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import RecordEpisodeStatistics, RescaleAction, TimeLimit

from liquid_control import envs
from liquid_control.checkpoints import env_state
from liquid_control.envs.variable_rate import layers

STEP, NOMINAL = 0.01, 0.05


class Cart(gym.Env[np.ndarray, np.ndarray]):
    """A cart with friction, simulated in small steps; the reward is its velocity over time."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (1,), np.float32)
    nominal_interval = NOMINAL
    timestep: float | None = STEP
    edge = np.inf

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-0.1, 0.1, 2)
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        return self.step_for(action, NOMINAL)

    def step_for(self, action: np.ndarray, seconds: float) -> Any:
        reward = 0.0
        for _ in range(round(seconds / STEP)):
            place, velocity = self.state
            reward += velocity * STEP
            velocity += STEP * (5 * float(action[0]) - 0.5 * velocity)
            self.state = np.array([place + STEP * velocity, velocity])
        ended = bool(abs(self.state[0]) > self.edge)
        return self.state.astype(np.float32), reward, ended, False, {}


class Stepped(Cart):
    """The same, which offers a function of one physics step instead."""

    step_for = None  # type: ignore[assignment]

    def step(self, action: np.ndarray) -> Any:
        return Cart.step_for(self, action, NOMINAL)

    def substep(self, action: np.ndarray) -> Any:
        return Cart.step_for(self, action, STEP)


class Fine(Cart):
    """A step_for of any seconds, and no timestep."""

    timestep = None

    def step_for(self, action: np.ndarray, seconds: float) -> Any:
        force, rate = 5 * float(action[0]) / 0.5, 0.5
        place, velocity = self.state
        decayed = np.exp(-rate * seconds)
        moved = force * seconds + (velocity - force) * (1 - decayed) / rate
        self.state = np.array([place + moved, force + (velocity - force) * decayed])
        return self.state.astype(np.float32), moved, False, False, {}


ROBOTS = {"Cart-v0": Cart, "Stepped-v0": Stepped, "Fine-v0": Fine}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    for name, robot in ROBOTS.items():
        gym.register(name, robot, max_episode_steps=40)
    yield
    for name in ROBOTS:
        gym.registry.pop(name)


def play(env: Any, actions: Any, seconds: float) -> dict[int, Any]:
    """Observations by hundredths of a second since the reset, and the return at the end."""
    observation, _ = env.reset(seed=0)
    seen, total, now = {0: observation["observation"]}, 0.0, 0.0
    while now < seconds - 1e-9:
        observation, reward, _, _, info = env.step(next(actions))
        now, total = info["physical_time"], total + reward
        if abs(now / STEP - round(now / STEP)) < 1e-6:
            seen[round(now / STEP)] = observation["observation"]
        assert observation["elapsed_time"] == np.float32(info["elapsed_time"])
    return seen | {-1: total}


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("interval", [0.01, 0.05, 0.2, envs.Uniform(0.01, 0.2)], ids=str)
def test_a_robot_of_ones_own_lives_the_same_episode_at_every_rate(name: str, interval: Any) -> None:
    plain = gym.make(name)
    observation, _ = plain.reset(seed=0)
    held, total, expected = np.ones(1, np.float32), 0.0, {0: observation}
    for step in range(1, 41):
        observation, reward, _, _, _ = plain.step(held)
        total += float(reward)
        expected[5 * step] = observation
    seen = play(envs.make(name, interval=interval), itertools.repeat(held), 2.0)
    assert seen.pop(-1) == pytest.approx(total)
    near = {"rtol": 1e-5, "atol": 1e-6} if name == "Fine-v0" else {"rtol": 0, "atol": 0}
    for step in seen.keys() & expected.keys():
        np.testing.assert_allclose(seen[step], expected[step], **near)  # type: ignore[arg-type]
    env = envs.make(name, interval=interval)
    env.reset(seed=0)
    seconds, truncated = 0.0, False
    while not truncated:
        *_, truncated, info = env.step(held)
        seconds = info["physical_time"]
    assert seconds == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["Cart-v0", "Stepped-v0"])
@pytest.mark.parametrize("interval", [0.01, 0.05, envs.Uniform(0.01, 0.2)], ids=str)
def test_delays_shift_a_robot_of_ones_own(name: str, interval: Any) -> None:
    held = np.ones(1, np.float32)
    plain = play(envs.make(name, interval=0.01), itertools.repeat(held), 1.5)
    late = envs.make(name, interval=interval, sensors=[envs.Delay(0.07)])
    seen = play(late, itertools.repeat(held), 1.2)
    for step in seen.keys() - {-1}:
        np.testing.assert_array_equal(seen[step], plain[max(0, step - 7)])
    weak = envs.make(name, interval=interval, actuators=[envs.Delay(0.07)])
    seen = play(weak, itertools.repeat(held), 1.2)
    rest = itertools.chain([0 * held] * 7, itertools.repeat(held))
    expected = play(envs.make(name, interval=0.01), rest, 1.5)
    for step in seen.keys() - {-1}:
        np.testing.assert_array_equal(seen[step], expected[step])


def test_an_episode_that_ends_within_an_interval_lasts_until_then() -> None:
    gym.register("Short-v0", type("Short", (Stepped,), {"edge": 0.5}))
    try:
        env = envs.make("Short-v0", interval=1.0)
        env.reset(seed=0)
        observation, _, terminated, _, info = env.step(np.ones(1, np.float32))
        assert terminated
        assert 0.5 < observation["observation"][0] < 0.6
        assert info["elapsed_time"] == info["physical_time"] < 0.9
        assert observation["elapsed_time"] == np.float32(info["elapsed_time"])
    finally:
        gym.registry.pop("Short-v0")


def test_it_takes_part_in_make_vec_and_is_saved_if_it_can_save_itself() -> None:
    class Saved(Cart):
        def state_dict(self) -> Any:
            state = self.np_random.bit_generator.state["state"]
            words = [state[key] >> shift & (2**63 - 1) for key in state for shift in (0, 63, 126)]
            return {"state": self.state.copy(), "generator": np.array(words)}

        def load_state_dict(self, state: Any) -> None:
            self.state = state["state"].copy()
            words = [int(word) for word in state["generator"]]
            key, inc = (w[0] | w[1] << 63 | w[2] << 126 for w in (words[:3], words[3:]))
            generator = np.random.PCG64()
            generator.state = generator.state | {"state": {"state": key, "inc": inc}}
            self._np_random = np.random.Generator(generator)

    gym.register("Saved-v0", Saved, max_episode_steps=4)
    try:
        conditions: dict[str, Any] = {
            "sensors": [envs.Noise(0.1), envs.Delay(0.02, 0.1), envs.Dropout(0.3), envs.Age()],
            "actuators": [envs.Delay(0.0, 0.1), envs.RateLimit(5.0)],
            "privileged": "all",
        }
        arguments: dict[str, Any] = {"interval": envs.Uniform(0.02, 0.1), **conditions}
        ours, theirs = (envs.make_vec("Saved-v0", 2, seed=seed, **arguments) for seed in (0, 1))
        ours.reset()
        theirs.reset()
        for _ in range(3):
            ours.step(np.ones((2, 1)))
        env_state.load_state_dict(theirs, env_state.state_dict(ours))
        for step in range(12):
            action = np.full((2, 1), np.sin(step))
            (now, rewards, dones, infos), (then, *rest, their_infos) = (
                each.step(action) for each in (ours, theirs)
            )
            np.testing.assert_equal((dict(now), rewards, dones), (dict(then), *rest))
            assert [info["drawn"] for info in infos] == [info["drawn"] for info in their_infos]
    finally:
        gym.registry.pop("Saved-v0")


def test_bodies_and_events_need_a_model() -> None:
    for conditions in ({"bodies": {"mass": 2.0}}, {"events": [envs.Push(1.0, 1.0)]}):
        with pytest.raises(TypeError, match="change a MuJoCo model, and Cart has none"):
            envs.make("Cart-v0", **conditions)  # type: ignore[arg-type]


class InTwoParts(Cart):
    """The same, whose observation is a Dict."""

    observation_space = spaces.Dict(  # type: ignore[assignment]
        {key: spaces.Box(-np.inf, np.inf, (1,), np.float32) for key in ("place", "velocity")}
    )

    def reset(self, **options: Any) -> Any:
        observation, info = super().reset(**options)
        return self.split(observation), info

    def step_for(self, action: np.ndarray, seconds: float) -> Any:
        observation, *rest = super().step_for(action, seconds)
        return self.split(observation), *rest

    def split(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        return {"place": observation[:1], "velocity": observation[1:]}


def test_actuators_need_no_vector_and_sensors_say_that_they_do() -> None:
    gym.register("InTwoParts-v0", InTwoParts)
    try:
        whole, parts = (
            envs.make(name, actuators=[envs.Delay(0.03)]) for name in ("Cart-v0", "InTwoParts-v0")
        )
        for env in (whole, parts):
            env.reset(seed=0)
        for _ in range(5):
            expected, reward, *_ = whole.step(np.ones(1, np.float32))
            found, its, *_ = parts.step(np.ones(1, np.float32))
            assert its == reward
            np.testing.assert_array_equal(
                [*found["place"], *found["velocity"]], expected["observation"]
            )
        for name, given in (("sensors", [envs.Noise(0.1)]), ("privileged", "full")):
            with pytest.raises(TypeError, match=f"{name} need a Box observation of one axis"):
                envs.make("InTwoParts-v0", **{name: given})
    finally:
        del gym.registry["InTwoParts-v0"]


# The check ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ROBOTS, "HalfCheetah-v5", "InvertedPendulum-v5", "Humanoid-v5"])
def test_a_good_robot_passes_the_check(name: str) -> None:
    envs.check_env(name)


def test_a_checked_env_keeps_its_interval() -> None:
    env = envs.make("Cart-v0", interval=0.02)
    envs.check_env(env)
    assert env.get_wrapper_attr("interval") == envs.Fixed(0.02)


def broken(**changes: Any) -> Any:
    return type("Broken", (Cart,), changes)()


def _per_step(self: Any, action: Any, seconds: float) -> Any:
    observation, reward, *rest = Cart.step_for(self, action, seconds)
    return observation, reward / seconds, *rest


def _deaf(self: Any, action: Any, seconds: float) -> Any:
    return Cart.step_for(self, action, NOMINAL)


def _random(self: Any, action: Any, seconds: float) -> Any:
    self.state += np.random.default_rng().normal(0, 0.1, 2)
    return Cart.step_for(self, action, seconds)


def _longer(self: Any, action: Any) -> Any:
    return self.step_for(action, 2 * NOMINAL)


def _richer(self: Any, action: Any) -> Any:
    observation, reward, *rest = self.step_for(action, NOMINAL)
    return observation, 20 * reward, *rest


def _milliseconds(self: Any, action: Any, seconds: float) -> Any:
    return Cart.step_for(self, action, seconds / 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step_for": _per_step}, "reward must be integrated over the seconds"),
        ({"step_for": _deaf}, "observations of Broken differ by .* held for the requested seconds"),
        ({"step_for": _random}, "for the same seed and action"),
        ({"nominal_interval": 50.0, "timestep": 10.0}, "in seconds, not milliseconds"),
        ({"nominal_interval": -1.0}, "Broken.nominal_interval must be a finite number of seconds"),
        (
            {"nominal_interval": None},
            "Broken.nominal_interval must be a number of seconds, got None",
        ),
        ({"timestep": 0.03}, "is not a multiple of its timestep 0.03 s"),
        (
            {"timestep": np.nan},
            "Broken.timestep must be a finite number of seconds above 0, got nan",
        ),
        ({"step_for": None}, "has no nominal_interval with step_for"),
        ({"nominal_interval": "0.05"}, "must be a number of seconds, got '0.05'"),
        ({"step": _longer}, "observations of Broken.step differ by .* lasts nominal_interval"),
        ({"step": _richer}, "rewards of Broken.step differ by .* lasts nominal_interval"),
        ({"step_for": _milliseconds}, "do not change in .* not milliseconds or numbers of steps"),
    ],
)
def test_a_broken_robot_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((AssertionError, TypeError, ValueError), match=message):
        envs.check_env(broken(**changes))


@pytest.mark.parametrize("tolerance", [0.0, -1.0, np.nan, np.inf])
def test_a_tolerance_is_a_positive_share(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance must be a positive share"):
        envs.check_env("Cart-v0", tolerance=tolerance)


def test_only_an_env_is_checked() -> None:
    with pytest.raises(TypeError, match=r"name of a task or a gymnasium\.Env, got 3"):
        envs.check_env(3)  # type: ignore[arg-type]


def test_an_env_without_a_rate_is_refused() -> None:
    with pytest.raises(TypeError, match="CartPoleEnv has no nominal_interval with step_for"):
        envs.check_env("CartPole-v1")


# Wrappers -------------------------------------------------------------------------------------


def test_wrappers_go_around_each_env_in_order() -> None:
    wrappers = [
        lambda env: RescaleAction(env, np.float32(-10), np.float32(10)),
        gym.wrappers.RecordEpisodeStatistics,
    ]
    venv = envs.make_vec("InvertedPendulum-v5", 2, seed=0, interval=0.06, wrappers=wrappers)
    plain = envs.make_vec("InvertedPendulum-v5", 2, seed=0, interval=0.06)
    assert isinstance(venv, envs.SerialVecEnv)
    assert venv.reason == "the wrapper RecordEpisodeStatistics works on one env"
    assert venv.action_space.high == 10.0
    np.testing.assert_equal(dict(venv.reset()), plain.reset())
    seen, expected = venv.step(np.full((2, 1), 5.0))[0], plain.step(np.full((2, 1), 1.5))[0]
    np.testing.assert_allclose(seen["observation"], expected["observation"], rtol=1e-6)


# gymnasium-robotics, the extra "robotics" -----------------------------------------------------

ADROIT = [f"AdroitHand{task}-v1" for task in ("Door", "Hammer", "Pen", "Relocate")]
MAZES = ["PointMaze_UMaze-v3", "PointMaze_Medium-v3", "AntMaze_UMaze-v5"]
BROKEN = ["FetchReach-v4", "HandReach-v3", "FrankaKitchen-v1"]  # with MuJoCo 4


@pytest.mark.parametrize("name", [*ADROIT, *MAZES])
@pytest.mark.filterwarnings("ignore")
def test_adroit_and_the_mazes_have_a_variable_rate(name: str) -> None:
    robotics = pytest.importorskip("gymnasium_robotics")
    gym.register_envs(robotics)
    env = envs.make(name, interval=envs.Uniform(0.02, 0.1), allow_any_interval=True, seed=0)
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert observation["observation"].ndim == 1
    data: Any = env.get_wrapper_attr("robot").data
    for _ in range(5):
        before = data.time
        observation, _, _, _, info = env.step(env.action_space.sample())
        assert observation["elapsed_time"] == np.float32(info["elapsed_time"])
        assert data.time - before == pytest.approx(info["elapsed_time"])
    venv = envs.make_vec(name, 2, seed=0)
    venv.reset()
    venv.step(np.zeros((2, *venv.action_space.shape)))  # type: ignore[misc]


@pytest.mark.parametrize("name", ADROIT[:1])
@pytest.mark.filterwarnings("ignore")
def test_adroit_may_be_late_and_noisy(name: str) -> None:
    gym.register_envs(pytest.importorskip("gymnasium_robotics"))
    env = envs.make(
        name,
        sensors=[envs.Delay(0.02), envs.Noise(0.01)],
        actuators=[envs.Delay(0.01)],
        bodies=envs.Randomize(mass=(0.5, 2.0)),
        seed=0,
    )
    _, info = env.reset()
    assert 0.5 <= info["drawn"]["bodies.mass"] <= 2.0
    env.step(env.action_space.sample())


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_load_with_mujoco_4_is_known(name: str) -> None:
    """Fails when a new gymnasium-robotics loads them; then they belong to the tests above."""
    gym.register_envs(pytest.importorskip("gymnasium_robotics"))
    with pytest.raises(AssertionError):
        envs.make(name)


def test_a_check_leaves_the_env_as_it_was() -> None:
    for wrap in (
        lambda env: RescaleAction(env, np.float32(-1), np.float32(1)),
        lambda env: RecordEpisodeStatistics(TimeLimit(env, 15)),
    ):
        env: Any = wrap(gym.make("InvertedPendulum-v5", max_episode_steps=20))
        before = [*map(type, layers(env))]
        envs.check_env(env)
        assert [*map(type, layers(env))] == before
