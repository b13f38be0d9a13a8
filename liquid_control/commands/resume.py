"""`liquid-control resume`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import chain

from liquid_control.commands.run_folder import in_use
from liquid_control.commands.run_loader import open_run
from liquid_control.commands.run_state import check_changes, derived_state, read_state
from liquid_control.commands.terminal import Overrides, Quiet, RunFolder
from liquid_control.commands.training import go_on
from liquid_control.commands.trust import UNTRUSTED, TrustFlags
from liquid_control.recipes import CommandError, build_env, load_recipe


@dataclass(frozen=True)
class Resume:
    """Resume an interrupted training from its last checkpoint; the result is the same.

    What came after the checkpoint is repeated, and logged once. `--set agent.total_timesteps=2e6`
    extends a training, also a finished one. Rates that change linearly then follow the new total:
    halfway through it, they are halfway between start and end, wherever they were before.
    """

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

    trust: TrustFlags = UNTRUSTED

    overrides: Overrides = ()
    """Change keys that do not change what was trained so far: a larger agent.total_timesteps,
    agent.device, evaluation.*, monitoring.*, checkpoint_every, env.threads and threads. Another
    device or number of PyTorch's threads rounds differently from now on."""

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Carry the command out; return the exit code."""
        run, recipe = open_run(self.folder, tuple(chain(*self.overrides)), self.trust)
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
            env = build_env(recipe)
            try:
                return go_on(recipe, env, run, quiet=self.quiet, init=state.init)
            except FileNotFoundError as error:
                raise CommandError(
                    f"{error}; start with its weights instead: train {run.config} --init "
                    f"{run.folder}"
                ) from error
