"""Mean return of uniformly random actions, at the nominal rate of each task.

    python benchmarks/random_scores.py

The `random` entries of `liquid_control/sweeps/reference_scores.json` are what this prints: 100
episodes of each task, of seeds 0 to 99, with actions from generators of the same seeds. The second
column is the standard error of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import tyro
from table import print_table

from liquid_control import envs


@dataclass
class Arguments:
    """Mean return of uniformly random actions, at the nominal rate of each task."""

    tasks: tuple[str, ...] = (
        "Ant-v5",
        "HalfCheetah-v5",
        "Hopper-v5",
        "Humanoid-v5",
        "HumanoidStandup-v5",
        "InvertedDoublePendulum-v5",
        "InvertedPendulum-v5",
        "Pusher-v5",
        "Reacher-v5",
        "Swimmer-v5",
        "Walker2d-v5",
    )
    """Gymnasium tasks."""

    episodes: int = 100
    """Episodes of each task, of seeds 0, 1, 2, ..."""


def episode_return(env: gym.Env, seed: int) -> float:
    """Return the return of one episode."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    total, ended = 0.0, False
    while not ended:
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        total, ended = total + float(reward), terminated or truncated
    return total


def main(arguments: Arguments) -> None:
    """Play and print."""
    rows = []
    for task in arguments.tasks:
        env = envs.make(task)
        returns = [episode_return(env, seed) for seed in range(arguments.episodes)]
        env.close()
        error = np.std(returns, ddof=1) / np.sqrt(len(returns))
        rows.append(
            [
                task,
                np.format_float_positional(np.mean(returns), 4, fractional=False, trim="-"),
                f"{error:.2g}",
                str(len(returns)),
            ]
        )
    print_table(("task", "mean return", "standard error", "episodes"), rows)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
