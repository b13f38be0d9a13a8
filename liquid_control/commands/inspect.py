"""`liquid-control inspect`."""

from __future__ import annotations

import math

from rich.progress import Progress

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.evaluation import TRAINED
from liquid_control.checkpoints.durable import write_text
from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.arguments import Inspect
from liquid_control.commands.evaluate import add_evaluation, examine
from liquid_control.commands.run_folder import Run, check_writable
from liquid_control.commands.run_loader import (
    UNSEEN,
    load_agent,
    open_run,
    unseen_robot,
    unseen_robots,
)
from liquid_control.commands.terminal import say
from liquid_control.monitoring import circuit_of, figures, film, leaves, record, report_on
from liquid_control.monitoring.analysis import Lesions, lesions, listening
from liquid_control.monitoring.film import GIF_RATE
from liquid_control.monitoring.tensorboard import TensorBoardWriter
from liquid_control.recipes import CommandError, Recipe, build_env
from liquid_control.sweeps.run_files import Array, FileError, read_log


def execute(arguments: Inspect) -> int:
    """Execute the command; return the exit code."""
    if arguments.lesion_episodes < 0:
        raise CommandError(f"--lesion-episodes must be 0 or more, got {arguments.lesion_episodes}")
    if not arguments.lesion_seconds > 0:
        raise CommandError(f"--lesion-seconds must be positive, got {arguments.lesion_seconds:g}")
    if math.isinf(arguments.lesion_seconds):
        raise CommandError("--lesion-seconds must be finite")
    given = {"evaluation.episodes": arguments.episodes, "seed": arguments.seed}
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
    run, recipe = open_run(arguments.folder, overrides, arguments.trust)
    check_writable(run)
    env = build_env(recipe)
    agent = load_agent(recipe, run, env)
    nominal = nominal_interval(env)
    env.close()

    robot = unseen_robot(recipe)
    recording = record(agent, robot)
    robot.close()
    pictures = film.frames(
        recording, fps=GIF_RATE, seconds=recipe.monitoring.film_seconds, title=recipe.task
    )
    gif = film.to_gif(pictures, GIF_RATE)
    lesion_results = lesions_of(arguments, recipe, agent, nominal)
    evaluations = examine(recipe, agent, nominal, quiet=arguments.quiet)
    add_evaluation(run, recipe, agent, evaluations)
    trained = evaluations.pop(TRAINED)
    page = report_on(
        recipe.task,
        circuit_of(agent),
        recording,
        film=gif,
        lesions=lesion_results,
        evaluations=evaluations,
        trained=trained,
        learning=learning_of(run),
        facts={
            "Run": run.folder.name,
            "Recipe": recipe.name,
            "Seed": str(recipe.seed),
            "Trained for": f"{agent.num_timesteps:,} steps",
        },
        settings=leaves(recipe.model_dump(mode="json")),
    )
    write_text(run.report, page)
    if lesion_results is not None:
        writer = TensorBoardWriter.in_folder(run.inspection)
        correlations = listening(recording)
        figure = figures.listening_map(correlations, recording.wiring, lesion_results.scores)
        writer.figure("circuit/lesions", figure, agent.num_timesteps)
        writer.flush()
    say(f"Report: {run.report}")
    return 0


def learning_of(run: Run) -> tuple[Array, Array] | None:
    """Return control steps and returns of a run's log; None if there is no readable log."""
    try:
        log = read_log(run.folder / "progress.csv")
    except (FileError, OSError):
        return None
    return log.steps, log.returns


def lesions_of(
    arguments: Inspect, recipe: Recipe, agent: LiquidPPO | LiquidSAC, nominal: float
) -> Lesions | None:
    """Measure the contribution of each neuron; None if disabled."""
    if not arguments.lesion_episodes:
        return None
    steps = max(round(arguments.lesion_seconds / nominal), 1)
    env = unseen_robots(shortened(recipe, steps), arguments.lesion_episodes)
    with Progress(disable=arguments.quiet) as bars:
        neurons = circuit_of(agent).wiring.neuron_count
        bar = bars.add_task("holding each neuron at rest", total=neurons)
        result = lesions(
            agent,
            env,
            seed=UNSEEN + recipe.seed,
            on_neuron=lambda done: bars.update(bar, completed=done),
        )
    env.close()
    return result


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe whose episodes end after `steps` nominal intervals."""
    arguments = {**recipe.env.kwargs, "max_episode_steps": steps}
    env = recipe.env.model_copy(update={"kwargs": arguments})
    return recipe.model_copy(update={"env": env})
