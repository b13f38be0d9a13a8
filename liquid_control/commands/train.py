"""`liquid-control train`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import torch
import tyro
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.fields import check_like
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.commands.run_folder import Run, existing_run, in_use, new_run, newest_model
from liquid_control.commands.run_state import check_changes, read_state
from liquid_control.commands.terminal import Overrides, Quiet, otherwise, say
from liquid_control.commands.training import begin, go_on
from liquid_control.commands.trust import search_working_directory
from liquid_control.neurons import Circuit
from liquid_control.recipes import CommandError, Recipe, build_agent, build_env, load_recipe
from liquid_control.recipes.arguments import module_of
from liquid_control.recipes.text import cut


@dataclass(frozen=True)
class Train:
    """Train an agent from a recipe, then evaluate it. If stopped by Ctrl-C, it can be resumed."""

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """A YAML file, such as configs/inverted_pendulum/ncp_ppo.yaml, or a run's config.yaml."""

    overrides: Overrides = ()
    """Change keys of the recipe, such as agent.n_steps=128; values are YAML."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of weights and environments."""

    init: Annotated[Path | None, otherwise("RUN", "new weights")] = None
    """Start with the weights and normaliser of this run's policy, which may be of another task or
    recipe with the same circuit; the optimizer and the count of steps start anew."""

    runs: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder in which the run's folder is created."""

    folder: Annotated[Path | None, otherwise("RUN", "RUNS/RECIPE/DATE-SEED")] = None
    """Train in this folder. A training of the same recipe that was interrupted there goes on from
    its last checkpoint, and a finished one is left as it is, so the same command can be repeated
    until the training is done."""

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
        recipe = recipe.with_policy(agent.policy.options)
        init = None if self.init is None else load_weights(agent, existing_run(self.init))
        run = self._run_folder(recipe)
        with in_use(run):
            code = None if self.folder is None else continued(recipe, env, run, quiet=self.quiet)
            if code is None:
                code = begin(recipe, agent, env, run, quiet=self.quiet, init=init)
            return code

    def _run_folder(self, recipe: Recipe) -> Run:
        try:
            if self.folder is None:
                return new_run(self.runs, recipe.name, recipe.seed)
            self.folder.mkdir(parents=True, exist_ok=True)
            return Run(self.folder)
        except OSError as error:
            given = f"--runs {self.runs}" if self.folder is None else f"--folder {self.folder}"
            raise CommandError(f"{cut(given)}: {error.strerror}") from error


def continued(recipe: Recipe, env: VecEnv, run: Run, *, quiet: bool) -> int | None:
    """Go on with the training in a folder; return its exit code, or None if none was begun there.

    Raises:
        CommandError: The training in the folder is of another recipe.
    """
    if not run.config.exists():
        return None
    state = read_state(existing_run(run.folder))
    if state is None:
        return None
    check_changes(state, recipe, run)
    if state.status == "finished" and state.steps >= recipe.agent.total_timesteps:
        say(f"{run.folder}: this training is finished")
        return 0
    if not CheckpointManager(run.checkpoints).paths():  # it ended before the first one
        return None
    return go_on(recipe, env, run, quiet=quiet, init=state.init)


def load_weights(agent: LiquidPPO | LiquidSAC, run: Run) -> str:
    """Load the newest weights of a run's policy, and nothing else; say where they come from.

    Raises:
        CheckpointError: They are of another agent or circuit, or of other shapes.
    """
    path = newest_model(run)
    other = type(agent).load(path)
    weights, circuits = other.policy.state_dict(), dict(other.policy.named_modules())
    try:
        check_like(weights, agent.policy.state_dict(), "policy")
        for name, circuit in agent.policy.named_modules():
            if isinstance(circuit, Circuit):
                theirs = circuits.get(name)
                if not (isinstance(theirs, type(circuit)) and theirs.wiring == circuit.wiring):
                    raise CheckpointError(f"its {name} has other neurons or another wiring")
    except CheckpointError as error:
        raise CheckpointError(f"{path} does not fit this recipe: {error}") from error
    agent.policy.load_state_dict(weights)
    name = "/".join(run.folder.absolute().parts[-2:])
    return f"{name} after {other.num_timesteps:,} steps"
