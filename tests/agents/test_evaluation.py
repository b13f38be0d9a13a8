"""Evaluation: one whole episode for each environment, at the rate that was asked for."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from liquid_control.agents.evaluation import Evaluation, evaluate, evaluate_rates


class Countdown(gym.Env[Any, Any]):
    """An episode of `length` steps of `interval` seconds, each with a reward of `length`."""

    observation_space = gym.spaces.Box(0, np.inf, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    nominal_interval = 0.1

    def __init__(self, length: int, interval: float = 0.1, last: float | None = None) -> None:
        self.length, self.interval, self.last = length, interval, last
        self.left = length
        self.starts = 0

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        self.left = self.length
        self.starts += 1
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        ended = self.left == 0
        elapsed = self.last if ended and self.last else self.interval
        info = {"elapsed_time": elapsed}
        return np.zeros(1, np.float32), float(self.length), ended, False, info


class Recorder:
    """An agent that records its observations and states."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, bool]] = []

    def predict(
        self, observation: Any, state: Any, episode_start: Any, deterministic: bool
    ) -> tuple[Any, Any]:
        self.calls.append((state, episode_start.copy(), deterministic))
        return np.zeros((len(observation), 1)), len(self.calls)


def countdowns(*lengths: int, **kwargs: Any) -> VecEnv:
    return DummyVecEnv([lambda n=n: Monitor(Countdown(n, **kwargs)) for n in lengths])


def test_each_environment_counts_with_its_first_episode_however_short() -> None:
    evaluation = evaluate(Recorder(), countdowns(1, 2, 10))  # type: ignore[arg-type]
    assert evaluation.returns.tolist() == [1, 4, 100]
    assert evaluation.mean == pytest.approx(35)
    assert evaluation.deviation == pytest.approx(np.std([1, 4, 100]))


def test_the_agent_gets_its_state_back_and_acts_deterministically() -> None:
    agent = Recorder()
    evaluate(agent, countdowns(1, 3))  # type: ignore[arg-type]
    states, starts, deterministic = zip(*agent.calls, strict=True)
    assert states == (None, 1, 2)
    assert np.array_equal(starts, [[True, True], [True, False], [True, False]])
    assert all(deterministic)


def test_the_interval_is_the_one_that_passed_not_the_last_that_the_horizon_cut() -> None:
    evaluation = evaluate(Recorder(), countdowns(4, interval=0.2, last=0.01))  # type: ignore[arg-type]
    assert evaluation.interval == pytest.approx(0.2)
    assert evaluation.ratio == pytest.approx(2)
    single = evaluate(Recorder(), countdowns(1, last=0.01))  # type: ignore[arg-type]
    assert single.interval == pytest.approx(0.01)


def test_a_return_that_is_not_finite_ends_the_evaluation_too() -> None:
    env = DummyVecEnv([lambda: Monitor(Countdown(3))])
    env.envs[0].unwrapped.length = np.nan  # type: ignore[attr-defined]
    env.envs[0].unwrapped.reset = lambda **_: (np.zeros(1, np.float32), {})  # type: ignore[method-assign]
    assert np.isnan(evaluate(Recorder(), env).mean)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("info", "wrapper"), [({}, "VariableRate"), ({"elapsed_time": 0.1}, "Monitor")]
)
def test_an_environment_that_keeps_silent_is_refused(info: dict[str, Any], wrapper: str) -> None:
    class Silent(Countdown):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return *super().step(action)[:4], info.copy()  # type: ignore[return-value]

    with pytest.raises(ValueError, match=wrapper):
        evaluate(Recorder(), DummyVecEnv([lambda: Silent(1)]))  # type: ignore[arg-type]


def test_each_rate_gets_environments_of_its_own() -> None:
    closed = []

    def make_env(interval: float) -> VecEnv:
        env = countdowns(2, 2, interval=interval)
        env.close = lambda: closed.append(interval)  # type: ignore[method-assign]
        return env

    evaluations = evaluate_rates(Recorder(), make_env, {"fast": 0.05, "slow": 0.2})  # type: ignore[arg-type]
    assert {name: each.interval for name, each in evaluations.items()} == pytest.approx(
        {"fast": 0.05, "slow": 0.2}
    )
    assert closed == [0.05, 0.2]


@pytest.mark.parametrize("own", [False, True])
def test_observations_are_normalised_as_in_training(own: bool) -> None:
    """By the statistics of the training, unless the environments have their own."""
    training = VecNormalize(countdowns(1), norm_reward=False)
    training.obs_rms.mean[:] = 3.0  # type: ignore[union-attr]

    class Trained(Recorder):
        def get_vec_normalize_env(self) -> VecNormalize:
            return training

        def predict(self, observation: Any, *rest: Any, **others: Any) -> tuple[Any, Any]:
            seen.append(float(observation[0, 0]))
            return super().predict(observation, *rest, **others)

    seen: list[float] = []
    env: VecEnv = countdowns(2)
    evaluate(Trained(), VecNormalize(env, training=False) if own else env)  # type: ignore[arg-type]
    assert seen == pytest.approx([0.0 if own else -3.0] * 2)


def test_figures_are_plain_numbers() -> None:
    assert Evaluation(np.array([1.0, 3.0]), 0.2, 0.1).to_dict() == {
        "interval_s": 0.2,
        "ratio": 2.0,
        "episodes": 2,
        "mean_return": 2.0,
        "std_return": 1.0,
    }
