"""`liquid-control resume`."""

from __future__ import annotations

from dataclasses import dataclass

from liquid_control.commands.display import plan
from liquid_control.commands.run_folder import in_use
from liquid_control.commands.run_loader import open_run
from liquid_control.commands.terminal import Quiet, RunFolder, say
from liquid_control.commands.train import carry_out, logger_of
from liquid_control.commands.trust import UNTRUSTED, TrustFlags
from liquid_control.recipes import AGENTS, CommandError, build_env


@dataclass(frozen=True)
class Resume:
    """Resume an interrupted training from its last checkpoint; the result is the same.

    What came after the checkpoint is repeated, and logged once.
    """

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Carry the command out; return the exit code."""
        run, recipe = open_run(self.folder, trust=self.trust)
        with in_use(run):
            if run.evaluation.exists():
                raise CommandError(f"{run.folder}: this training is finished")
            env = build_env(recipe)
            try:
                agent = AGENTS[recipe.agent.algorithm].resume(
                    run.checkpoints,
                    env,
                    recipe.agent.device,
                    logger=logger_of(run, quiet=self.quiet),
                )
            except FileNotFoundError as error:
                raise CommandError(str(error)) from error
            say(plan(recipe, agent, env, run))
            say(f"Resumed at {agent.num_timesteps:,} steps")
            return carry_out(recipe, agent, env, run, quiet=self.quiet)
