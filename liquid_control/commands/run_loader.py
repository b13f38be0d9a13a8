"""A run read back: its recipe and its trained agent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import gymnasium as gym
import torch
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.evaluation import TRAINED
from liquid_control.checkpoints import CheckpointError
from liquid_control.commands.run_folder import Run
from liquid_control.recipes import (
    Recipe,
    RecipeError,
    build_agent,
    build_env,
    build_robot,
    load_recipe,
)
from liquid_control.recipes.text import one_line

Rate = float | Literal["trained"]
"""A fixed control interval in seconds, or the intervals of the training."""

# Far above every seed of a training, so that an agent is shown what it has never seen.
UNSEEN = 2**31


def open_run(folder: Path, overrides: Sequence[str] = ()) -> tuple[Run, Recipe]:
    """The files of a run, and its recipe with changes.

    Raises:
        RecipeError: If there is no run, or its recipe is none.
    """
    run = Run(folder)
    if not run.config.exists():
        raise RecipeError(f"{run.folder}: no run; it has no {run.config.name}")
    recipe = load_recipe(run.config, overrides)
    torch.set_num_threads(recipe.threads)
    return run, recipe


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
    except CheckpointError as error:
        raise RecipeError(one_line(error)) from error
    return agent


def unseen_robot(recipe: Recipe, interval: Rate = "trained") -> gym.Env:
    """One robot, whose episodes were none of the training's."""
    return build_robot(recipe, seed=UNSEEN + recipe.seed, interval=interval)


def unseen_robots(recipe: Recipe, count: int, interval: Rate = "trained") -> VecEnv:
    """Several robots, whose episodes were none of the training's."""
    return build_env(recipe, num_envs=count, seed=UNSEEN + recipe.seed, interval=interval)


def rates(recipe: Recipe, nominal: float) -> dict[str, Rate]:
    """The control intervals at which a recipe wants its agent examined, by name."""
    fixed = {f"{ratio:g}x nominal": ratio * nominal for ratio in recipe.evaluation.ratios}
    return {TRAINED: "trained", **fixed}
