"""Laws of sensors, actuators, bodies and events: alone, together, batched, and when resumed."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from liquid_control import envs
from liquid_control.checkpoints import env_state
from liquid_control.envs import BatchedVecEnv, conditions_from
from liquid_control.envs.actuators import Actuation
from liquid_control.envs.episode import Episode
from liquid_control.envs.sensors import Sensing

EVERYTHING: dict[str, Any] = {
    "sensors": [
        envs.Noise(0.01, bias=(-0.005, 0.005)),
        envs.Noise(0.1, relative=True),
        envs.Delay(0.01, 0.05),
        envs.Dropout(0.3),
        envs.Quantize(0.001),
        envs.Age(),
    ],
    "actuators": [envs.Delay(0.0, 0.13), envs.RateLimit(20.0)],
    "bodies": envs.Randomize(
        mass=(0.7, 1.3),
        friction=(0.5, 1.5),
        damping=(0.9, 1.1),
        gain=(0.8, 1.2),
        gravity=(0.9, 1.1),
    ),
    "events": [
        envs.Change(at=(0.1, 0.3), mass=(0.5, 2.0), gain=0.5),
        envs.Push(every=(0.05, 0.1), impulse=(0.2, 2.0)),
        envs.Push(every=0.02, impulse=0.1),
    ],
    "privileged": "all",
}
# Parts that are there and change nothing.
NOTHING: dict[str, Any] = {
    "sensors": [envs.Noise(0.0), envs.Delay(0.0), envs.Dropout(0.0)],
    "actuators": [envs.Delay(0.0)],
    "bodies": envs.Randomize(mass=1.0, friction=1.0, damping=1.0, gain=1.0, gravity=1.0),
    "events": [envs.Change(at=0.1, mass=1.0, gain=1.0), envs.Push(every=0.07, impulse=0.0)],
}
COUNT = 3
BOTH = pytest.mark.parametrize("threads", [2, 0], ids=["batched", "serial"])


def build(task: str = "HalfCheetah-v5", count: int = COUNT, **arguments: Any) -> Any:
    return envs.make_vec(task, count, **({"seed": 3, "threads": 2} | arguments))


def live(venv: Any, steps: range | int) -> list[Any]:
    """What is seen of some steps; each has random actions of its own."""
    seen = []
    low, high = venv.action_space.low, venv.action_space.high
    for step in range(steps) if isinstance(steps, int) else steps:
        rng = np.random.default_rng(step)
        actions = rng.uniform(low, high, (venv.num_envs, *low.shape)).astype(np.float32)
        observations, rewards, dones, infos = venv.step(actions)
        for info in infos:
            info.pop("episode", None)
        seen.append((dict(observations), rewards, dones, infos))
    return seen


def assert_same(ours: list[Any], theirs: list[Any], keys: set[str] | None = None) -> None:
    """Everything seen must be equal bit for bit, rewards up to rounding."""
    for (now, rewards, dones, infos), (then, their_rewards, their_dones, their_infos) in zip(
        ours, theirs, strict=True
    ):
        np.testing.assert_equal(now, then)
        np.testing.assert_allclose(rewards, their_rewards, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(dones, their_dones)
        for info, their_info in zip(infos, their_infos, strict=True):
            shared = keys or info.keys() & their_info.keys()
            np.testing.assert_equal(
                {key: info[key] for key in shared if key in info},
                {key: their_info[key] for key in shared if key in info},
            )


# Together -------------------------------------------------------------------------------------


def test_batched_envs_equal_serial_ones_under_all_conditions(some_task: str) -> None:
    nominal = gym.make(some_task).unwrapped.dt  # type: ignore[attr-defined]
    arguments = EVERYTHING | {
        "interval": envs.Uniform(nominal / 2, 3 * nominal),
        "max_episode_steps": 25,
        "observe": "positions",
    }
    ours, theirs = build(some_task, **arguments), build(some_task, threads=0, **arguments)
    assert isinstance(ours, BatchedVecEnv)
    assert ours.observation_space == theirs.observation_space
    np.testing.assert_equal(ours.reset(), dict(theirs.reset()))
    assert [info["drawn"] for info in ours.reset_infos] == [
        info["drawn"] for info in theirs.reset_infos
    ]
    seen = live(ours, 50)
    assert_same(seen, live(theirs, 50))
    assert sum(dones.sum() for _, _, dones, _ in seen) >= COUNT
    assert ours.get_attr("observation_names") == theirs.get_attr("observation_names")
    assert ours.get_attr("observation_names")[0][-1] == "age"


@BOTH
@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Humanoid-v5", "InvertedDoublePendulum-v5"])
def test_parts_that_change_nothing_change_no_bit(name: str, threads: int) -> None:
    arguments = {"interval": envs.Uniform(0.02, 0.11), "max_episode_steps": 20, "threads": threads}
    plain, conditioned = build(name, **arguments), build(name, **arguments, **NOTHING)
    assert plain.observation_space == conditioned.observation_space
    np.testing.assert_equal(dict(plain.reset()), dict(conditioned.reset()))
    for (now, rewards, dones, infos), (then, *rest, their_infos) in zip(
        live(plain, 45), live(conditioned, 45), strict=True
    ):
        np.testing.assert_equal((now, rewards, dones), (then, *rest))
        for info, their_info in zip(infos, their_infos, strict=True):
            their_info.pop("drawn")
            np.testing.assert_equal(info, their_info)


def test_no_conditions_are_no_wrapper() -> None:
    env = envs.make("HalfCheetah-v5", sensors=[], actuators=(), bodies=None, events=[])
    assert isinstance(env, envs.VariableRate)


@BOTH
def test_conditions_leave_initial_states_and_intervals_as_they_are(threads: int) -> None:
    arguments = {"interval": envs.Uniform(0.02, 0.11), "max_episode_steps": 4, "threads": threads}
    sensors = [envs.Noise(0.1), envs.Delay(0.0, 0.1)]
    plain = build(**arguments)
    noisy = build(**arguments, sensors=sensors, bodies={"mass": [0.5, 2.0]}, privileged="full")
    np.testing.assert_equal(plain.reset()["observation"], noisy.reset()["privileged"])
    starts = 0
    for (now, _, dones, infos), (then, _, their_dones, their_infos) in zip(
        live(plain, 30), live(noisy, 30), strict=True
    ):
        np.testing.assert_array_equal(dones, their_dones)
        elapsed = [[each["elapsed_time"] for each in of] for of in (infos, their_infos)]
        assert elapsed[0] == elapsed[1]
        np.testing.assert_array_equal(now["observation"][dones], then["privileged"][dones])
        starts += dones.sum()
    assert starts >= 2 * COUNT


@BOTH
def test_each_env_and_each_episode_has_numbers_of_its_own(threads: int) -> None:
    # Reset noise of zero: the task draws nothing, and the generator's state does not change.
    arguments = {"reset_noise_scale": 0.0, "max_episode_steps": 2, "threads": threads}
    conditions = {"sensors": [envs.Noise(1.0)], "bodies": envs.Randomize(mass=(0.5, 2.0))}
    venv = build("InvertedPendulum-v5", **arguments, **conditions)
    seen = [venv.reset()["observation"]]
    masses = [info["drawn"]["bodies.mass"] for info in venv.reset_infos]
    for step in range(8):
        ((now, *_),) = live(venv, range(step, step + 1))
        seen.append(now["observation"])
        masses += [info["drawn"]["bodies.mass"] for info in venv.reset_infos]
    assert len(np.unique(np.concatenate(seen))) == np.concatenate(seen).size
    assert len(set(masses)) == 5 * COUNT
    # The same seed gives the same numbers, whatever has been before.
    venv.seed(3)
    np.testing.assert_equal(venv.reset()["observation"], seen[0])
    np.testing.assert_equal(live(venv, 8)[-1][0]["observation"], seen[-1])


def test_one_sensor_more_leaves_the_numbers_of_the_others() -> None:
    noise = envs.Noise(0.1)
    alone, beside = (
        build(sensors=sensors) for sensors in ([noise], [envs.Delay(0.0), envs.Dropout(0.0), noise])
    )
    np.testing.assert_equal(alone.reset(), beside.reset())
    np.testing.assert_equal(
        live(alone, 3)[-1][0]["observation"], live(beside, 3)[-1][0]["observation"]
    )


def test_sensors_act_in_the_order_given() -> None:
    quantize, noise = envs.Quantize(0.5), envs.Noise(0.01)
    last, first = (
        build(sensors=s).reset()["observation"] for s in ([noise, quantize], [quantize, noise])
    )
    assert (np.abs(last / 0.5 - np.rint(last / 0.5)) < 1e-9).all()
    assert not (np.abs(first / 0.5 - np.rint(first / 0.5)) < 1e-9).any()
    assert np.abs(first - np.rint(first / 0.5) * 0.5).max() < 0.06


# Saved and resumed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "when", [4, *(pytest.param(when, marks=pytest.mark.slow) for when in (1, 17))]
)
@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Ant-v5"])
def test_batched_envs_made_anew_go_on_bit_for_bit(name: str, when: int) -> None:
    arguments = {"interval": envs.Uniform(0.02, 0.11), "max_episode_steps": 12}
    straight = build(name, **arguments, **EVERYTHING)
    straight.reset()
    live(straight, when)
    state = env_state.state_dict(straight)
    expected = live(straight, range(when, when + 25))
    assert any(dones.any() for _, _, dones, _ in expected)
    for threads, before in ((1, 0), (2, 5)):
        resumed = build(name, **arguments, **EVERYTHING, threads=threads, seed=9)
        resumed.reset()
        live(resumed, before)
        env_state.load_state_dict(resumed, state)
        np.testing.assert_equal(live(resumed, range(when, when + 25)), expected)


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Ant-v5"])
def test_serial_envs_made_anew_go_on_bit_for_bit(name: str) -> None:
    arguments = {"interval": envs.Uniform(0.02, 0.11), "max_episode_steps": 12, "threads": 0}
    straight = build(name, **arguments, **EVERYTHING)
    straight.reset()
    live(straight, 5)
    state = env_state.state_dict(straight)
    expected = live(straight, range(5, 30))
    resumed = build(name, **arguments, **EVERYTHING, seed=9)
    resumed.reset()
    live(resumed, 3)
    env_state.load_state_dict(resumed, state)
    assert_same(live(resumed, range(5, 30)), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("episodes", 0),
        ("actuators.latest", 10**6),
        ("actuators.current", -1),
        ("actuators.issued", 10**6),
        ("actuators.commands", np.nan),
        ("sensors.last_arrival", 10**6),
        ("sensors.3.measured", -1),
        ("sensors.3.held", np.inf),
        ("sensors.1.squares", -1.0),
        ("past.qpos", np.nan),
    ],
)
def test_a_forged_state_is_refused_whole(name: str, value: Any) -> None:
    venv, other = (build("InvertedPendulum-v5", **EVERYTHING) for _ in range(2))
    for each in (venv, other):
        each.reset()
        live(each, 3)
    state = venv.state_dict()
    before = {key: array for key, array in other.state_dict().items() if key != "seconds"}
    state[name][-1, ...] = value
    with pytest.raises(ValueError, match="saved envs"):
        other.load_state_dict(state)
    after = {key: array for key, array in other.state_dict().items() if key != "seconds"}
    np.testing.assert_equal(after, before)


def test_the_state_of_other_conditions_is_refused() -> None:
    venv, other = build(sensors=[envs.Delay(0.05)]), build(sensors=[envs.Delay(0.06)])
    venv.reset()
    other.reset()
    with pytest.raises(ValueError, match="the same arguments"):
        other.load_state_dict(venv.state_dict())
    ours, theirs = (
        envs.make("HalfCheetah-v5", sensors=[envs.Delay(delay)]) for delay in (0.05, 0.06)
    )
    ours.reset()
    theirs.reset()
    with pytest.raises(ValueError, match="saved conditions"):
        theirs.load_state_dict(ours.state_dict())  # type: ignore[attr-defined]


# Delays ---------------------------------------------------------------------------------------

RATES = [
    0.03,
    0.11,
    envs.Uniform(0.01, 0.2),
    *(pytest.param(interval, marks=pytest.mark.slow) for interval in (0.01, 0.05)),
]


def trajectory(venv: Any, actions: Iterator[NDArray[Any]], seconds: float) -> dict[int, Any]:
    """Observations by the physics steps since the reset, until so many seconds have passed."""
    seen, now = {0: venv.reset()["observation"][0]}, 0.0
    while now < seconds:
        observations, _, _, infos = venv.step(next(actions)[None])
        now = infos[0]["physical_time"]
        seen[round(now / 0.01)] = observations["observation"][0]
    return seen


@BOTH
@pytest.mark.parametrize("interval", RATES, ids=str)
@pytest.mark.parametrize("delay", [0.01, 0.04, 0.13])
def test_a_sensor_is_late_by_its_seconds_at_every_rate(
    delay: float, interval: Any, threads: int
) -> None:
    held = np.linspace(-1, 1, 6, dtype=np.float32)
    every_step = trajectory(build(count=1, interval=0.01), itertools.repeat(held), 1.5)
    late = build(count=1, interval=interval, threads=threads, sensors=[envs.Delay(delay)])
    for step, observation in trajectory(late, itertools.repeat(held), 1.0).items():
        measured = max(0, step - round(delay / 0.01))
        np.testing.assert_array_equal(observation, every_step[measured])


@BOTH
@pytest.mark.parametrize("interval", RATES, ids=str)
@pytest.mark.parametrize("delays", [[0.01], [0.13], [0.02, 0.05]])
def test_a_command_is_late_by_its_seconds_at_every_rate(
    delays: list[float], interval: Any, threads: int
) -> None:
    """From a reset, the actuators rest for the delay, and then follow the commands."""
    wait = round(sum(delays) / 0.01)
    venv = build(
        count=1, interval=interval, threads=threads, actuators=[envs.Delay(each) for each in delays]
    )
    plain = build(count=1, interval=0.01)
    venv.reset()
    commands: list[Any] = []
    rng, seen, now = np.random.default_rng(0), {}, 0
    while now < 100:
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        observations, _, _, infos = venv.step(action[None])
        substeps = round(infos[0]["elapsed_time"] / 0.01)
        commands += [action] * substeps
        now += substeps
        seen[now] = observations["observation"][0]
    rest = np.zeros(6, np.float32)
    expected = trajectory(plain, iter([rest] * wait + commands), 0.01 * len(commands) - 1e-6)
    for step, observation in seen.items():
        np.testing.assert_array_equal(observation, expected[step])


@BOTH
def test_two_late_sensors_are_as_one_that_is_as_late_as_both(threads: int) -> None:
    one, two = (
        build(interval=envs.Uniform(0.02, 0.1), threads=threads, sensors=sensors)
        for sensors in ([envs.Delay(0.09)], [envs.Delay(0.03), envs.Delay(0.06)])
    )
    one.reset()
    two.reset()
    for (now, *_), (then, *_) in zip(live(one, 20), live(two, 20), strict=True):
        np.testing.assert_equal(now, then)


def test_a_delay_is_drawn_for_each_episode_within_its_range() -> None:
    venv = build(
        count=64,
        max_episode_steps=1,
        sensors=[envs.Delay(0.01, 0.05)],
        actuators=[envs.Delay(0.0, 0.13)],
    )
    venv.reset()
    drawn = [info["drawn"] for _, _, _, infos in live(venv, 5) for info in infos]
    for key, low, high in (("sensors.0.delay", 0.01, 0.05), ("actuators.0.delay", 0.0, 0.13)):
        steps = {round(each[key] / 0.01) for each in drawn}
        assert steps == set(range(round(low / 0.01), round(high / 0.01) + 1))


def test_a_delay_before_noise_leaves_the_noise_fresh_and_one_after_it_repeats_it() -> None:
    """Until the first measurement arrives, a late sensor shows that of the reset."""
    noise, delay = envs.Noise(0.1), envs.Delay(0.2)
    fresh, repeated = (
        [venv.reset()["observation"], *(now["observation"] for now, *_ in live(venv, 3))]
        for venv in (build(sensors=sensors) for sensors in ([delay, noise], [noise, delay]))
    )
    np.testing.assert_array_equal(repeated[3], repeated[0])
    np.testing.assert_array_equal(fresh[0], repeated[0])
    assert (fresh[3] != fresh[0]).all()


# Noise, dropout, quantisation and age ---------------------------------------------------------


def observed(sensors: list[Any], values: NDArray[Any], count: int, steps: int) -> NDArray[Any]:
    """What sensors show of constant observations, (steps, count, features)."""
    sensing = Sensing(sensors, count, values.shape[-1], 0.01, 5)
    which = np.arange(count)
    sensing.draw(range(count), [Episode(index, 1) for index in range(count)])
    rows = np.broadcast_to(values, (steps + 1, count, values.shape[-1])).astype(np.float64)
    shown = [sensing.start(which, rows[0])]
    for tick in range(1, steps + 1):
        at = np.full(count, tick)
        shown.append(sensing.observe(which, at, 5 * at, rows[tick]))
        sensing.elapsed(which, 5 * at, np.full(count, 5))
    return np.array(shown)


def test_noise_has_the_stated_moments() -> None:
    std, bias, values = 0.3, 0.2, np.array([1.0, -5.0])
    noise = observed([envs.Noise(std, bias=bias)], values, 50, 1000) - values
    count = noise.size
    assert abs(noise.mean() - bias) < 4 * std / math.sqrt(count)
    assert abs(noise.std() - std) < 4 * std / math.sqrt(2 * count)
    assert abs(((noise - bias) ** 3).mean() / std**3) < 4 * math.sqrt(15 / count)
    steps = (noise - bias)[1:] * (noise - bias)[:-1]  # no step knows the one before
    assert abs(steps.mean()) < 4 * std**2 / math.sqrt(count)
    across = (noise - bias)[:, 1:] * (noise - bias)[:, :-1]  # and no env its neighbour
    assert abs(across.mean()) < 4 * std**2 / math.sqrt(count)


def test_a_bias_of_a_range_is_constant_in_an_episode_and_uniform_over_episodes() -> None:
    noise = observed([envs.Noise(0.0, bias=(-1.0, 3.0))], np.zeros(4), 2000, 5)
    assert (noise == noise[0]).all()
    assert (np.abs(noise - 1) <= 2).all()
    assert abs(noise[0].mean() - 1) < 4 * (4 / math.sqrt(12)) / math.sqrt(noise[0].size)
    assert abs(noise[0].std() - 4 / math.sqrt(12)) < 0.05


def test_relative_noise_counts_in_running_deviations() -> None:
    rng = np.random.default_rng(0)
    scales = np.array([0.01, 1.0, 100.0])
    values = rng.normal(7.0, scales, (4001, 5, 3))
    sensors = [envs.Noise(0.5, relative=True)]
    noise = observed(sensors, values, 5, 4000) - values
    assert not noise[0].any()
    late = noise[1000:].reshape(-1, 3)
    np.testing.assert_allclose(late.std(axis=0), 0.5 * scales, rtol=0.05)
    biased = observed([envs.Noise(0.0, bias=2.0, relative=True)], values, 5, 4000) - values
    running = values.cumsum(axis=0)[-1] / len(values)
    deviation = np.sqrt(((values - running) ** 2).mean(axis=0))
    np.testing.assert_allclose(biased[-1], 2.0 * deviation, rtol=1e-9)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_late_frame_that_is_shown_again_is_the_same(threads: int) -> None:
    sensors = [envs.Noise(0.5, relative=True), envs.Delay(0.1)]
    options: Any = {"max_episode_steps": 30, "terminate_when_unhealthy": False}
    env: Any = envs.make_vec("Walker2d-v5", 1, seed=3, sensors=sensors, threads=threads, **options)
    env.reset()
    frames = [env.step(np.zeros((1, 6), np.float32))[0]["observation"][0] for _ in range(45)]
    second = frames[29:]  # from the reset of the second episode on
    assert all((frame == second[0]).all() for frame in second[:12])
    assert (second[-1] != second[0]).any()


@pytest.mark.parametrize("probability", [0.1, 0.7])
@pytest.mark.parametrize("hold", [True, False])
def test_dropout_loses_its_share_and_holds_or_shows_zeros(probability: float, hold: bool) -> None:
    steps, count = 2000, 20
    values = np.arange(1.0, steps + 2)[:, None, None] * np.ones((1, count, 2))
    shown = observed([envs.Dropout(probability, hold=hold)], values, count, steps)
    lost = (shown != values).any(axis=2)
    assert not lost[0].any()
    assert abs(lost[1:].mean() - probability) < 4 * math.sqrt(
        probability * (1 - probability) / lost[1:].size
    )
    last = np.maximum.accumulate(np.where(lost, 0, values[..., 0]), axis=0)
    expected = last if hold else np.where(lost, 0.0, values[..., 0])
    np.testing.assert_array_equal(shown, np.repeat(expected[..., None], 2, axis=2))


@BOTH
@pytest.mark.parametrize("hold", [True, False])
def test_the_policy_sees_the_time_since_the_last_observation_that_arrived(
    hold: bool, threads: int
) -> None:
    sensors = [envs.Dropout(0.5, hold=hold)]
    arguments = {"interval": envs.Uniform(0.02, 0.11), "max_episode_steps": 20, "threads": threads}
    venv = build(sensors=sensors, privileged="full", **arguments)
    venv.reset()
    last, losses = np.zeros(COUNT), 0
    for now, _, dones, infos in live(venv, 60):
        for index in range(COUNT):
            seen = infos[index]["terminal_observation"] if dones[index] else now
            seen = {key: of if dones[index] else of[index] for key, of in seen.items()}
            time = infos[index]["physical_time"]
            assert seen["elapsed_time"] == np.float32(round((time - last[index]) / 0.01) * 0.01)
            lost = (seen["observation"] != seen["privileged"]).any()
            losses += lost
            last[index] = 0.0 if dones[index] else last[index] if lost else time
            assert infos[index]["elapsed_time"] < 0.111
    assert losses > 50


def test_the_time_seen_stays_within_a_hundred_nominal_intervals() -> None:
    sensing = Sensing([envs.Dropout(0.999999)], 1, 2, 0.01, 5)
    sensing.draw([0], [Episode(0, 1)])
    which = np.zeros(1, np.int64)
    sensing.start(which, np.zeros((1, 2)))
    for tick in range(1, 200):
        at = np.full(1, tick)
        sensing.observe(which, at, 5 * at, np.zeros((1, 2)))
        assert sensing.elapsed(which, 5 * at, np.full(1, 5)) == min(5 * tick, 500)


def test_quantised_values_lie_on_the_grid_and_are_the_nearest() -> None:
    rng = np.random.default_rng(0)
    values, step = rng.normal(0, 10, (200, 3, 4)), 0.07
    shown = observed([envs.Quantize(step)], values, 3, 199)
    np.testing.assert_array_equal(shown, np.rint(values / step) * step)
    assert np.abs(shown - values).max() <= step / 2 + 1e-12


def test_the_age_is_the_delay_and_grows_while_observations_are_lost() -> None:
    sensors = [envs.Delay(0.04), envs.Dropout(0.5), envs.Age()]
    venv = build(sensors=sensors, privileged="full", interval=0.05)
    assert venv.observation_space["observation"].shape == (18,)
    assert (venv.reset()["observation"][:, -1] == 0.0).all()
    last, age = None, np.zeros(COUNT)
    for tick, (now, *_) in enumerate(live(venv, 40), start=1):
        observation, ages = now["observation"][:, :-1], now["observation"][:, -1]
        if last is not None:
            lost = (observation == last).all(axis=1)
            expected = np.where(lost, age + 0.05, 0.04)
            np.testing.assert_allclose(ages, expected, atol=1e-12)
        assert tick > 1 or (np.isin(ages.round(9), [0.04, 0.05])).all()
        last, age = observation, ages


# Actuators ------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("interval", [0.01, 0.05, envs.Uniform(0.01, 0.1)], ids=str)
def test_a_rate_limit_holds_in_units_per_second(interval: Any, threads: int) -> None:
    venv = build(count=1, interval=interval, threads=threads, actuators=[envs.RateLimit(4.0)])
    venv.reset()
    rng, levels, before = np.random.default_rng(1), np.zeros(6), np.zeros(6)
    for _ in range(60):
        action = rng.uniform(-1, 1, (1, 6)).astype(np.float32)
        *_, infos = venv.step(action)
        seconds = infos[0]["elapsed_time"]
        for _ in range(round(seconds / 0.01)):
            levels += np.clip(action[0] - levels, -0.04, 0.04)
        (data,) = venv.get_attr("data")
        assert (np.abs(data.ctrl - before) <= 4.0 * seconds + 1e-12).all()
        np.testing.assert_array_equal(data.ctrl, levels)
        before = data.ctrl.copy()


@BOTH
def test_a_delay_and_a_limit_give_the_same_in_either_order(threads: int) -> None:
    delay, limit = envs.Delay(0.07), envs.RateLimit(9.0)
    one, two = (
        build(actuators=order, threads=threads, interval=envs.Uniform(0.01, 0.1))
        for order in ([delay, limit], [limit, delay])
    )
    np.testing.assert_equal(dict(one.reset()), dict(two.reset()))
    for (now, rewards, *_), (then, their_rewards, *_) in zip(
        live(one, 30), live(two, 30), strict=True
    ):
        np.testing.assert_equal((now, rewards), (then, their_rewards))


def test_actuators_rest_at_zero_or_the_bound_nearest_to_it() -> None:
    space = gym.spaces.Box(
        np.array([-1.0, 0.5, -3.0]), np.array([1.0, 2.0, -2.0]), dtype=np.float64
    )
    actuation = Actuation([envs.Delay(0.05)], 1, space, 0.01, 5)
    actuation.draw([0], [Episode(0, 1)])
    actuation.start(np.zeros(1, np.int64))
    actuation.command(np.zeros(1, np.int64), np.ones((1, 3)))
    np.testing.assert_array_equal(actuation.advance(0, 4), [0.0, 0.5, -2.0])
    np.testing.assert_array_equal(actuation.advance(0, 5), [1.0, 1.0, 1.0])


# Bodies ---------------------------------------------------------------------------------------


@BOTH
def test_bodies_are_the_models_times_factors_within_their_ranges(threads: int) -> None:
    bodies = envs.Randomize(
        mass={"torso": (0.5, 2.0), "bthigh": 3.0},
        friction=(0.5, 1.5),
        damping={"bthigh": (1.0, 2.0)},
        gain={"fshin": (0.0, 0.5)},
        gravity=(0.9, 1.1),
    )
    plain = gym.make("HalfCheetah-v5").unwrapped.model  # type: ignore[attr-defined]
    venv = build(bodies=bodies, threads=threads, max_episode_steps=2)
    venv.reset()
    drawn = []
    for _ in range(6):
        live(venv, 2)
        for index in range(COUNT):
            (model,) = venv.get_attr("model", indices=[index])
            (info,) = [venv.reset_infos[index]["drawn"]]
            drawn.append(info)
            mass = model.body_mass / np.where(plain.body_mass, plain.body_mass, 1)
            torso, thigh = model.body("torso").id, model.body("bthigh").id
            assert mass[torso] == pytest.approx(info["bodies.mass.torso"])
            assert mass[thigh] == pytest.approx(3.0)
            assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
            inertia = model.body_inertia[torso] / plain.body_inertia[torso]
            np.testing.assert_allclose(inertia, info["bodies.mass.torso"])
            np.testing.assert_allclose(
                model.geom_friction, plain.geom_friction * info["bodies.friction"]
            )
            np.testing.assert_allclose(
                model.opt.gravity, plain.opt.gravity * info["bodies.gravity"]
            )
            gain = model.actuator_gainprm[:, 0] / plain.actuator_gainprm[:, 0]
            expected = [info["bodies.gain.fshin"] if i == 4 else 1.0 for i in range(6)]
            np.testing.assert_allclose(gain, expected)
            dof = model.joint("bthigh").dofadr[0]
            expected_damping = plain.dof_damping.copy()
            expected_damping[dof] *= info["bodies.damping.bthigh"]
            np.testing.assert_allclose(model.dof_damping, expected_damping)
    for key, (low, high) in {
        "bodies.mass.torso": (0.5, 2.0),
        "bodies.friction": (0.5, 1.5),
        "bodies.damping.bthigh": (1.0, 2.0),
        "bodies.gain.fshin": (0.0, 0.5),
        "bodies.gravity": (0.9, 1.1),
    }.items():
        values = [each[key] for each in drawn]
        assert len(set(values)) > COUNT
        assert all(low <= value <= high for value in values)


# Events ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("interval", [0.05, 0.11, envs.Uniform(0.01, 0.2)], ids=str)
def test_a_motor_fails_at_its_physics_step_at_every_rate(interval: Any, threads: int) -> None:
    """A gain of zero is a command of zero from then on."""
    event = envs.Change(at=0.33, gain={"bthigh": 0.0, "fshin": 0.0})
    venv = build(count=1, interval=interval, events=[event], threads=threads)
    held = np.linspace(0.2, 1, 6, dtype=np.float32)
    limp = held * np.array([0, 1, 1, 1, 0, 1], np.float32)
    seen = trajectory(venv, itertools.repeat(held), 0.9)
    commands = itertools.chain([held] * 33, itertools.repeat(limp))
    expected = trajectory(build(count=1, interval=0.01), commands, 1.5)
    for step, observation in seen.items():
        np.testing.assert_array_equal(observation, expected[step])


@BOTH
def test_a_change_is_drawn_and_reported(threads: int) -> None:
    event = envs.Change(at=(0.1, 0.5), mass=(0.5, 0.7))
    venv = build(events=[event], threads=threads, privileged="drawn", max_episode_steps=20)
    venv.reset()
    before = [info["drawn"] for info in venv.reset_infos]
    assert all(0.1 <= each["events.0.at"] <= 0.5 for each in before)
    assert all(0.5 <= each["events.0.mass"] <= 0.7 for each in before)
    plain = gym.make("HalfCheetah-v5").unwrapped.model  # type: ignore[attr-defined]
    for step in range(15):
        ((now, _, _, infos),) = live(venv, range(step, step + 1))
        for index, info in enumerate(infos):
            happened = info["physical_time"] > before[index]["events.0.at"] + 1e-9
            assert info["drawn"] == before[index] | {"events.0.happened": float(happened)}
            np.testing.assert_array_equal(now["privileged"][index], [*info["drawn"].values()])
            (model,) = venv.get_attr("model", indices=[index])
            factor = before[index]["events.0.mass"] if happened else 1.0
            np.testing.assert_allclose(model.body_mass, plain.body_mass * factor)


class Puck(envs.Task):
    """A body that slides in a plane without friction."""

    def start(self, rng: Any, qpos: Any, qvel: Any) -> Any:
        return qpos, qvel

    def observation(self, sims: envs.Simulations) -> Any:
        return np.concatenate((sims.qpos, sims.qvel), axis=1)

    def reward(self, sims: envs.Simulations, before: Any, action: Any, seconds: Any) -> Any:
        return np.zeros(len(sims.qpos))


@pytest.fixture
def puck(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "puck.xml"
    path.write_text("""
        <mujoco><option timestep="0.01" gravity="0 0 0"/><worldbody><body name="puck">
          <joint type="slide" axis="1 0 0" name="x"/><joint type="slide" axis="0 1 0" name="y"/>
          <geom type="sphere" size="0.1" mass="2"/>
        </body></worldbody><actuator><motor joint="x" ctrlrange="-1 1"/></actuator></mujoco>
    """)
    envs.register("Puck-v0", Puck, model=path, frame_skip=5, max_episode_steps=100)
    yield "Puck-v0"
    gym.registry.pop("Puck-v0")


@BOTH
@pytest.mark.parametrize("interval", [0.01, 0.05, 0.25])
def test_a_push_is_an_impulse_sideways(puck: str, interval: float, threads: int) -> None:
    pushes = [envs.Push(every=0.3, impulse=4.0, body="puck"), envs.Push(every=0.07, impulse=0.0)]
    venv = build(puck, count=4, events=pushes, interval=interval, threads=threads)
    venv.reset()
    velocity, turns = np.zeros((4, 2)), []
    for _ in range(round(2.0 / interval)):
        observations, _, _, infos = venv.step(np.zeros((4, 1), np.float32))
        now = observations["observation"][:, 2:]
        change, velocity = now - velocity, now
        times = infos[0]["physical_time"]
        # A push acts in the physics step that begins at its time.
        due = math.floor((times - 0.005) / 0.3) - math.floor((times - interval - 0.005) / 0.3)
        if due == 1 and times > 0.3:
            np.testing.assert_allclose(np.linalg.norm(change, axis=1), 4.0 / 2.0, rtol=1e-9)
            turns.append(np.arctan2(change[:, 1], change[:, 0]))
        elif due == 0:
            np.testing.assert_allclose(change, 0, atol=1e-12)
    assert len(np.unique(np.round(turns, 9))) == np.size(turns) >= 20


@BOTH
@pytest.mark.parametrize("interval", [0.05, 0.35, envs.Uniform(0.01, 0.3)], ids=str)
def test_the_last_push_is_reported(puck: str, interval: Any, threads: int) -> None:
    """After each control step, and zeros after a reset; they add up to the momentum of the body."""
    events = [
        envs.Change(at=0.5, gain=0.5),
        envs.Push(every=(0.06, 0.2), impulse=(1.0, 4.0), body="puck"),
    ]
    options = {"privileged": "drawn", "interval": interval, "threads": threads}
    venv = build(puck, count=3, events=events, **options)
    venv.reset()
    names = ["events.1.at", "events.1.x", "events.1.y"]
    nothing = np.zeros(3)
    last, momentum, pushed = np.zeros((3, 3)), np.zeros((3, 2)), 0
    for _ in range(60):
        observations, _, dones, infos = venv.step(np.zeros((3, 1), np.float32))
        for index, info in enumerate(infos):
            now = np.array([info["drawn"][name] for name in names])
            end = info["terminal_observation"] if dones[index] else None
            seen = observations if end is None else {key: [part] * 3 for key, part in end.items()}
            np.testing.assert_array_equal(seen["privileged"][index], [*info["drawn"].values()])
            assert now[0] < info["physical_time"]
            if now[0] > last[index, 0]:
                momentum[index] += now[1:]
                pushed += 1
            if interval == 0.05:  # at most one push in a step
                velocity = seen["observation"][index][2:]
                np.testing.assert_allclose(2.0 * velocity, momentum[index], atol=1e-9)
            last[index] = now
            if dones[index]:
                last[index], momentum[index] = nothing, 0.0
                reported = venv.reset_infos[index]["drawn"]
                np.testing.assert_array_equal([reported[name] for name in names], nothing)
    assert pushed > 30


# Privileged -----------------------------------------------------------------------------------


@BOTH
def test_privileged_is_the_whole_truth(threads: int) -> None:
    arguments = {"observe": "positions", "threads": threads, "max_episode_steps": 5}
    sensors = [envs.Noise(0.1), envs.Delay(0.02, 0.1)]
    full, drawn, both = (
        build(sensors=sensors, privileged=privileged, **arguments)
        for privileged in ("full", "drawn", "all")
    )
    plain = build(threads=threads, max_episode_steps=5)
    np.testing.assert_equal(full.reset()["privileged"], plain.reset()["observation"])
    drawn.reset()
    both.reset()
    for (truth, *_), (one, _, dones, infos), (two, *_), (three, *_) in zip(
        live(plain, 12), live(full, 12), live(drawn, 12), live(both, 12), strict=True
    ):
        np.testing.assert_array_equal(one["privileged"], truth["observation"])
        assert two["privileged"].shape == (COUNT, 1)
        joined = np.concatenate((one["privileged"], two["privileged"]), axis=1)
        np.testing.assert_array_equal(three["privileged"], joined)
        for index in np.flatnonzero(dones):
            last = infos[index]["terminal_observation"]
            assert last["privileged"].shape == (17,)
            assert (last["privileged"] != truth["observation"][index]).any()
    for venv in (full, drawn, both):
        for name, space in venv.observation_space.spaces.items():
            assert venv.reset()[name][0].shape == space.shape


# Data, and what is refused --------------------------------------------------------------------


def test_parts_are_data() -> None:
    parts = {
        name: [part.to_dict() for part in of] if isinstance(of, list) else of
        for name, of in EVERYTHING.items()
    }
    parts["bodies"] = EVERYTHING["bodies"].to_dict()
    assert json.loads(json.dumps(parts)) == parts
    assert conditions_from(**parts) == conditions_from(**EVERYTHING)
    del parts["bodies"]["kind"]  # there is one kind of bodies
    assert conditions_from(**parts) == conditions_from(**EVERYTHING)


def test_parts_of_a_recipe_are_those_of_a_script() -> None:
    ours = build(sensors=[{"kind": "noise", "std": 0.1}, {"kind": "delay", "low": 0.05}])
    theirs = build(sensors=[envs.Noise(0.1), envs.Delay(0.05)])
    np.testing.assert_equal(ours.reset(), theirs.reset())
    np.testing.assert_equal(live(ours, 5), live(theirs, 5))


NAN = math.nan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sensors": {"kind": "noise"}}, "sensors takes a list"),
        ({"sensors": "noise"}, "sensors takes a list"),
        ({"sensors": [3]}, r"sensors\[0\] is one of Noise, Delay"),
        ({"sensors": [envs.RateLimit(2.0)]}, r"sensors\[0\] is one of Noise, Delay"),
        ({"sensors": [{"kind": "nose"}]}, r"sensors\[0\].kind 'nose' is unknown; use one of noise"),
        ({"sensors": [{"std": 1}]}, r"sensors\[0\].kind None is unknown"),
        ({"sensors": [{"kind": "noise"}]}, r"sensors\[0\]: 'noise' lacks key 'std'"),
        ({"sensors": [{"kind": "noise", "std": 1, "mean": 2}]}, "'noise' has no key 'mean'"),
        (
            {"sensors": [{"kind": "noise", "std": NAN}]},
            r"sensors\[0\]: std must be finite, got nan",
        ),
        ({"sensors": [{"kind": "noise", "std": -1}]}, "std must be at least 0, got -1"),
        ({"sensors": [{"kind": "noise", "std": "1"}]}, "std must be a number, got '1'"),
        ({"sensors": [{"kind": "noise", "std": True}]}, "std must be a number, got True"),
        ({"sensors": [{"kind": "noise", "std": 1, "bias": [2, 1]}]}, "bias is an empty range, 2"),
        ({"sensors": [{"kind": "noise", "std": 1, "bias": [1]}]}, "bias is a number or a range"),
        ({"sensors": [{"kind": "noise", "std": 1, "relative": 1}]}, "relative must be true or"),
        ({"sensors": [{"kind": "delay", "low": -0.1}]}, "low must be at least 0, got -0.1"),
        ({"sensors": [{"kind": "delay", "low": 0.2, "high": 0.1}]}, "above high 0.1 s; swap them"),
        ({"sensors": [{"kind": "dropout", "probability": 1}]}, "probability must be below 1"),
        ({"sensors": [{"kind": "dropout", "probability": -0.1}]}, "must be at least 0, got -0.1"),
        ({"sensors": [{"kind": "dropout", "probability": 0.1, "hold": "no"}]}, "hold must be true"),
        ({"sensors": [{"kind": "quantize", "step": 0}]}, "step must be above 0"),
        ({"sensors": [{"kind": "quantize", "step": math.inf}]}, "step must be finite, got inf"),
        ({"sensors": [{"kind": "quantize", "step": 10**400}]}, "step must be finite"),
        ({"actuators": [envs.Noise(1.0)]}, r"actuators\[0\] is one of Delay, RateLimit"),
        ({"actuators": [{"kind": "rate_limit", "rate": 0}]}, "rate must be above 0"),
        ({"actuators": [{"kind": "rate_limit", "rate": -2}]}, "rate must be at least 0, got -2"),
        ({"bodies": 3}, "bodies is one of Randomize"),
        ({"bodies": {"mas": 1}}, "'randomize' has no key 'mas'"),
        ({"bodies": {"mass": [1.3, 0.7]}}, "mass is an empty range"),
        ({"bodies": {"mass": -1}}, "mass must be at least 0, got -1"),
        ({"bodies": {"mass": {"bthigh": (0, 1)}}}, "mass must be at least 1e-06, since a body"),
        ({"bodies": {"mass": {}}}, "mass names nothing"),
        ({"bodies": {"mass": {1: 2.0}}}, "mass maps names to factors, got the name 1"),
        ({"bodies": {"mass": {"torso": "heavy"}}}, "mass.torso must be a number, got 'heavy'"),
        ({"bodies": {"gravity": {"torso": 1.0}}}, "gravity acts on all bodies"),
        ({"events": [{"kind": "change", "gain": 0.5}]}, "'change' lacks key 'at'"),
        ({"events": [{"kind": "change", "at": 1}]}, "a Change without factors changes nothing"),
        ({"events": [{"kind": "change", "at": [3, 2], "gain": 0.5}]}, "at is an empty range"),
        ({"events": [{"kind": "change", "at": -1, "gain": 0.5}]}, "at must be at least 0, got -1"),
        ({"events": [{"kind": "push", "every": 0, "impulse": 1}]}, "every must be above 0 seconds"),
        ({"events": [{"kind": "push", "every": 1, "impulse": -1}]}, "impulse must be at least 0"),
        ({"events": [{"kind": "push", "every": 1, "impulse": 1, "body": 3}]}, "body must be the"),
        ({"privileged": "everything"}, "privileged 'everything' is unknown; use 'full', 'drawn'"),
        # What only the task knows.
        ({"bodies": {"mass": {"tail": 2.0}}}, "mass.tail: the model has no body 'tail'; it has"),
        ({"bodies": {"friction": {"tail": 2}}}, "friction.tail: the model has no geom 'tail'"),
        ({"bodies": {"damping": {"tail": 2}}}, "damping.tail: the model has no joint 'tail'"),
        ({"events": [{"kind": "change", "at": 1, "gain": {"tail": 0}}]}, "no actuator 'tail'; it"),
        (
            {"events": [{"kind": "push", "every": 1, "impulse": 1, "body": "tail"}]},
            "no body 'tail'",
        ),
        ({"events": [{"kind": "push", "every": 0.001, "impulse": 1}]}, "shorter than one physics"),
        ({"sensors": [{"kind": "delay", "low": 50}]}, "delays are in seconds, not milliseconds"),
        ({"actuators": [{"kind": "delay", "low": 50}]}, "delays are in seconds, not milliseconds"),
        ({"privileged": "drawn"}, "privileged='drawn' has nothing to show"),
        (
            {"events": [{"kind": "change", "at": 500, "gain": 0}]},
            r"events\[0\].at is 500 seconds, and episodes end after 50; it is in seconds",
        ),
        ({"events": [{"kind": "push", "every": 51, "impulse": 1}]}, r"events\[0\].every is 51 sec"),
        (
            {"events": [envs.Push(1.0, 1.0), envs.Change(at=1.0, gain={"tail": 0.0})]},
            r"events\[1\].gain.tail: the model has no actuator",
        ),
        ({"events": [envs.Push(1.0, 1.0, "tail")]}, r"events\[0\].body: the model has no body"),
        ({"bodies": {"mass": {"tail": 2.0}}}, "bodies.mass.tail: the model has no body"),
        ({"sensors": [envs.Age(), envs.Delay(50)]}, r"the delay sensors\[1\] of 50 seconds"),
        ({"actuators": [envs.Delay(50)]}, r"the delay actuators\[0\] of 50 seconds"),
        ({"wrappers": abs}, "wrappers must be a list of functions or classes"),
        ({"wrappers": ["x"]}, "wrappers must be functions or classes, got 'x'"),
        ({"wrappers": [lambda env: None]}, "a wrapper must return an env"),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_a_remedy(
    arguments: dict[str, Any], message: str
) -> None:
    for door in (envs.make, lambda task, **rest: envs.make_vec(task, 2, **rest)):
        with pytest.raises((TypeError, ValueError), match=message):
            door("HalfCheetah-v5", **arguments)


def test_a_delay_that_rounds_to_nothing_says_so() -> None:
    for key in ("sensors", "actuators"):
        with pytest.warns(
            UserWarning, match=rf"the delay {key}\[0\] is at most 0.004 s, less than"
        ):
            envs.make("HalfCheetah-v5", **{key: [envs.Delay(0.004)]})  # type: ignore[arg-type]


@pytest.mark.parametrize("door", [envs.make, lambda task, **rest: envs.make_vec(task, 2, **rest)])
def test_a_seed_decides_relative_noise_whatever_was_before(door: Any) -> None:
    env = door("HalfCheetah-v5", sensors=[envs.Noise(0.1, relative=True)])
    episodes = []
    for _ in range(2):
        if isinstance(env, gym.Env):
            found = [env.reset(seed=3)[0]["observation"]]
            found += [env.step(np.ones(6, np.float32))[0]["observation"] for _ in range(5)]
        else:
            env.seed(3)
            found = [env.reset()["observation"]]
            found += [env.step(np.ones((2, 6), np.float32))[0]["observation"] for _ in range(5)]
        episodes.append(np.array(found))
    np.testing.assert_array_equal(*episodes)


def test_a_change_that_no_step_reaches_never_happens(tmp_path: Path) -> None:
    env = envs.make(
        "HalfCheetah-v5", max_episode_steps=-1, events=[envs.Change(at=(9e3, 1e300), gain=0.0)]
    )
    _, info = env.reset(seed=0)
    assert info["drawn"]["events.0.happened"] == 0


def test_bad_objects_raise_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="std must be at least 0, got -1"):
        envs.Noise(-1.0)
    with pytest.raises(TypeError, match="rate must be a number, got None"):
        envs.RateLimit(None)  # type: ignore[arg-type]


def test_conditions_need_a_mujoco_task() -> None:
    with pytest.raises(TypeError, match="needs a Gymnasium MujocoEnv"):
        envs.make("CartPole-v1", sensors=[envs.Noise(0.1)])


def test_a_muscle_has_no_gain_to_multiply(tmp_path: Path) -> None:
    path = tmp_path / "muscle.xml"
    path.write_text("""
        <mujoco><worldbody><body><joint type="slide" axis="1 0 0" name="x" range="0 1"/>
          <geom type="sphere" size="0.1"/></body></worldbody>
        <actuator><muscle name="biceps" joint="x" lengthrange="0.1 0.9"/></actuator></mujoco>
    """)
    envs.register("Muscle-v0", Puck, model=path, frame_skip=5)
    try:
        with pytest.raises(
            ValueError, match="gain: the force of 'biceps' is not a multiple of a gain"
        ):
            envs.make("Muscle-v0", bodies=envs.Randomize(gain=(0.5, 1.0)))
    finally:
        gym.registry.pop("Muscle-v0")


def test_pairs_of_geoms_rub_as_their_geoms_do(tmp_path: Path) -> None:
    path = tmp_path / "pair.xml"
    path.write_text("""
        <mujoco><worldbody><geom name="floor" type="plane" size="1 1 1"/>
          <body pos="0 0 1"><joint type="slide" axis="0 0 1" name="z"/>
          <geom name="ball" type="sphere" size="0.1"/></body></worldbody>
        <contact><pair geom1="floor" geom2="ball" friction="0.8 0.8 0.1 0.1 0.1"/></contact>
        <actuator><motor joint="z" ctrlrange="-1 1"/></actuator></mujoco>
    """)
    envs.register("Pair-v0", Puck, model=path, frame_skip=5)
    try:
        env = envs.make("Pair-v0", bodies=envs.Randomize(friction=(0.5, 0.6)), seed=0)
        _, info = env.reset()
        model: Any = env.unwrapped.model  # type: ignore[attr-defined]
        assert isinstance(model, mujoco.MjModel)
        expected = np.array([0.8, 0.8, 0.1, 0.1, 0.1]) * info["drawn"]["bodies.friction"]
        np.testing.assert_allclose(model.pair_friction[0], expected)
    finally:
        gym.registry.pop("Pair-v0")


@pytest.mark.parametrize("count", [1, 4, 6])
def test_every_entry_of_an_observation_has_a_name(count: int) -> None:
    env = envs.make("InvertedPendulum-v5", sensors=[envs.Age()] * count)
    names = env.get_wrapper_attr("observation_names")
    assert len(set(names)) == len(names) == env.observation_space["observation"].shape[0]  # type: ignore[index]
