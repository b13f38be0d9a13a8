"""Loads a run: its recipe and its trained agent."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import gymnasium as gym
import torch
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.evaluation import TRAINED
from liquid_control.commands.arguments import UNTRUSTED, Trust
from liquid_control.commands.run_folder import Run, newest_model, steps_of
from liquid_control.commands.run_source import run_at
from liquid_control.commands.run_state import check_changes, read_state
from liquid_control.commands.trust import check_trust
from liquid_control.envs.substeps import check_magnitude, to_substeps
from liquid_control.recipes import (
    Recipe,
    RecipeError,
    build_agent,
    build_env,
    build_robot,
    load_recipe,
    read_recipe,
    recipe_from,
)

Rate = float | Literal["trained"]
"""A fixed control interval in seconds, or the intervals of the training."""

# Far above every seed of a training, so that evaluations have other episodes.
UNSEEN = 2**31


def open_run(
    folder: Path, overrides: Sequence[str] = (), trust: Trust = UNTRUSTED
) -> tuple[Run, Recipe]:
    """Return the files of a run, and its recipe with changes.

    Raises:
        CommandError: there is no run, its recipe needs trust, or it was changed since the training.
        RecipeError: its recipe is invalid.
    """
    run = run_at(folder)
    data = read_recipe(run.config, overrides)
    theirs = data
    if any(each.startswith("env.address=") for each in overrides):  # the user chose the cluster
        theirs = {**data, "env": {**data["env"], "address": None}}
    check_trust(trust, theirs, run.config)
    recipe = recipe_from(data, str(run.config))
    if state := read_state(run):
        check_changes(state, load_recipe(run.config) if overrides else recipe, run)
    torch.set_num_threads(recipe.threads)
    return run, recipe


def load_agent(recipe: Recipe, run: Run, env: VecEnv) -> LiquidPPO | LiquidSAC:
    """Build a run's agent and load its newest weights, without running code from the file.

    Warns if the training is not finished.

    Raises:
        CommandError: there is no model.
        CheckpointError: it is damaged, or does not fit the recipe.
    """
    agent, model = build_agent(recipe, env), newest_model(run)
    agent.set_parameters(str(model), device=agent.device)
    agent.num_timesteps, total = steps_of(model), recipe.agent.total_timesteps
    if agent.num_timesteps < total:
        warnings.warn(
            f"this training is not finished; its agent after {agent.num_timesteps:,} of {total:,} "
            "control steps is used",
            stacklevel=2,
        )
    return agent


def unseen_robot(recipe: Recipe, interval: Rate = "trained") -> gym.Env:
    """Return one robot, with episodes unseen in training."""
    return build_robot(recipe, seed=UNSEEN + recipe.seed, interval=interval)


def unseen_robots(recipe: Recipe, count: int, interval: Rate = "trained") -> VecEnv:
    """Return several robots, with episodes unseen in training."""
    return build_env(recipe, num_envs=count, seed=UNSEEN + recipe.seed, interval=interval)


def rates(recipe: Recipe, nominal: float) -> dict[str, Rate]:
    """Return the control intervals at which a recipe evaluates its agent, by name.

    They are the multiples of the physics step nearest to the recipe's ratios, named by their true
    ratio, such as "0.4x nominal".

    Raises:
        RecipeError: a ratio is out of bounds.
    """
    robot = build_robot(recipe)
    timestep = robot.get_wrapper_attr("timestep")
    robot.close()
    named: dict[str, Rate] = {TRAINED: "trained"}
    for ratio in recipe.evaluation.ratios:
        interval = int(to_substeps(ratio * nominal, timestep)) * timestep
        try:
            check_magnitude(interval, nominal, allow_any_interval=recipe.env.allow_any_interval)
        except ValueError as error:
            raise RecipeError(f"evaluation.ratios: {ratio:g}: {error}") from error
        name = f"{interval / nominal:g}x nominal"
        if not math.isclose(interval, ratio * nominal, rel_tol=1e-6):
            warnings.warn(
                f"{ratio:g} times the nominal interval is not a multiple of the physics step of "
                f"{timestep:g} s; {name}, {interval:g} s, is evaluated",
                stacklevel=2,
            )
        named[name] = interval
    return named
