"""Cost of monitoring: a recipe trained with and without callbacks of `liquid_control.monitoring`.

    python benchmarks/monitoring.py

Both trainings write progress.csv and scalars for TensorBoard. One also films, draws and evaluates,
as `liquid-control train` does. They run in turns, by the wall's clock: the machine must be quiet.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import tyro
from stable_baselines3.common.logger import configure
from table import print_table

from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.run_folder import new_run
from liquid_control.commands.training import watchers
from liquid_control.monitoring.tensorboard.scalars import monitoring_seconds
from liquid_control.recipes import Recipe, build_agent, build_env, load_recipe


@dataclass
class Arguments:
    """Cost of monitoring a training."""

    recipe: Path = Path("configs/half_cheetah/ncp_ppo.yaml")
    """The training."""

    rounds: int = 2
    """Trainings with and without."""


def train(recipe: Recipe, *, watched: bool) -> tuple[float, float]:
    """Train once; return the total seconds, and those of monitoring."""
    with tempfile.TemporaryDirectory() as folder:
        env = build_env(recipe)
        agent = build_agent(recipe, env)
        run = new_run(Path(folder), recipe.name, recipe.seed)
        agent.set_logger(configure(str(run.folder), ["csv", "tensorboard"]))
        callbacks = watchers(recipe, run, nominal_interval(env)) if watched else []
        start = time.perf_counter()
        agent.learn(recipe.agent.total_timesteps, callbacks)
        seconds = time.perf_counter() - start
        agent.logger.close()
        env.close()
    return seconds, monitoring_seconds(agent)


def main(arguments: Arguments) -> None:
    """Train alternately and print the table."""
    recipe = load_recipe(arguments.recipe)
    torch.set_num_threads(recipe.threads)
    plain, watched, costs = [], [], []
    for _ in range(arguments.rounds):
        plain.append(train(recipe, watched=False)[0])
        seconds, spent = train(recipe, watched=True)
        watched.append(seconds)
        costs.append(spent)
    ratios = [mine / theirs for mine, theirs in zip(watched, plain, strict=True)]
    print_table(
        (str(arguments.recipe), "seconds", "of which monitoring", "over not watched"),
        (
            ("not watched", f"{median(plain):.1f}", "", ""),
            ("watched", f"{median(watched):.1f}", f"{median(costs):.1f}", f"{median(ratios):.3f}"),
        ),
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
