"""How well a trained agent does at each control rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress, TaskID
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

Rate = TypeVar("Rate")

TRAINED = "as trained"
"""The name of an evaluation at the intervals of the training."""


@dataclass(frozen=True)
class Evaluation:
    """What an agent achieved in some episodes of one kind.

    Attributes:
        returns: (episodes,) undiscounted.
        interval: seconds, the mean of the control intervals.
        nominal_interval: seconds, the task's own.
    """

    returns: NDArray[np.float64]
    interval: float
    nominal_interval: float

    @property
    def ratio(self) -> float:
        """Interval over nominal interval."""
        return self.interval / self.nominal_interval

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation of the return between episodes."""
        return float(self.returns.std())

    def to_dict(self) -> dict[str, float | int]:
        """Return the figures as JSON-able numbers."""
        return {
            "interval_s": round(self.interval, 9),
            "ratio": round(self.ratio, 6),
            "episodes": len(self.returns),
            "mean_return": self.mean,
            "std_return": self.deviation,
        }


def evaluate(
    model: BaseAlgorithm, env: VecEnv, *, on_step: Callable[[int], None] | None = None
) -> Evaluation:
    """Let an agent live the first episode of every environment, taking its most likely actions.

    One episode per environment, however long: collecting a number of episodes as they end would
    favour the short ones.

    Args:
        model: An SB3 algorithm, with a recurrent policy or without.
        env: Monitored MuJoCo tasks of `liquid_control.envs`, or others whose `info` has
            `elapsed_time` and which know their `nominal_interval`.
        on_step: Called after each step with the number of episodes that have ended.

    Raises:
        ValueError: If the environments are not monitored or do not tell elapsed time.
    """
    returns = np.zeros(env.num_envs)
    running = np.ones(env.num_envs, dtype=bool)
    lasting: list[float] = []
    last: list[float] = []
    observation, state = env.reset(), None
    starts = np.ones(env.num_envs, dtype=bool)
    while running.any():
        action, state = model.predict(observation, state, starts, deterministic=True)  # type: ignore[arg-type]
        observation, _, starts, infos = env.step(action)
        for index in np.flatnonzero(running):
            # The last interval of an episode may be cut short by its horizon, and counts only if
            # there is no other.
            (last if starts[index] else lasting).append(_told(infos[index], "elapsed_time"))
            if starts[index]:
                returns[index] = _told(infos[index], "episode")["r"]
        running &= ~starts
        if on_step is not None:
            on_step(int((~running).sum()))
    (nominal,) = env.get_attr("nominal_interval", indices=[0])
    return Evaluation(returns, float(np.mean(lasting or last)), float(nominal))


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
        rates: A name for each rate, such as "2x", and what `make_env` takes for it.
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


def _told(info: Mapping[str, Any], key: str) -> Any:
    if key not in info:
        wrapper = "Monitor" if key == "episode" else "VariableRate"
        raise ValueError(f"info has no {key!r}; wrap the environments in {wrapper} to evaluate")
    return info[key]
