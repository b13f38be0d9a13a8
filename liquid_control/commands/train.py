"""`liquid-control train`."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import chain

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.nominal_interval import nominal_interval
from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.checkpoint_callback import ResumeCallback
from liquid_control.checkpoints.durable import write_text
from liquid_control.checkpoints.fields import check_like
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.checkpoints.signals import stop_on_signals
from liquid_control.commands.arguments import Train
from liquid_control.commands.display import command, plan, training_progress
from liquid_control.commands.evaluate import examine
from liquid_control.commands.run_folder import Run, existing_run, in_use, new_run, newest_model
from liquid_control.commands.run_loader import UNSEEN, rates, unseen_robot, unseen_robots
from liquid_control.commands.run_state import RunState, Status, write_state
from liquid_control.commands.terminal import INTERRUPTED, say
from liquid_control.commands.trust import search_working_directory, trust_flag
from liquid_control.monitoring import (
    EpisodeCallback,
    HParamsCallback,
    RatesCallback,
    ScalarsCallback,
    evaluation_tag,
    leaves,
    log_evaluations,
)
from liquid_control.neurons import Circuit
from liquid_control.recipes import CommandError, Recipe, build_agent, build_env, load_recipe
from liquid_control.recipes.arguments import module_of
from liquid_control.recipes.text import cut

NEVER = 2**62


def execute(arguments: Train) -> int:
    """Execute the command; return the exit code."""
    seed = () if arguments.seed is None else (f"seed={arguments.seed}",)
    recipe = load_recipe(arguments.recipe, (*chain(*arguments.overrides), *seed))
    if module_of({"task": recipe.task}):
        search_working_directory()
    torch.set_num_threads(recipe.threads)
    env = build_env(recipe)
    agent = build_agent(recipe, env)
    recipe = recipe.with_policy(agent.policy.options)
    init = None if arguments.init is None else load_weights(agent, existing_run(arguments.init))
    try:
        run = new_run(arguments.runs, recipe.name, recipe.seed)
        write_text(run.config, recipe.to_yaml())
    except OSError as error:
        raise CommandError(f"--runs {cut(str(arguments.runs))}: {error.strerror}") from error
    say(plan(recipe, agent, env, run), markup=True)

    with in_use(run):
        agent.set_logger(logger_of(run, quiet=arguments.quiet))
        return carry_out(recipe, agent, env, run, quiet=arguments.quiet, init=init)


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


def carry_out(
    recipe: Recipe,
    agent: LiquidPPO | LiquidSAC,
    env: VecEnv,
    run: Run,
    *,
    quiet: bool,
    init: str | None,
) -> int:
    """Train to the end of the recipe, then evaluate; return the exit code."""

    def mark(status: Status) -> None:
        data = recipe.model_dump(mode="json")
        state = RunState(status=status, steps=agent.num_timesteps, recipe=data, init=init)
        write_state(run, state)

    nominal, tool = nominal_interval(env), command("liquid-control")
    again = f"{run.folder}{trust_flag(recipe)}"
    mark("training")
    finished = False
    try:
        finished = learn(recipe, agent, run, nominal, quiet=quiet)
    except Exception:
        say(f"Training failed; resume it from the last checkpoint: {tool} resume {again}")
        raise
    finally:
        agent.save(run.model)
        if not finished:
            mark("interrupted")
    if not finished:
        say(f"Interrupted; resume it: {tool} resume {again}")
        return INTERRUPTED
    say(f"Training finished; the model is saved: {run.model}")
    evaluations = examine(recipe, agent, run.evaluation, nominal, quiet=quiet)
    log_evaluations(agent.logger, evaluations, recipe.task, agent.num_timesteps)
    manager = CheckpointManager(run.checkpoints)
    manager.save(agent.num_timesteps, agent.state_dict(training=True))  # to extend the training
    mark("finished")
    env.close()
    say(f"Evaluate again: {tool} evaluate {again}\nInspect its neurons: {tool} inspect {again}")
    return 0


def logger_of(run: Run, *, quiet: bool) -> ResumableLogger:
    """Return the logger of a run; it continues existing logs."""
    formats = ["csv", "tensorboard"] if quiet else ["stdout", "csv", "tensorboard"]
    return ResumableLogger(run.folder, formats)


def learn(
    recipe: Recipe, agent: LiquidPPO | LiquidSAC, run: Run, nominal: float, *, quiet: bool
) -> bool:
    """Train to the end of the recipe, with checkpoints; return False if a signal stopped it."""
    total = recipe.agent.total_timesteps
    every = recipe.checkpoint_every
    resumed = agent._last_obs is not None
    with stop_on_signals() as stop:
        resumable = ResumeCallback(CheckpointManager(run.checkpoints), every or NEVER, stop)
        callbacks = [*watchers(recipe, run, nominal, resumed=resumed), resumable]
        with nullcontext() if quiet else training_progress(total) as progress:
            agent.learn(
                total - agent.num_timesteps,
                [*callbacks, *([progress] if progress else [])],
                reset_num_timesteps=not resumed,
            )
    return not resumable.stopped


def watchers(
    recipe: Recipe, run: Run, nominal: float, *, resumed: bool = False
) -> list[BaseCallback]:
    """Return the callbacks that log a training to TensorBoard; settings are logged once."""
    monitoring, examined = recipe.monitoring, rates(recipe, nominal)
    metrics = ["rollout/ep_rew_mean", *map(evaluation_tag, examined)]
    callbacks: list[BaseCallback] = [ScalarsCallback()]
    if not resumed:
        callbacks.append(HParamsCallback(leaves(recipe.model_dump(mode="json")), metrics))
    if monitoring.every is not None:
        callbacks += [
            EpisodeCallback(
                unseen_robot(recipe),
                monitoring.every,
                folder=run.videos,
                film_seconds=monitoring.film_seconds,
                seed=UNSEEN + recipe.seed,
            ),
            RatesCallback(
                lambda interval: unseen_robots(recipe, monitoring.episodes, interval),
                examined,
                monitoring.every,
                task=recipe.task,
                at_end=False,  # `examine` follows, with more episodes
            ),
        ]
    return callbacks
