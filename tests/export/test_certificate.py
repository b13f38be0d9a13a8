"""Certificates: delay and dropout do what they say, and the box holds what was kept."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from liquid_control.export.certificate import (
    Condition,
    certify,
    lower_bound,
    measure_returns,
    page,
)

INTERVAL = 0.1


class Counting(gym.Env[Any, Any]):
    """Observations count the steps; the reward is one where the action is the count."""

    observation_space = spaces.Dict(
        {"observation": spaces.Box(0, 99, (1,)), "elapsed_time": spaces.Box(0, 9, (1,))}
    )
    action_space = spaces.Box(-99, 99, (1,))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.count = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        reward = float(action[0] == self.count)
        self.count += 1
        return self._observe(), reward, self.count == 20, False, {}

    def _observe(self) -> Any:
        return {
            "observation": np.float32([self.count]),
            "elapsed_time": np.float32([INTERVAL]),
        }


class Copies:
    """A policy that returns what it observes; its state sums the elapsed time."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift
        self.seen: list[Any] = []
        self.elapsed: list[Any] = []

    def predict(self, observation: Any, state: Any, starts: Any, deterministic: bool) -> Any:
        assert deterministic
        state = np.zeros((len(starts), 1), np.float32) if state is None else state
        self.seen.append(observation["observation"].copy())
        self.elapsed.append(observation["elapsed_time"].copy())
        return observation["observation"] + self.shift, state + observation["elapsed_time"]


def returns(policy: Any, delay: float = 0.0, dropout: float = 0.0, envs: int = 3) -> Any:
    env = DummyVecEnv([lambda: Monitor(Counting()) for _ in range(envs)])
    return measure_returns(policy, env, Condition(INTERVAL, delay, dropout))


def test_without_delay_and_dropout_the_newest_observation_counts() -> None:
    np.testing.assert_array_equal(returns(Copies()), [20.0] * 3)


@pytest.mark.parametrize(("delay", "steps"), [(0.05, 1), (0.1, 1), (0.11, 2), (0.3, 3)])
def test_a_delay_gives_what_was_measured_at_least_that_long_ago(delay: float, steps: int) -> None:
    policy = Copies(shift=steps)
    # The first observation is repeated until one is old enough.
    np.testing.assert_array_equal(returns(policy, delay=delay), [20.0 - steps] * 3)
    seen = np.array(policy.seen)[:, 0, 0]
    np.testing.assert_array_equal(seen[: steps + 2], [0] * (steps + 1) + [1])


def test_a_lost_observation_holds_the_action_and_its_time_is_made_up_for() -> None:
    policy = Copies()
    half = returns(policy, dropout=0.5, envs=200)
    assert 8 < half.mean() < 13  # one in two, and the first is never lost
    elapsed = np.array(policy.elapsed)[:, :, 0]
    assert set(np.round(np.unique(elapsed) / INTERVAL).astype(int)) >= {1, 2, 3}
    # The time before an observation that is taken is the whole time since the one before.
    assert elapsed.mean() == pytest.approx(2 * INTERVAL, rel=0.15)


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
