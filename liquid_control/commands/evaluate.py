"""`liquid-control evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.evaluation import TRAINED, Evaluation, evaluate_rates
from liquid_control.checkpoints.durable import replacing
from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.arguments import Evaluate
from liquid_control.commands.display import results
from liquid_control.commands.run_folder import (
    Run,
    check_writable,
    naming,
    new_evaluation,
    plot_of,
    write_json,
)
from liquid_control.commands.run_loader import load_agent, open_run, rates, unseen_robots
from liquid_control.commands.stress import put_under_stress
from liquid_control.commands.terminal import console, say
from liquid_control.monitoring import figures
from liquid_control.recipes import CommandError, Recipe, build_env
from liquid_control.recipes.stress import load_stress


def execute(arguments: Evaluate) -> int:
    """Execute the command; return the exit code."""
    given = {
        "evaluation.episodes": arguments.episodes,
        "evaluation.ratios": None if arguments.ratios is None else list(arguments.ratios),
        "seed": arguments.seed,
    }
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
    run, recipe = open_run(arguments.folder, overrides, arguments.trust)
    check_writable(run)
    stress = None if arguments.stress is None else load_stress(arguments.stress)
    if stress is not None and arguments.ratios is not None:
        raise CommandError("--ratios and --stress are two evaluations; give one of them at a time")
    env = build_env(recipe)
    agent = load_agent(recipe, run, env)
    if stress is not None:
        env.close()
        if arguments.episodes is not None:
            stress = stress.model_copy(update={"episodes": arguments.episodes})
        put_under_stress(recipe, agent, stress, run, quiet=arguments.quiet)
        return 0
    evaluations = examine(recipe, agent, nominal_interval(env), quiet=arguments.quiet)
    add_evaluation(run, recipe, agent, evaluations)
    env.close()
    return 0


def examine(
    recipe: Recipe, agent: LiquidPPO | LiquidSAC, nominal: float, *, quiet: bool
) -> dict[str, Evaluation]:
    """Evaluate at the intervals of the training and at fixed ones; print the results."""
    evaluations = evaluate_rates(
        agent,
        lambda interval: unseen_robots(recipe, recipe.evaluation.episodes, interval),
        rates(recipe, nominal),
        progress=not quiet,
    )
    console.print(results(evaluations))
    return evaluations


def add_evaluation(
    run: Run, recipe: Recipe, agent: LiquidPPO | LiquidSAC, evaluations: Mapping[str, Evaluation]
) -> None:
    """Save the results of an evaluation under a name of their own."""
    with naming(run.evaluations):
        save_evaluation(new_evaluation(run, datetime.now()), recipe, agent, evaluations)


def save_evaluation(
    path: Path,
    recipe: Recipe,
    agent: LiquidPPO | LiquidSAC,
    evaluations: Mapping[str, Evaluation],
) -> None:
    """Save the results of an evaluation, and their plot."""
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
