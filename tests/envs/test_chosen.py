"""Intervals that the policy chooses: a constant choice is a fixed interval, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from liquid_control import envs
from liquid_control.checkpoints import env_state
from liquid_control.envs import Chosen

COUNT = 2
BOTH = pytest.mark.parametrize("threads", [2, 0], ids=["batched", "serial"])
CONDITIONS: dict[str, Any] = {
    "sensors": [envs.Noise(0.01), envs.Delay(0.01, 0.05), envs.Dropout(0.2)],
    "actuators": [envs.Delay(0.0, 0.06), envs.RateLimit(20.0)],
    "bodies": envs.Randomize(mass=(0.7, 1.3)),
    "events": [envs.Change(at=(0.1, 0.4), gain=0.5), envs.Push(every=0.15, impulse=1.0)],
}


def build(task: str = "HalfCheetah-v5", **arguments: Any) -> Any:
    return envs.make_vec(task, COUNT, **({"seed": 3, "threads": 2} | arguments))


def controls(venv: Any, step: int) -> Any:
    rng = np.random.default_rng(step)
    return rng.uniform(-1, 1, (COUNT, venv.action_space.shape[0])).astype(np.float32)


def with_entries(actions: Any, entries: Any) -> Any:
    column = np.broadcast_to(np.asarray(entries, np.float32), (COUNT,))
    return np.concatenate((actions, column[:, None]), axis=1)


@BOTH
@pytest.mark.parametrize("conditions", [{}, CONDITIONS], ids=["plain", "conditions"])
@pytest.mark.parametrize("substeps", [1, 5, 7])
def test_a_constant_choice_is_a_fixed_interval_bit_for_bit(
    substeps: int, conditions: dict[str, Any], threads: int
) -> None:
    """Also where a horizon of 100 substeps shortens the last one."""
    arguments = {"max_episode_steps": 20, "threads": threads, **conditions}
    seconds = substeps * 0.01
    fixed = build(interval=seconds, **arguments)
    no_choice = build(interval=Chosen(seconds, seconds), **arguments)
    entry = 2 * np.log(seconds / 0.01) / np.log(20) - 1
    constant = build(interval=Chosen(0.01, 0.2), **arguments)
    first = dict(fixed.reset())
    for venv in (no_choice, constant):
        np.testing.assert_equal(dict(venv.reset()), first)
    for step in range(60):
        actions = controls(fixed, step)
        expected = fixed.step(actions)
        chosen = [
            no_choice.step(with_entries(actions, np.sin(step))),
            constant.step(with_entries(actions, entry)),
        ]
        for info in expected[3]:
            info.get("episode", {}).pop("t", None)
        for observations, rewards, dones, infos in chosen:
            for info in infos:
                info.get("episode", {}).pop("t", None)
            np.testing.assert_equal(
                (dict(observations), rewards, dones, infos),
                (dict(expected[0]), *expected[1:]),
            )


def test_a_constant_choice_is_a_fixed_interval_for_every_task(some_task: str) -> None:
    nominal = envs.make(some_task).get_wrapper_attr("nominal_interval")
    fixed, chosen = (
        build(some_task, interval=interval, max_episode_steps=10)
        for interval in (nominal, Chosen(nominal, nominal))
    )
    np.testing.assert_equal(fixed.reset(), chosen.reset())
    for step in range(25):
        actions = controls(fixed, step)
        expected, found = fixed.step(actions), chosen.step(with_entries(actions, 0.3))
        np.testing.assert_equal(found[:3], expected[:3])


@BOTH
def test_the_last_entry_chooses_the_logarithm_of_the_seconds(threads: int) -> None:
    venv = build(interval=Chosen(0.02, 0.32), threads=threads)
    assert venv.action_space.shape == (7,)
    assert (venv.action_space.low[-1], venv.action_space.high[-1]) == (-1.0, 1.0)
    assert venv.get_attr("action_names")[0][-1] == "interval"
    venv.reset()
    for entry, seconds in ((-1, 0.02), (1, 0.32), (0, 0.08), (0.5, 0.16), (-7, 0.02), (7, 0.32)):
        observations, _, _, infos = venv.step(with_entries(np.zeros((COUNT, 6)), entry))
        assert observations["elapsed_time"] == pytest.approx(seconds)
        assert [info["elapsed_time"] for info in infos] == pytest.approx([seconds] * COUNT)


@BOTH
def test_each_decision_costs(threads: int) -> None:
    free, dear = (
        build(interval=Chosen(0.01, 0.2, cost=cost), threads=threads) for cost in (0.0, 0.25)
    )
    free.reset()
    dear.reset()
    for step in range(5):
        action = with_entries(controls(free, step)[:, :6], [np.sin(step), np.cos(step)])
        now, then = free.step(action), dear.step(action)
        np.testing.assert_equal(dict(now[0]), dict(then[0]))
        np.testing.assert_allclose(then[1], now[1] - 0.25, rtol=1e-6)


@pytest.mark.parametrize("conditions", [{}, CONDITIONS], ids=["plain", "conditions"])
def test_batched_envs_equal_serial_ones_and_go_on_where_they_were_saved(
    conditions: dict[str, Any],
) -> None:
    arguments = {"interval": Chosen(0.01, 0.2, cost=0.1), "max_episode_steps": 12, **conditions}
    ours, theirs = build(**arguments), build(threads=0, **arguments)
    np.testing.assert_equal(ours.reset(), dict(theirs.reset()))
    ended = 0
    for step in range(40):
        if step % 7 == 3:
            for venv, threads in ((ours, 2), (theirs, 0)):
                state = env_state.state_dict(venv)
                other = build(threads=threads, **(arguments | {"seed": 8}))
                other.reset()
                env_state.load_state_dict(other, state)
                if threads:
                    ours = other
                else:
                    theirs = other
        action = controls(ours, step)
        (now, rewards, dones, infos), (then, their_rewards, their_dones, their_infos) = (
            venv.step(action) for venv in (ours, theirs)
        )
        np.testing.assert_equal(now, dict(then))
        np.testing.assert_allclose(rewards, their_rewards, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(dones, their_dones)
        for one, other_info in zip(infos, their_infos, strict=True):
            for key in ("elapsed_time", "physical_time"):
                assert one[key] == other_info[key]
        ended += dones.sum()
        assert all(infos[i]["physical_time"] == pytest.approx(0.6) for i in np.flatnonzero(dones))
    assert ended >= 2 * COUNT


@pytest.mark.parametrize(("name", "value"), [("ticks", -1), ("substeps_since_reset", 10**6)])
def test_a_forged_clock_is_refused(name: str, value: int) -> None:
    venv, other = (build(interval=Chosen(0.01, 0.2)) for _ in range(2))
    venv.reset()
    other.reset()
    state = venv.state_dict()
    state[name][0] = value
    with pytest.raises(ValueError, match="saved schedule"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.2, 0.1), "low 0.2 s is above high 0.1 s; swap them"),
        ((0.0, 0.1), "low must be a finite number of seconds above 0"),
        ((0.1, np.nan), "high must be a finite number of seconds above 0"),
        ((0.1, 0.2, -1.0), "cost is a finite number, at least 0, got -1.0"),
        ((0.1, 0.2, np.nan), "cost is a finite number, at least 0, got nan"),
        ((0.1, 0.2, "much"), "cost must be a number, got 'much'"),
        (("fast", 0.2), "low must be a number, got 'fast'"),
    ],
)
def test_bad_values_are_named(arguments: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Chosen(*arguments)


def test_it_is_data_and_stands_alone() -> None:
    chosen = Chosen(0.01, 0.2, cost=0.1)
    assert envs.interval_from(chosen.to_dict()) == chosen
    with pytest.raises(TypeError, match="use Chosen itself"):
        envs.PerEpisode(chosen)
    with pytest.raises(ValueError, match="shorter than one physics step"):
        envs.make("HalfCheetah-v5", interval=Chosen(0.001, 0.2))


def test_wrong_actions_are_refused_before_the_robot_moves() -> None:
    env = envs.make("HalfCheetah-v5", interval=Chosen(0.01, 0.2))
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(7))
    env.reset(seed=0)
    for action in (np.zeros(6), np.array([0, 0, 0, 0, 0, 0, np.nan])):
        with pytest.raises(ValueError, match="its last entry chooses the interval"):
            env.step(action)
    assert env.step(np.zeros(7))[4]["physical_time"] < 0.2
    with pytest.raises(ValueError, match="check the env with an interval other"):
        envs.check_env(env)
