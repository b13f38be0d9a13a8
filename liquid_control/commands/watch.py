"""`liquid-control watch`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from liquid_control.agents.nominal_interval import nominal_interval
from liquid_control.commands.run_loader import Rate, open_run, restore, unseen_robot
from liquid_control.commands.terminal import Quiet, RunFolder, otherwise
from liquid_control.commands.trust import UNTRUSTED, TrustFlags
from liquid_control.monitoring.film import viewer
from liquid_control.recipes import CommandError, build_env


@dataclass(frozen=True)
class Watch:
    """Show a trained robot live in MuJoCo's viewer, until its window is closed."""

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

    ratio: Annotated[float | None, otherwise("RATIO", "the intervals of the training")] = None
    """A fixed control interval, as a multiple of the nominal one."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of the first episode; for any seed, it differs from those of the training."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Run the command; return the exit code."""
        seed = () if self.seed is None else (f"seed={self.seed}",)
        run, recipe = open_run(self.folder, seed, self.trust)
        env = build_env(recipe)
        agent = restore(recipe, run, env)
        interval: Rate = "trained" if self.ratio is None else self.ratio * nominal_interval(env)
        env.close()
        try:
            viewer.watch(agent, unseen_robot(recipe, interval))
        except RuntimeError as error:
            raise CommandError(str(error)) from error
        return 0
