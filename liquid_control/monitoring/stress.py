"""An agent's return before, soon after and long after a change within an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents.evaluation import first_episodes

Array = NDArray[np.float64]

WINDOWS = ("before", "soon after", "later")
"""Parts of an episode in which a robot changes."""


@dataclass(frozen=True)
class Course:
    """One episode, step by step.

    Attributes:
        ends: (steps,) seconds since the reset at which each control step ended.
        rewards: (steps,).
        drawn: values drawn for the episode, `info["drawn"]`.
    """

    ends: Array
    rewards: Array
    drawn: Mapping[str, float]

    def earned(self, begin: float, end: float) -> float:
        """Return the rewards between two times; those of partial steps count in proportion."""
        starts = np.concatenate([[0.0], self.ends[:-1]])
        shared = np.minimum(self.ends, end) - np.maximum(starts, begin)
        return float(self.rewards @ (shared.clip(min=0.0) / (self.ends - starts)))


def courses(model: BaseAlgorithm, env: VecEnv) -> list[Course]:
    """Return the first episode of every environment, with deterministic actions.

    Args:
        model: an SB3 algorithm, recurrent or not.
        env: tasks of `liquid_control.envs`, or others whose `info` has `elapsed_time`.

    Raises:
        ValueError: `info` has no `elapsed_time`.
    """
    count = env.num_envs
    rewards: list[list[float]] = [[] for _ in range(count)]
    seconds: list[list[float]] = [[] for _ in range(count)]
    drawn: list[dict[str, float]] = [{} for _ in range(count)]
    for envs, reward, _, infos in first_episodes(model, env):
        for index in envs:
            if "elapsed_time" not in infos[index]:
                raise ValueError("info has no 'elapsed_time'; make the tasks with envs.make_vec")
            rewards[index].append(float(reward[index]))
            seconds[index].append(float(infos[index]["elapsed_time"]))
            drawn[index] = dict(infos[index].get("drawn", {}))
    return [
        Course(np.cumsum(times), np.array(earned), known)
        for times, earned, known in zip(seconds, rewards, drawn, strict=True)
    ]


def in_windows(found: Sequence[Course], at: Any, after: float, horizon: float) -> Array:
    """Return episodes' rewards per second in each of `WINDOWS`, (windows, episodes).

    An episode that ends early has zero rewards in the rest of its windows. A window that does not
    exist, because the change comes too late, is NaN.

    Args:
        found: the episodes.
        at: seconds from the reset to the change, one for all episodes or (episodes,).
        after: seconds of the window that begins with it.
        horizon: seconds of a whole episode.
    """
    moments = np.broadcast_to(np.asarray(at, np.float64), (len(found),))
    rates = np.full((len(WINDOWS), len(found)), np.nan)
    for episode, (course, moment) in enumerate(zip(found, moments, strict=True)):
        bounds = np.minimum([0.0, moment, moment + after, horizon], horizon)
        for window, (begin, end) in enumerate(pairwise(bounds)):
            if end > begin:
                rates[window, episode] = course.earned(begin, end) / (end - begin)
    return rates
