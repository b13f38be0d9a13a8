"""The command `liquid-control`: train a recipe, evaluate a run, examine the installation."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from liquid_control import __version__
from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.clock import nominal_interval
from liquid_control.agents.evaluation import evaluate_rates, plot_rates
from liquid_control.config import Recipe, build_agent, build_env, load_recipe
from liquid_control.display import command, diagnosis, plan, results, training_progress
from liquid_control.doctor import diagnose
from liquid_control.kernels import extension
from liquid_control.recipe_text import RecipeError, one_line
from liquid_control.runs import Run, new_run, replacing, write_json, write_text

FAILED, INTERRUPTED = 2, 130
TRAINED = "as trained"

# Far above every seed of a training, so that evaluation shows what the agent has never seen.
EVALUATION_SEEDS = 2**31

Overrides = Annotated[
    tuple[tuple[str, ...], ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(name="set", metavar="KEY=VALUE ..."),
]

Quiet = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]

console = Console()
problems = Console(stderr=True)


def recipes_own(metavar: str) -> Any:
    """Settings of an argument that is left to the recipe by default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the recipe's)")


@dataclass(frozen=True)
class Train:
    """Train an agent as a recipe says, then evaluate it. Ctrl-C stops early and saves the model."""

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """A YAML file, such as configs/inverted_pendulum/ncp_ppo.yaml, or a run's config.yaml."""

    overrides: Overrides = ()
    """Change keys of the recipe, such as agent.n_steps=128; values are YAML."""

    seed: Annotated[int | None, recipes_own("N")] = None
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

        finished = learn(recipe, agent, run, quiet=self.quiet)
        with replacing(run.model) as path:
            agent.save(path)
        if not finished:
            say(f"Interrupted; the model is saved: {run.model}")
            return INTERRUPTED
        say(f"Trained; the model is saved: {run.model}")
        examine(recipe, agent, run, nominal_interval(env), quiet=self.quiet)
        env.close()
        say(f"Evaluate again: {command('liquid-control')} evaluate {run.folder}")
        return 0


@dataclass(frozen=True)
class Evaluate:
    """Measure the return of a trained agent at several control rates; a table and a picture."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run, such as runs/inverted_pendulum-ncp_ppo/20260131-120000-0."""

    episodes: Annotated[int | None, recipes_own("N")] = None
    """Episodes at each rate."""

    ratios: Annotated[tuple[float, ...] | None, recipes_own("RATIO ...")] = None
    """Fixed intervals to try, as multiples of the nominal one."""

    seed: Annotated[int | None, recipes_own("N")] = None
    """Seed of the episodes; whatever it is, they are none that were trained on."""

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Carry the command out; return the exit code."""
        run = Run(self.folder)
        given = {
            "evaluation.episodes": self.episodes,
            "evaluation.ratios": None if self.ratios is None else list(self.ratios),
            "seed": self.seed,
        }
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        if not run.config.exists():
            raise RecipeError(f"{run.folder}: no run; it has no {run.config.name}")
        recipe = load_recipe(run.config, overrides)
        torch.set_num_threads(recipe.threads)
        env = build_env(recipe)
        agent = restore(recipe, run, env)
        examine(recipe, agent, run, nominal_interval(env), quiet=self.quiet)
        env.close()
        return 0


@dataclass(frozen=True)
class Doctor:
    """Show what this installation has and lacks, with remedies. Exits with 0 if it can train."""

    quiet: ClassVar[bool] = False

    def run(self) -> int:
        """Carry the command out; return the exit code."""
        findings = diagnose()
        say(diagnosis(findings))
        return FAILED if any(each.fatal for each in findings) else 0


def learn(recipe: Recipe, agent: LiquidPPO | LiquidSAC, run: Run, *, quiet: bool) -> bool:
    """Train, with logs and checkpoints in the run's folder; False if Ctrl-C ended it."""
    formats = ["csv", "tensorboard"] if quiet else ["stdout", "csv", "tensorboard"]
    agent.set_logger(configure(str(run.folder), formats))
    callbacks: list[BaseCallback] = []
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


def restore(recipe: Recipe, run: Run, env: VecEnv) -> LiquidPPO | LiquidSAC:
    """Build a run's agent afresh and give it the saved weights; no code comes from the file.

    Raises:
        RecipeError: If there is no model, or none that fits the recipe.
    """
    agent = build_agent(recipe, env)
    try:
        agent.set_parameters(str(run.model), device=agent.device)
    except FileNotFoundError as error:
        raise RecipeError(f"{run.model}: no model was saved in this run") from error
    except (ValueError, RuntimeError) as error:
        raise RecipeError(f"{run.model}: does not fit {run.config}: {one_line(error)}") from error
    return agent


def examine(
    recipe: Recipe, agent: LiquidPPO | LiquidSAC, run: Run, nominal: float, *, quiet: bool
) -> None:
    """Evaluate at the intervals of the training and at fixed ones: table, JSON and picture."""
    intervals: dict[str, float | Literal["trained"]] = {TRAINED: "trained"}
    intervals |= {f"{ratio:g}x nominal": ratio * nominal for ratio in recipe.evaluation.ratios}

    def unseen(interval: float | Literal["trained"]) -> VecEnv:
        seed = EVALUATION_SEEDS + recipe.seed
        return build_env(recipe, num_envs=recipe.evaluation.episodes, seed=seed, interval=interval)

    evaluations = evaluate_rates(agent, unseen, intervals, progress=not quiet)
    console.print(results(evaluations))
    trained = evaluations.pop(TRAINED)
    figures = {
        "task": recipe.task,
        "intervals": [each.to_dict() for each in evaluations.values()],
        "trained": trained.to_dict(),
    }
    write_json(run.evaluation, figures)
    with replacing(run.plot) as path:
        plot_rates(evaluations, path, task=recipe.task, trained=trained)
    say(f"Figures: {run.evaluation}\nPicture: {run.plot}")


def say(text: str) -> None:
    """Print text whose paths and commands stay whole, to be copied from the screen."""
    console.print(text, soft_wrap=True, highlight=False)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print warnings in one line each; to a user of a command, where they come from is noise."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        problems.print(f"[yellow]note:[/] {escape(str(message))}", soft_wrap=True, highlight=False)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def load_kernels() -> None:
    """Choose the kernels now, so that a choice that cannot be ends the command before it begins."""
    try:
        extension.load()
    except (ValueError, RuntimeError) as error:
        raise RecipeError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, with those of the process by default; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(__version__)
        return 0
    chosen = tyro.cli(
        Train | Evaluate | Doctor,
        prog="liquid-control",
        description="Liquid neural circuits that learn to control robots in simulation. "
        "`liquid-control --version` prints the version.",
        args=arguments,
    )
    console.quiet = chosen.quiet
    try:
        with warnings_as_notes():
            if not isinstance(chosen, Doctor):  # it says itself what is wrong with the kernels
                load_kernels()
            return chosen.run()
    except RecipeError as error:
        problems.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        return FAILED
    except KeyboardInterrupt:
        problems.print("Interrupted.")
        return INTERRUPTED
