"""`liquid-control train`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.nominal_interval import nominal_interval
from liquid_control.checkpoints.checkpoint_callback import ResumeCallback
from liquid_control.checkpoints.durable import write_text
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.checkpoints.signals import stop_on_signals
from liquid_control.commands.display import command, plan, training_progress
from liquid_control.commands.evaluate import examine
from liquid_control.commands.run_folder import Run, in_use, new_run
from liquid_control.commands.run_loader import UNSEEN, rates, unseen_robot, unseen_robots
from liquid_control.commands.terminal import INTERRUPTED, Quiet, otherwise, say
from liquid_control.commands.trust import search_working_directory, trust_flag
from liquid_control.monitoring import (
    EpisodeCallback,
    HParamsCallback,
    RatesCallback,
    ScalarsCallback,
    evaluation_tag,
    leaves,
    log_evaluations,
)
from liquid_control.recipes import CommandError, Recipe, build_agent, build_env, load_recipe
from liquid_control.recipes.arguments import module_of
from liquid_control.recipes.text import cut

Overrides = Annotated[
    tuple[tuple[str, ...], ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(name="set", metavar="KEY=VALUE ..."),
]


NEVER = 2**62


@dataclass(frozen=True)
class Train:
    """Train an agent from a recipe, then evaluate it. If stopped by Ctrl-C, it can be resumed."""

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """A YAML file, such as configs/inverted_pendulum/ncp_ppo.yaml, or a run's config.yaml."""

    overrides: Overrides = ()
    """Change keys of the recipe, such as agent.n_steps=128; values are YAML."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of weights and environments."""

    runs: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder in which the run's folder is created."""

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Run the command; return the exit code."""
        seed = () if self.seed is None else (f"seed={self.seed}",)
        recipe = load_recipe(self.recipe, (*chain(*self.overrides), *seed))
        if module_of({"task": recipe.task}):
            search_working_directory()
        torch.set_num_threads(recipe.threads)
        env = build_env(recipe)
        agent = build_agent(recipe, env)
        try:
            run = new_run(self.runs, recipe.name, recipe.seed)
            write_text(run.config, recipe.to_yaml())
        except OSError as error:
            raise CommandError(f"--runs {cut(str(self.runs))}: {error.strerror}") from error
        say(plan(recipe, agent, env, run))

        with in_use(run):
            agent.set_logger(logger_of(run, quiet=self.quiet))
            return carry_out(recipe, agent, env, run, quiet=self.quiet)


def carry_out(
    recipe: Recipe, agent: LiquidPPO | LiquidSAC, env: VecEnv, run: Run, *, quiet: bool
) -> int:
    """Train to the end of the recipe, then evaluate; return the exit code."""
    nominal, tool = nominal_interval(env), command("liquid-control")
    again = f"{run.folder}{trust_flag(recipe)}"
    try:
        finished = learn(recipe, agent, run, nominal, quiet=quiet)
    except Exception:
        say(f"Training failed; resume it from the last checkpoint: {tool} resume {again}")
        raise
    finally:
        agent.save(run.model)
    if not finished:
        say(f"Interrupted; resume it: {tool} resume {again}")
        return INTERRUPTED
    say(f"Training finished; the model is saved: {run.model}")
    evaluations = examine(recipe, agent, run, nominal, quiet=quiet)
    log_evaluations(agent.logger, evaluations, recipe.task, agent.num_timesteps)
    env.close()
    say(f"Evaluate again: {tool} evaluate {again}\nInspect its neurons: {tool} inspect {again}")
    return 0


def logger_of(run: Run, *, quiet: bool) -> ResumableLogger:
    """Return the logger of a run; it continues existing logs."""
    formats = ["csv", "tensorboard"] if quiet else ["stdout", "csv", "tensorboard"]
    return ResumableLogger(run.folder, formats)


def learn(
    recipe: Recipe, agent: LiquidPPO | LiquidSAC, run: Run, nominal: float, *, quiet: bool
) -> bool:
    """Train to the end of the recipe, with checkpoints; return False if a signal stopped it."""
    total = recipe.agent.total_timesteps
    every = recipe.checkpoint_every
    resumed = agent._last_obs is not None
    with stop_on_signals() as stop:
        resumable = ResumeCallback(CheckpointManager(run.checkpoints), every or NEVER, stop)
        callbacks = [*watchers(recipe, run, nominal, resumed=resumed), resumable]
        with nullcontext() if quiet else training_progress(total) as progress:
            agent.learn(
                total - agent.num_timesteps,
                [*callbacks, *([progress] if progress else [])],
                reset_num_timesteps=not resumed,
            )
    return not resumable.stopped


def watchers(
    recipe: Recipe, run: Run, nominal: float, *, resumed: bool = False
) -> list[BaseCallback]:
    """Return the callbacks that log a training to TensorBoard; settings are logged once."""
    monitoring, examined = recipe.monitoring, rates(recipe, nominal)
    metrics = ["rollout/ep_rew_mean", *map(evaluation_tag, examined)]
    callbacks: list[BaseCallback] = [ScalarsCallback()]
    if not resumed:
        callbacks.append(HParamsCallback(leaves(recipe.model_dump(mode="json")), metrics))
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
                at_end=False,  # `examine` follows, with more episodes
            ),
        ]
    return callbacks
