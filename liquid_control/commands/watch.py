"""`liquid-control watch`."""

from __future__ import annotations

from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.arguments import Watch
from liquid_control.commands.run_loader import Rate, load_agent, open_run, unseen_robot
from liquid_control.monitoring.film import viewer
from liquid_control.recipes import CommandError, build_env


def execute(arguments: Watch) -> int:
    """Execute the command; return the exit code."""
    seed = () if arguments.seed is None else (f"seed={arguments.seed}",)
    run, recipe = open_run(arguments.folder, seed, arguments.trust)
    env = build_env(recipe)
    agent = load_agent(recipe, run, env)
    interval: Rate = (
        "trained" if arguments.ratio is None else arguments.ratio * nominal_interval(env)
    )
    env.close()
    try:
        viewer.watch(agent, unseen_robot(recipe, interval))
    except RuntimeError as error:
        raise CommandError(str(error)) from error
    return 0
