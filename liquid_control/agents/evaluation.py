"""Evaluation of trained agents at several control rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress, TaskID
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

Rate = TypeVar("Rate")

TRAINED = "as trained"
"""Name of an evaluation at the intervals of training."""


@dataclass(frozen=True)
class Evaluation:
    """Returns of an agent over episodes at one control rate.

    Attributes:
        returns: (episodes,) undiscounted.
        interval: mean control interval in seconds.
        nominal_interval: of the task, in seconds.
    """

    returns: NDArray[np.float64]
    interval: float
    nominal_interval: float

    @property
    def ratio(self) -> float:
        """Return interval / nominal interval."""
        return self.interval / self.nominal_interval

    @property
    def mean(self) -> float:
        """Return the mean return."""
        return float(self.returns.mean())

    @property
    def deviation(self) -> float:
        """Return the standard deviation of the returns."""
        return float(self.returns.std())

    def to_dict(self) -> dict[str, float | int]:
        """Return the results as JSON-able numbers."""
        return {
            "interval_s": round(self.interval, 9),
            "ratio": round(self.ratio, 6),
            "episodes": len(self.returns),
            "mean_return": self.mean,
            "std_return": self.deviation,
        }


def first_episodes(
    model: BaseAlgorithm, env: VecEnv
) -> Iterator[
    tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]
]:
    """Run the first episode of every environment, with deterministic actions.

    Each environment contributes one episode of any length, because taking the first episodes to
    end would favour short ones. An agent that was trained with `VecNormalize` observes as in
    training: its statistics normalise the observations of environments that have no own ones.

    Yields:
        for each step the indices of the environments that are still in their first episode, and the
        results of `env.step`: rewards, episode ends and infos of all environments.
    """
    trained = getattr(model, "get_vec_normalize_env", lambda: None)()  # which policies lack
    normalizer = None if unwrap_vec_normalize(env) else trained
    observation: Any = env.reset()
    state = None
    starts, running = np.ones(env.num_envs, dtype=bool), np.ones(env.num_envs, dtype=bool)
    while running.any():
        seen = observation if normalizer is None else normalizer.normalize_obs(observation)
        action, state = model.predict(seen, state, starts, deterministic=True)
        observation, rewards, starts, infos = env.step(action)
        yield np.flatnonzero(running), rewards, starts, infos
        running &= ~starts


def evaluate(
    model: BaseAlgorithm, env: VecEnv, *, on_step: Callable[[int], None] | None = None
) -> Evaluation:
    """Evaluate an agent on the first episode of every environment, with deterministic actions.

    Args:
        model: An SB3 algorithm, recurrent or not.
        env: Monitored MuJoCo tasks of `liquid_control.envs`, or other environments with the
            attribute `nominal_interval` and an `info` that holds `elapsed_time`.
        on_step: Called after each step with the number of episodes that have ended.

    Raises:
        ValueError: If `info` holds no `elapsed_time` or, at an episode's end, no `episode`.
    """
    returns = np.zeros(env.num_envs)
    intervals: list[float] = []
    last_intervals: list[float] = []
    for envs, _, ended, infos in first_episodes(model, env):
        for index in envs:
            # The last interval of an episode may be shortened by its horizon, so it counts only
            # if there are no others.
            (last_intervals if ended[index] else intervals).append(
                _entry(infos[index], "elapsed_time")
            )
            if ended[index]:
                returns[index] = _entry(infos[index], "episode")["r"]
        if on_step is not None:
            on_step(env.num_envs - len(envs) + int(ended[envs].sum()))
    (nominal,) = env.get_attr("nominal_interval", indices=[0])
    return Evaluation(returns, float(np.mean(intervals or last_intervals)), float(nominal))


def evaluate_rates(
    model: BaseAlgorithm,
    make_env: Callable[[Rate], VecEnv],
    rates: Mapping[str, Rate],
    *,
    progress: bool = False,
) -> dict[str, Evaluation]:
    """Evaluate an agent at several control rates, one episode per environment.

    Args:
        model: As in `evaluate`.
        make_env: Builds the environments for one of `rates`; they are closed afterwards.
        rates: Arguments of `make_env` by the name of each rate, such as "2x".
        progress: Show a bar for each rate.

    Returns:
        An evaluation for each name.
    """
    evaluations = {}
    with Progress(disable=not progress) as bars:
        for name, rate in rates.items():
            env = make_env(rate)
            bar = bars.add_task(f"evaluating, {name}", total=env.num_envs)
            report = partial(_report, bars, bar)
            try:
                evaluations[name] = evaluate(model, env, on_step=report)
            finally:
                env.close()
    return evaluations


def _report(bars: Progress, bar: TaskID, ended: int) -> None:
    bars.update(bar, completed=ended)


def _entry(info: Mapping[str, Any], key: str) -> Any:
    if key not in info:
        wrapper = "Monitor" if key == "episode" else "VariableRate"
        raise ValueError(f"info has no {key!r}; wrap the environments in {wrapper} to evaluate")
    return info[key]
