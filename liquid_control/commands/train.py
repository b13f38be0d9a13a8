"""`liquid-control train`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.logger import configure

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.clock import nominal_interval
from liquid_control.commands.evaluate import examine
from liquid_control.commands.terminal import INTERRUPTED, Quiet, otherwise, say
from liquid_control.commands.trained import UNSEEN, rates, unseen_robot, unseen_robots
from liquid_control.config import Recipe, build_agent, build_env, load_recipe
from liquid_control.display import command, plan, training_progress
from liquid_control.monitoring import (
    EpisodeCallback,
    HParamsCallback,
    RatesCallback,
    ScalarsCallback,
    evaluation_tag,
    leaves,
    log_evaluations,
)
from liquid_control.runs import Run, new_run, replacing, write_text

Overrides = Annotated[
    tuple[tuple[str, ...], ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(name="set", metavar="KEY=VALUE ..."),
]


@dataclass(frozen=True)
class Train:
    """Train an agent as a recipe says, then evaluate it. Ctrl-C stops early and saves the model."""

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """A YAML file, such as configs/inverted_pendulum/ncp_ppo.yaml, or a run's config.yaml."""

    overrides: Overrides = ()
    """Change keys of the recipe, such as agent.n_steps=128; values are YAML."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of weights and environments."""

    runs: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder that gets a folder for the run."""

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Carry the command out; return the exit code."""
        seed = () if self.seed is None else (f"seed={self.seed}",)
        recipe = load_recipe(self.recipe, (*chain(*self.overrides), *seed))
        torch.set_num_threads(recipe.threads)
        env = build_env(recipe)
        agent = build_agent(recipe, env)
        run = new_run(self.runs, recipe.name, recipe.seed)
        write_text(run.config, recipe.to_yaml())
        say(plan(recipe, agent, env, run))

        nominal = nominal_interval(env)
        finished = learn(recipe, agent, run, nominal, quiet=self.quiet)
        with replacing(run.model) as path:
            agent.save(path)
        if not finished:
            say(f"Interrupted; the model is saved: {run.model}")
            return INTERRUPTED
        say(f"Trained; the model is saved: {run.model}")
        evaluations = examine(recipe, agent, run, nominal, quiet=self.quiet)
        log_evaluations(agent.logger, evaluations, recipe.task, agent.num_timesteps)
        env.close()
        tool = command("liquid-control")
        say(
            f"Evaluate again: {tool} evaluate {run.folder}\n"
            f"See its neurons: {tool} inspect {run.folder}"
        )
        return 0


def learn(
    recipe: Recipe, agent: LiquidPPO | LiquidSAC, run: Run, nominal: float, *, quiet: bool
) -> bool:
    """Train, with logs, pictures and checkpoints in the run's folder; False if Ctrl-C ended it."""
    formats = ["csv", "tensorboard"] if quiet else ["stdout", "csv", "tensorboard"]
    agent.set_logger(configure(str(run.folder), formats))
    callbacks = watchers(recipe, run, nominal)
    if recipe.checkpoint_every is not None:
        calls = max(recipe.checkpoint_every // recipe.env.num_envs, 1)
        callbacks.append(CheckpointCallback(calls, str(run.checkpoints), "model"))
    total = recipe.agent.total_timesteps
    try:
        with nullcontext() if quiet else training_progress(total) as progress:
            agent.learn(total, [*callbacks, *([progress] if progress else [])])
    except KeyboardInterrupt:
        return False
    return True


def watchers(recipe: Recipe, run: Run, nominal: float) -> list[BaseCallback]:
    """The callbacks that show a training in TensorBoard."""
    monitoring, examined = recipe.monitoring, rates(recipe, nominal)
    metrics = ["rollout/ep_rew_mean", *map(evaluation_tag, examined)]
    callbacks: list[BaseCallback] = [
        HParamsCallback(leaves(recipe.model_dump(mode="json")), metrics),
        ScalarsCallback(),
    ]
    if monitoring.every is not None:
        callbacks += [
            EpisodeCallback(
                unseen_robot(recipe),
                monitoring.every,
                folder=run.videos,
                film_seconds=monitoring.film_seconds,
                seed=UNSEEN + recipe.seed,
            ),
            RatesCallback(
                lambda interval: unseen_robots(recipe, monitoring.episodes, interval),
                examined,
                monitoring.every,
                task=recipe.task,
                at_end=False,  # a longer one follows
            ),
        ]
    return callbacks
