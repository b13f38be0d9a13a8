"""Certificates: delay and dropout do what they say, and the box holds what was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from liquid_control.envs import make_vec
from liquid_control.export import describe_policy
from liquid_control.export.certificate import (
    Condition,
    certify,
    lower_bound,
    measure_returns,
    page,
    sensors_of,
)
from liquid_control.export.in_c import InC, compiled

from . import cases, compilers

STEPS = 40


class Watching:
    """A policy that returns zero; its state sums the elapsed time. It keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.elapsed: list[Any] = []
        self.states: list[Any] = []

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> Any:
        assert deterministic
        state = np.zeros((len(episode_start), 1), np.float32) if state is None else state
        self.states.append(state)
        self.seen.append(observation["observation"].copy())
        self.elapsed.append(observation["elapsed_time"].copy())
        return self.act(observation), state + observation["elapsed_time"]

    def act(self, observation: Any) -> Any:
        return np.zeros((len(observation["observation"]), 6), np.float32)


def watched(
    policy: Watching,
    delay: float = 0.0,
    dropout: float = 0.0,
    envs: int = 2,
    trained_interval: tuple[float, float] = (0.0, np.inf),
    **options: Any,
) -> Any:
    """Return the returns of HalfCheetah, whose episodes always last, at 20 Hz."""
    env = make_vec(
        "HalfCheetah-v5",
        envs,
        observe="positions",
        interval=0.05,
        sensors=[*options.pop("sensors", []), *sensors_of(Condition(0.05, delay, dropout))],
        seed=3,
        threads=0,
        max_episode_steps=STEPS,
        **options,
    )
    try:
        return measure_returns(policy, env, trained_interval)
    finally:
        env.close()


def test_elapsed_times_are_clamped_as_in_the_control_loop() -> None:
    whole, clamped = Watching(), Watching()
    watched(whole, dropout=0.4)
    watched(clamped, dropout=0.4, trained_interval=(0.02, 0.07))
    assert np.max(whole.elapsed) >= 0.1
    np.testing.assert_allclose(clamped.elapsed, np.clip(whole.elapsed, 0.02, 0.07))


@pytest.mark.parametrize("steps", [0.5, 1, 3])
def test_a_delay_shows_what_was_measured_that_long_ago(steps: float) -> None:
    now, late = Watching(), Watching()
    returns = watched(now)
    assert returns.shape == (2,)
    assert (returns != 0).all()
    np.testing.assert_allclose(watched(late, delay=steps * 0.05), returns)  # the same actions
    seen, delayed = np.array(now.seen), np.array(late.seen)
    assert seen.shape == (STEPS, 2, 8)  # without the ages
    if steps == 0.5:  # between two control steps
        assert (delayed[1:] != seen[1:]).any(axis=2).all()
        return
    np.testing.assert_array_equal(delayed[: int(steps)], seen[:1].repeat(steps, axis=0))
    np.testing.assert_array_equal(delayed[int(steps) :], seen[: -int(steps)])


def test_a_lost_observation_holds_neurons_and_its_time_is_made_up_for() -> None:
    policy, whole = Watching(), Watching()
    watched(policy, dropout=0.4, envs=20)
    watched(whole, envs=20)
    states = np.array(policy.states)[1:, :, 0]  # before each step
    held = np.diff(states, axis=0) == 0
    assert 0.3 < held.mean() < 0.5
    # Where an observation arrived, the state has the time since the reset, whatever was lost.
    times = 0.05 * np.arange(1, len(states) + 1)
    arrived = np.concatenate([np.ones((1, 20), bool), ~held])
    np.testing.assert_allclose(
        states[arrived], np.broadcast_to(times[:, None], states.shape)[arrived], rtol=1e-5
    )
    lost_seen = np.array(policy.seen)[1:-1][held]
    assert (lost_seen == np.array(policy.seen)[:-2][held]).all()


def test_a_lost_observation_holds_the_action() -> None:
    class Counting(Watching):
        """Acts by how often it was asked: an answer to a lost observation would show."""

        def act(self, observation: Any) -> Any:
            return np.full((len(observation["observation"]), 6), (-1) ** len(self.seen), np.float32)

    class Holding(Counting):
        """Acts as `measure_returns` does if it holds; all observations arrive."""

        def __init__(self, held: Any) -> None:
            super().__init__()
            self.held = held
            self.last = np.zeros((2, 6), np.float32)

        def act(self, observation: Any) -> Any:
            fresh = super().act(observation)
            index = len(self.seen) - 1
            if index:
                fresh = np.where(self.held[index - 1][:, None], self.last, fresh)
            self.last = fresh
            return fresh

    lossy = Counting()
    returns = watched(lossy, dropout=0.4)
    states = np.array(lossy.states)[1:, :, 0]
    held = np.concatenate([np.diff(states, axis=0) == 0, np.zeros((1, 2), bool)])
    assert held.any()
    holding = watched(Holding(held[: STEPS - 1]))
    # The last observation's fate does not show in states.
    np.testing.assert_allclose(holding, returns, rtol=0.02)


def test_conditions_come_on_top_of_those_of_the_task() -> None:
    policy = Watching()
    own = [{"kind": "dropout", "probability": 0.5}, {"kind": "noise", "std": 0.01}]
    watched(policy, sensors=own, envs=20)
    states = np.array(policy.states)[1:, :, 0]
    # The task's own losses are what the policy was trained with: it acts on what it gets then.
    assert (np.diff(states, axis=0) > 0).all()


@compilers.HOST
def test_a_policy_in_c_acts_for_many_robots_as_the_agent_does(tmp_path: Path) -> None:
    for name, actions in (("box", cases.ACTIONS), ("discrete", spaces.MultiDiscrete([3, 2]))):
        policy = cases.make_policy(observations=cases.MIXED, actions=actions, encoder=[6])
        (tmp_path / name).mkdir()
        in_c = InC(compiled(describe_policy(policy), tmp_path / name))
        recordings = [cases.record(policy, 12, seed=seed) for seed in range(3)]
        state = in_state = None
        for step in range(12):
            moments = [each[step][0] for each in recordings]
            batch = {key: np.stack([each[key] for each in moments]) for key in moments[0]}
            starts = np.array([step == 0, step in (0, 5), step == 0])
            acted, state = policy.predict(batch, state, starts, deterministic=True)
            found, in_state = in_c.predict(batch, in_state, starts, deterministic=True)
            assert found.shape == acted.shape
            np.testing.assert_allclose(found, acted, atol=1e-5)
            np.testing.assert_allclose(in_state, state, atol=1e-5)


def test_the_box_holds_what_is_kept_and_the_nominal_condition() -> None:
    def measure(condition: Condition) -> Any:
        good = condition.interval <= 0.1 and condition.delay <= 0.02 and condition.dropout <= 0.2
        return np.full(8, 100.0 if good else 50.0)

    found = certify(measure, [0.05, 0.025, 0.1, 0.2], [0.0, 0.02, 0.05], [0.0, 0.2, 0.5], 0.05)
    assert found.box == {"interval": (0.025, 0.1), "delay": (0.0, 0.02), "dropout": (0.0, 0.2)}
    assert len(found.cells) == 36
    text = page(found, "Test-v0", 0.05)
    assert "intervals from 0.025 to 0.1 s, with a delay of up to 0.02 s and up to 20%" in text
    assert "| 0.05 (nominal) | **100** (100) | **100** (100) | 50 (50) |" in text


def test_a_hole_in_the_middle_is_not_covered() -> None:
    def measure(condition: Condition) -> Any:
        return np.full(8, 0.0 if condition == Condition(0.1, 0.0, 0.2) else 10.0)

    found = certify(measure, [0.05, 0.1], [0.0, 0.02], [0.0, 0.2], 0.05)
    assert found.box is not None
    (_, high), (_, dropout) = found.box["interval"], found.box["dropout"]
    assert not (high >= 0.1 and dropout >= 0.2)


def test_negative_returns_may_lose_a_share_of_their_size() -> None:
    found = certify(lambda _: np.full(4, -10.0), [0.05], [0.0], [0.0], 0.05)
    assert found.needed == pytest.approx(-12.0)
    assert found.box is not None


def test_few_uncertain_episodes_certify_nothing() -> None:
    noisy = np.array([100.0, 0.0, 100.0, 0.0])
    found = certify(lambda _: noisy, [0.05], [0.0], [0.0], 0.05)
    assert found.box is None
    assert "in no condition" in page(found, "Test-v0", 0.05)


def test_the_lower_bound_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = [lower_bound(rng.normal(size=40)) <= 0 for _ in range(300)]
    assert 0.91 <= np.mean(held) <= 0.98
