"""Tasks equal Gymnasium's at the nominal rate, and have the same physics at other rates."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import ClipAction, TimeLimit
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from liquid_control import envs
from liquid_control.envs import (
    DroppedFrames,
    Endpoints,
    Fixed,
    Interval,
    Jitter,
    LogUniform,
    ObserveOnly,
    PerEpisode,
    Uniform,
    VariableRate,
    substeps,
)

VARIABLE = (
    Uniform(0.02, 0.11),
    LogUniform(0.01, 0.2),
    Jitter(0.3),
    DroppedFrames(0.4),
    Endpoints(0.01, 0.13),
    PerEpisode(Uniform(0.01, 0.2)),
)


def episode(env: gym.Env[Any, Any], **reset: Any) -> list[tuple[Any, ...]]:
    """Run one episode with a zero action and return its steps."""
    env.reset(**reset)
    steps: list[tuple[Any, ...]] = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(np.zeros(env.action_space.shape, np.float32)))
    return steps


def elapsed(steps: list[tuple[Any, ...]]) -> list[float]:
    return [float(observation["elapsed_time"][0]) for observation, *_ in steps]


def test_a_task_equals_gymnasiums_at_the_nominal_interval(task: str) -> None:
    theirs, ours = gym.make(task, disable_env_checker=True), envs.make(task)
    rng = np.random.default_rng(0)

    def reset(seed: int | None = None) -> None:
        observation, info = theirs.reset(seed=seed)
        timed, our_info = ours.reset(seed=seed)
        np.testing.assert_array_equal(timed["observation"], observation, strict=True)
        assert timed["elapsed_time"] == np.float32(theirs.unwrapped.dt)
        np.testing.assert_equal({key: our_info[key] for key in info}, info)

    reset(seed=3)
    for step in range(100):
        action = rng.uniform(ours.action_space.low, ours.action_space.high).astype(np.float32)
        observation, reward, terminated, truncated, info = theirs.step(action)
        timed, *outcome, our_info = ours.step(action)
        np.testing.assert_array_equal(timed["observation"], observation, strict=True)
        assert timed["elapsed_time"] == np.float32(theirs.unwrapped.dt)
        assert outcome == [reward, terminated, truncated]
        np.testing.assert_equal({key: our_info[key] for key in info}, info)
        if terminated or truncated or step == 50:
            reset()


@pytest.mark.parametrize("interval", VARIABLE, ids=lambda interval: interval.kind)
def test_episodes_end_after_the_same_physical_time(interval: Interval) -> None:
    env = envs.make("HalfCheetah-v5", interval=interval, max_episode_steps=31)
    assert isinstance(env, VariableRate)
    assert env.horizon == pytest.approx(31 * 0.05)
    for seed in range(3):
        steps = episode(env, seed=seed)
        *_, terminated, truncated, info = steps[-1]
        assert (terminated, truncated) == (False, True)
        assert info["physical_time"] == env.horizon
        assert env.unwrapped.data.time == pytest.approx(env.horizon)
        assert sum(elapsed(steps)) == pytest.approx(env.horizon)


def test_observations_contain_the_simulated_time() -> None:
    env = envs.make("HalfCheetah-v5", interval=Uniform(0.02, 0.11), max_episode_steps=30)
    observation, info = env.reset(seed=0)
    data = env.unwrapped.data
    assert observation["elapsed_time"] == np.float32(0.05)
    assert info["elapsed_time"] == 0.05
    assert info["physical_time"] == 0.0
    truncated, seen = False, set()
    while not truncated:
        before = data.time
        observation, _, _, truncated, info = env.step(env.action_space.sample())
        assert observation["elapsed_time"].dtype == np.float32
        assert observation["elapsed_time"][0] == pytest.approx(data.time - before)
        assert info["elapsed_time"] == pytest.approx(data.time - before)
        assert info["physical_time"] == pytest.approx(data.time)
        seen.add(round(info["elapsed_time"], 6))
    assert len(seen) > 3


def test_a_shortened_last_interval_is_what_the_terminal_observation_carries() -> None:
    env = envs.make("HalfCheetah-v5", interval=0.04, max_episode_steps=2)
    steps = episode(env)
    assert elapsed(steps) == pytest.approx([0.04, 0.04, 0.02])
    assert [truncated for *_, truncated, _ in steps] == [False, False, True]


def test_termination_carries_its_time_and_is_not_truncation() -> None:
    env = envs.make("InvertedPendulum-v5", interval=Endpoints(0.02, 0.08))
    env.reset(seed=0)
    push = np.full(1, 3.0, np.float32)
    terminated, times = False, []
    while not terminated:
        observation, reward, terminated, truncated, _ = env.step(push)
        times.append(float(observation["elapsed_time"][0]))
        assert not truncated
        assert reward == (0.0 if terminated else pytest.approx(times[-1] / 0.04))
    assert sum(times) == pytest.approx(env.unwrapped.data.time)


def test_a_missed_tick_holds_the_last_action() -> None:
    held = envs.make("HalfCheetah-v5", interval=DroppedFrames(0.5), seed=1)
    plain = gym.make("HalfCheetah-v5", disable_env_checker=True)
    held.reset(seed=1)
    plain.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(30):
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        observation, _, _, _, info = held.step(action)
        for _ in range(round(info["elapsed_time"] / 0.05)):
            expected = plain.step(action)[0]
        np.testing.assert_array_equal(observation["observation"], expected)


def open_loop(task: str, interval: float, period: float, **task_kwargs: Any) -> tuple[Any, Any]:
    """Play a random torque signal, constant over each period, for one physical second."""
    env = envs.make(task, interval=interval, **task_kwargs)
    observation, _ = env.reset(seed=5)
    low, high = env.action_space.low, env.action_space.high
    signal = np.random.default_rng(5).uniform(low, high, (round(1 / period), *low.shape))
    rewards = []
    for action in np.repeat(signal.astype(np.float32), round(period / interval), axis=0):
        observation, reward, *_ = env.step(action)
        rewards.append(reward)
    return observation["observation"], np.array(rewards)


@pytest.mark.parametrize(
    ("task", "task_kwargs"),
    [
        ("HalfCheetah-v5", {}),
        ("Swimmer-v5", {}),
        ("Ant-v5", {"contact_cost_weight": 0, "healthy_reward": 0}),
    ],
)
def test_distance_and_torque_cost_do_not_depend_on_the_rate(
    task: str, task_kwargs: dict[str, Any]
) -> None:
    # The torque changes only where every rate has a step, so all rates simulate the same physics.
    # Velocity times interval telescopes to the distance and the torque cost is constant in
    # between: only the rounding of the sums is left.
    final, rewards = open_loop(task, 0.01, 0.1, **task_kwargs)
    for interval in (0.02, 0.05, 0.1):
        observation, coarse = open_loop(task, interval, 0.1, **task_kwargs)
        np.testing.assert_array_equal(observation, final)
        assert coarse.sum() == pytest.approx(rewards.sum(), rel=1e-9)


@pytest.mark.parametrize("task", ["Reacher-v5", "Pusher-v5"])
def test_a_sampled_reward_depends_on_the_rate_only_as_a_quadrature_does(task: str) -> None:
    # A distance is sampled where an interval ends. Within an interval it strays from there by no
    # more than its total variation, so a sum at rate 1 / interval is off by at most
    # interval * variation of the reward per second.
    final, rewards = open_loop(task, 0.01, 0.1)
    variation = np.abs(np.diff(rewards / 0.01)).sum()
    for interval in (0.02, 0.05, 0.1):
        observation, coarse = open_loop(task, interval, 0.1)
        np.testing.assert_array_equal(observation, final)
        assert abs(coarse.sum() - rewards.sum()) <= interval * variation
    assert 0.02 * variation < 0.25 * abs(rewards.sum()), "the bound would not see a factor of two"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checker", [check_env, sb3_check_env])
def test_the_env_checkers_pass(some_task: str, checker: Any) -> None:
    nominal = envs.make(some_task).nominal_interval
    interval = {"kind": "uniform", "low": 0.5 * nominal, "high": 2 * nominal}
    options = {"skip_render_check": True} if checker is check_env else {}
    checker(envs.make(some_task, observe="positions", interval=interval), **options)


@pytest.mark.parametrize("interval", VARIABLE, ids=lambda interval: interval.kind)
def test_rates_depend_on_the_seed_and_not_on_other_envs(interval: Interval) -> None:
    env, other = (envs.make("Reacher-v5", interval=interval) for _ in range(2))
    alone = [elapsed(episode(env, seed=2)), elapsed(episode(env))]
    env.reset(seed=2)
    together = []
    for _ in range(2):
        steps: list[tuple[Any, ...]] = []
        while not steps or not steps[-1][3]:
            other.reset()
            other.step(np.zeros(2))
            steps.append(env.step(np.zeros(2)))
        together.append(elapsed(steps))
        env.reset()
    assert together == alone
    assert alone[0] != alone[1]
    assert elapsed(episode(env, seed=3)) != alone[0]


def test_per_episode_keeps_one_rate_for_an_episode() -> None:
    env = envs.make("Reacher-v5", interval=PerEpisode(Uniform(0.01, 0.2)))
    rates = []
    for seed in range(4):
        times = elapsed(episode(env, seed=seed))
        assert len(set(times[:-1])) == 1
        rates.append(times[0])
    assert len(set(rates)) > 1


def test_an_episode_without_a_limit_repeats_its_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(substeps, "UNLIMITED_COUNT", 5)
    env = envs.make("HalfCheetah-v5", interval=Uniform(0.01, 0.2), max_episode_steps=-1)
    assert isinstance(env, VariableRate)
    assert env.horizon is None
    env.reset(seed=0)
    steps = [env.step(np.zeros(6)) for _ in range(15)]
    times = elapsed(steps)
    assert times == times[:5] * 3
    assert len(set(times[:5])) > 1
    assert not any(truncated for *_, truncated, _ in steps)


def test_between_steps_the_task_has_its_nominal_interval() -> None:
    env = envs.make("HalfCheetah-v5", interval=0.1)
    env.reset()
    env.step(np.zeros(6))
    assert env.unwrapped.dt == 0.05
    with pytest.raises(ValueError, match="Action dimension mismatch"):
        env.step(np.zeros(5))
    assert env.unwrapped.dt == 0.05


@pytest.mark.parametrize(
    "stack",
    [
        lambda env: env,
        lambda env: ClipAction(env),
        lambda env: ObserveOnly(ClipAction(env), "positions"),
        lambda env: TimeLimit(env, 90),
        lambda env: TimeLimit(ClipAction(TimeLimit(env, 90)), 80),
    ],
)
def test_the_limit_inside_becomes_the_horizon(stack: Any) -> None:
    env = VariableRate(stack(gym.make("Reacher-v5", disable_env_checker=True)), 0.01)
    assert env.horizon == pytest.approx(50 * 0.02)
    assert len(episode(env)) == 100


def test_the_specification_rebuilds_the_env() -> None:
    env = envs.make("Reacher-v5", observe="positions", interval=Uniform(0.01, 0.1))
    again = gym.make(env.spec)
    assert isinstance(again, VariableRate)
    assert again.horizon == env.get_wrapper_attr("horizon")
    assert elapsed(episode(again, seed=4)) == elapsed(episode(env, seed=4))


def test_stepping_outside_an_episode_raises() -> None:
    env = envs.make("Reacher-v5")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(2))
    episode(env)
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(np.zeros(2))


def test_any_mujoco_env_may_be_wrapped() -> None:
    class Pendulum(MujocoEnv):
        metadata: ClassVar = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}

        def __init__(self) -> None:
            space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
            super().__init__("inverted_pendulum.xml", 3, space)

        def step(self, action: Any) -> tuple[Any, ...]:
            self.do_simulation(action, self.frame_skip)
            return self.state_vector(), 1.0, False, False, {}

        def reset_model(self) -> Any:
            self.set_state(self.init_qpos, self.init_qvel)
            return self.state_vector()

    env = VariableRate(TimeLimit(Pendulum(), 10), Uniform(0.02, 0.12))
    steps = episode(env, seed=0)
    assert sum(reward for _, reward, *_ in steps) == pytest.approx(10.0)
    assert env.unwrapped.data.time == pytest.approx(10 * 0.06)


def test_unsupported_envs_raise() -> None:
    with pytest.raises(TypeError, match=r"needs a Gymnasium MujocoEnv.*got CartPoleEnv"):
        VariableRate(gym.make("CartPole-v1"), Fixed())
    with pytest.raises(ValueError, match="already wrapped"):
        VariableRate(envs.make("Reacher-v5"), Fixed())
    with pytest.raises(ValueError, match="shorter than one physics step"):
        envs.make("Reacher-v5", interval=0.001)


@pytest.mark.parametrize(("interval", "fps"), [(None, 20), (0.1, 10), (Uniform(0.02, 0.1), 20)])
def test_films_at_a_fixed_interval_last_as_long_as_the_episode(interval: Any, fps: int) -> None:
    assert envs.make("HalfCheetah-v5", interval=interval).metadata["render_fps"] == fps
    venv = envs.make_vec("HalfCheetah-v5", 2, interval=interval)
    assert venv.metadata["render_fps"] == fps
