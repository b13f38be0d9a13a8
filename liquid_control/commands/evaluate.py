"""`liquid-control evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.evaluation import TRAINED, Evaluation, evaluate_rates
from liquid_control.agents.nominal_interval import nominal_interval
from liquid_control.checkpoints.durable import replacing
from liquid_control.commands.display import results
from liquid_control.commands.run_folder import new_evaluation, plot_of, write_json
from liquid_control.commands.run_loader import open_run, rates, restore, unseen_robots
from liquid_control.commands.terminal import Quiet, RunFolder, console, otherwise, say
from liquid_control.commands.trust import UNTRUSTED, TrustFlags
from liquid_control.monitoring import figures
from liquid_control.recipes import Recipe, build_env


@dataclass(frozen=True)
class Evaluate:
    """Measure the return of a trained agent at several control rates, as a table and a plot.

    The results are kept in the run's folder `evaluations`; those of the end of the training stay
    in `evaluation.json`. A run that is being trained is evaluated at its last checkpoint.
    """

    folder: RunFolder
    """The folder of a run, such as runs/inverted_pendulum-ncp_ppo/20260131-120000-0."""

    episodes: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Episodes at each rate."""

    ratios: Annotated[tuple[float, ...] | None, otherwise("RATIO ...", "the recipe's")] = None
    """Fixed intervals to try, as multiples of the nominal one."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of the episodes; for any seed, they differ from those of the training."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Run the command; return the exit code."""
        given = {
            "evaluation.episodes": self.episodes,
            "evaluation.ratios": None if self.ratios is None else list(self.ratios),
            "seed": self.seed,
        }
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        run, recipe = open_run(self.folder, overrides, self.trust)
        env = build_env(recipe)
        agent = restore(recipe, run, env)
        path = new_evaluation(run, datetime.now())
        examine(recipe, agent, path, nominal_interval(env), quiet=self.quiet)
        env.close()
        return 0


def examine(
    recipe: Recipe, agent: LiquidPPO | LiquidSAC, path: Path, nominal: float, *, quiet: bool
) -> dict[str, Evaluation]:
    """Evaluate at the intervals of the training and at fixed ones; print and save the results."""
    evaluations = evaluate_rates(
        agent,
        lambda interval: unseen_robots(recipe, recipe.evaluation.episodes, interval),
        rates(recipe, nominal),
        progress=not quiet,
    )
    console.print(results(evaluations))
    fixed = dict(evaluations)
    trained = fixed.pop(TRAINED)
    data = {
        "task": recipe.task,
        "steps": agent.num_timesteps,
        "seed": recipe.seed,
        **recipe.evaluation.model_dump(mode="json"),
        "intervals": [each.to_dict() for each in fixed.values()],
        "trained": trained.to_dict(),
    }
    write_json(path, data)
    with replacing(plot_of(path)) as plot:
        figures.rates(fixed, recipe.task, trained).savefig(plot, dpi=150)
    say(f"Results: {path}\nPlot: {plot_of(path)}")
    return evaluations
