"""`liquid-control resume`."""

from __future__ import annotations

import warnings
from itertools import chain
from shlex import quote

from liquid_control.commands.arguments import Resume
from liquid_control.commands.run_folder import in_use
from liquid_control.commands.run_loader import open_run
from liquid_control.commands.run_state import check_changes, derived_state, read_state
from liquid_control.commands.training import go_on
from liquid_control.recipes import CommandError, build_training_env, load_recipe


def execute(arguments: Resume) -> int:
    """Execute the command; return the exit code."""
    run, recipe = open_run(arguments.folder, tuple(chain(*arguments.overrides)), arguments.trust)
    before = load_recipe(run.config)
    with in_use(run):
        state = read_state(run)
        if state is None:
            state = derived_state(run, before)
            warnings.warn(
                f"{run.folder} has no {run.state.name}, so it is not checked whether "
                f"{run.config.name} was changed since the training began",
                stacklevel=1,
            )
        check_changes(state, recipe, run)
        if state.status == "finished" and state.steps >= recipe.agent.total_timesteps:
            raise CommandError(
                f"{run.folder}: this training is finished; train on with --set "
                f"agent.total_timesteps=N, with N larger than {state.steps}"
            )
        env = build_training_env(recipe)
        try:
            return go_on(recipe, env, run, quiet=arguments.quiet, init=state.init)
        except FileNotFoundError as error:
            raise CommandError(
                f"{error}; start with its weights instead: train {quote(str(run.config))} --init "
                f"{quote(str(run.folder))}"
            ) from error
