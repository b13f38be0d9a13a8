"""`liquid-control train`."""

from __future__ import annotations

from itertools import chain
from shlex import quote

import torch
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.fields import check_like
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.commands.arguments import Train
from liquid_control.commands.run_folder import Run, existing_run, in_use, new_run, newest_model
from liquid_control.commands.run_source import run_at
from liquid_control.commands.run_state import check_changes, derived_state, read_state
from liquid_control.commands.terminal import say
from liquid_control.commands.training import begin, go_on
from liquid_control.commands.trust import search_working_directory
from liquid_control.neurons import Circuit
from liquid_control.recipes import (
    CommandError,
    Recipe,
    build_agent,
    build_training_env,
    load_recipe,
)
from liquid_control.recipes.arguments import module_of
from liquid_control.recipes.text import cut


def execute(arguments: Train) -> int:
    """Execute the command; return the exit code."""
    seed = () if arguments.seed is None else (f"seed={arguments.seed}",)
    recipe = load_recipe(arguments.recipe, (*chain(*arguments.overrides), *seed))
    if module_of({"task": recipe.task}):
        search_working_directory()
    torch.set_num_threads(recipe.threads)
    env = build_training_env(recipe)
    agent = build_agent(recipe, env)
    recipe = recipe.with_policy(agent.policy.options)
    init = None if arguments.init is None else load_weights(agent, run_at(arguments.init))
    run = run_folder(arguments, recipe)
    with in_use(run):
        code = (
            None if arguments.folder is None else continued(recipe, env, run, quiet=arguments.quiet)
        )
        if code is None:
            code = begin(recipe, agent, env, run, quiet=arguments.quiet, init=init)
        return code


def run_folder(arguments: Train, recipe: Recipe) -> Run:
    """Return the folder to train in, which is created if necessary."""
    try:
        if arguments.folder is None:
            return new_run(arguments.runs, recipe.name, recipe.seed)
        arguments.folder.mkdir(parents=True, exist_ok=True)
        return Run(arguments.folder)
    except OSError as error:
        given = (
            f"--runs {arguments.runs}"
            if arguments.folder is None
            else f"--folder {arguments.folder}"
        )
        raise CommandError(f"{cut(given)}: {error.strerror}") from error


def continued(recipe: Recipe, env: VecEnv, run: Run, *, quiet: bool) -> int | None:
    """Resume the training in a folder; return its exit code, or None if there is none.

    Raises:
        CommandError: The folder holds a training with another recipe, or what a training would
            overwrite.
    """
    if not run.config.exists():
        refuse_files(run)
        return None
    state = read_state(existing_run(run.folder))
    if state is None:  # of an earlier version, or an unpacked policy
        state = derived_state(run, load_recipe(run.config))
        if run.model.exists() and not CheckpointManager(run.checkpoints).paths():
            raise CommandError(
                f"{run.folder} holds a trained policy without its training; give another folder, "
                f"with --init {quote(str(run.folder))} to start with its weights"
            )
    check_changes(state, recipe, run)
    if state.status == "finished" and state.steps >= recipe.agent.total_timesteps:
        say(f"{run.folder}: this training is finished")
        return 0
    if not CheckpointManager(run.checkpoints).paths():
        had_some = recipe.checkpoint_every is not None and state.steps >= recipe.checkpoint_every
        if run.model.exists() and (had_some or state.status == "finished"):
            raise CommandError(
                f"{run.folder} holds a policy after {state.steps:,} steps and no checkpoint to "
                f"resume from; give another folder, with --init {quote(str(run.folder))} to start "
                "with its weights"
            )
        return None  # it ended before the first one
    return go_on(recipe, env, run, quiet=quiet, init=state.init)


def refuse_files(run: Run) -> None:
    """Raise a CommandError if a folder without a recipe holds files of a training."""
    logs = (*run.folder.glob("progress.csv"), *run.folder.glob("events.out.tfevents.*"))
    if found := [path for path in (run.state, run.checkpoints, *logs) if path.exists()]:
        raise CommandError(
            f"{run.folder} holds {found[0].name}, but no {run.config.name} of its training, which "
            "would be overwritten; give another folder"
        )


def load_weights(agent: LiquidPPO | LiquidSAC, run: Run) -> str:
    """Load only the newest weights of a run's policy; return their origin.

    Raises:
        CheckpointError: They belong to another agent or circuit, or have other shapes.
    """
    path = newest_model(run)
    other = type(agent).load(path)
    if other.acts_only:
        raise CheckpointError(
            f"{path} holds only what acts, and a training needs critics; ask whoever packed it for "
            "a file that was packed without --acts-only"
        )
    weights, circuits = other.policy.state_dict(), dict(other.policy.named_modules())
    try:
        check_like(weights, agent.policy.state_dict(), "policy")
        for name, circuit in agent.policy.named_modules():
            if isinstance(circuit, Circuit):
                theirs = circuits.get(name)
                if not (isinstance(theirs, type(circuit)) and theirs.wiring == circuit.wiring):
                    raise CheckpointError(f"its {name} has other neurons or another wiring")
        agent.policy.check_circuit(vars(other.policy.options))
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit this recipe: {error}") from error
    agent.policy.load_state_dict(weights)
    name = "/".join(run.folder.absolute().parts[-2:])
    return f"{name} after {other.num_timesteps:,} steps"
