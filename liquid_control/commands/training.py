"""Runs a training in its run folder, with logs, checkpoints, and a final evaluation."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from shlex import quote

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.update_checks import Diverged
from liquid_control.checkpoints.checkpoint_callback import ResumeCallback
from liquid_control.checkpoints.durable import write_text
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.checkpoints.logs import cut as cut_logs
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.checkpoints.signals import stop_on_signals
from liquid_control.collectors.finite_checks import NotFinite
from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.display import command, plan, summary, training_progress
from liquid_control.commands.evaluate import examine, save_evaluation
from liquid_control.commands.run_folder import Run, set_aside_evaluation
from liquid_control.commands.run_loader import UNSEEN, rates, unseen_robot, unseen_robots
from liquid_control.commands.run_state import RunState, Status, write_state
from liquid_control.commands.terminal import INTERRUPTED, say
from liquid_control.commands.trust import trust_flag
from liquid_control.monitoring import (
    EpisodeCallback,
    HParamsCallback,
    RatesCallback,
    ScalarsCallback,
    evaluation_tag,
    leaves,
    log_evaluations,
)
from liquid_control.recipes import AGENTS, CommandError, Recipe, load_recipe

NEVER = 2**62


def begin(
    recipe: Recipe,
    agent: LiquidPPO | LiquidSAC,
    env: VecEnv,
    run: Run,
    *,
    quiet: bool,
    init: str | None = None,
) -> int:
    """Write the recipe into a run's folder, and train from the start; return the exit code.

    Logs and the model of a training that ended before its first checkpoint are removed.

    Raises:
        RecipeError: The evaluation at the end is impossible.
        CommandError: The training came to a number that is not finite.
    """
    check_rates(recipe, env)
    write_text(run.config, recipe.to_yaml())
    run.checkpoints.mkdir(exist_ok=True)
    run.model.unlink(missing_ok=True)
    set_aside_evaluation(run)
    cut_logs(run.folder, {})
    say(plan(recipe, agent, env, run), markup=True)
    agent.set_logger(logger_of(run, quiet=quiet))
    return carry_out(recipe, agent, env, run, quiet=quiet, init=init)


def go_on(recipe: Recipe, env: VecEnv, run: Run, *, quiet: bool, init: str | None) -> int:
    """Resume training from the last checkpoint of a run; return the exit code.

    Raises:
        FileNotFoundError: There is no checkpoint.
        CheckpointError: None is intact, or it has another agent or other environments.
        RecipeError: The evaluation at the end is impossible.
    """
    check_rates(recipe, env)
    agent = AGENTS[recipe.agent.algorithm].resume(
        run.checkpoints, env, recipe.agent.device, logger=logger_of(run, quiet=quiet)
    )
    if recipe != load_recipe(run.config):
        write_text(run.config, recipe.to_yaml())
    set_aside_evaluation(run)
    say(plan(recipe, agent, env, run), markup=True)
    say(f"Resumed at {agent.num_timesteps:,} steps")
    return carry_out(recipe, agent, env, run, quiet=quiet, init=init)


def check_rates(recipe: Recipe, env: VecEnv) -> None:
    """Raise a RecipeError if the evaluation at the end of a training is impossible."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluation gives them
        rates(recipe, nominal_interval(env))


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
    again = f"{quote(str(run.folder))}{trust_flag(recipe)}"
    mark("training")
    finished = False
    try:
        finished = learn(recipe, agent, run, nominal, quiet=quiet)
    except Exception as error:
        say(f"Training failed; resume it from the last checkpoint: {tool} resume {again}")
        if isinstance(error, NotFinite | Diverged):  # not a fault of the program
            notes = getattr(error, "__notes__", [])
            raise CommandError(". ".join([str(error), *notes])) from error
        raise
    finally:
        agent.save(run.model)
        if not finished:
            mark("interrupted")
    if not finished:
        say(f"Interrupted; resume it: {tool} resume {again}")
        return INTERRUPTED
    say(f"Training finished; the model is saved: {run.model}")
    try:
        # Saved first, since a signal may end the evaluation; and to extend the training.
        manager = CheckpointManager(run.checkpoints)
        manager.save(agent.num_timesteps, agent.state_dict(training=True))
        evaluations = examine(recipe, agent, nominal, quiet=quiet)
        save_evaluation(run.evaluation, recipe, agent, evaluations)
        log_evaluations(agent.logger, evaluations, recipe.task, agent.num_timesteps)
    except BaseException:
        mark("interrupted")
        raise
    mark("finished")
    env.close()
    say(f"Evaluate again: {tool} evaluate {again}\nInspect its neurons: {tool} inspect {again}")
    if quiet:
        print(summary(run, agent.num_timesteps, evaluations))
    return 0


def logger_of(run: Run, *, quiet: bool) -> ResumableLogger:
    """Return the logger of a run; it continues existing logs."""
    lines = () if quiet else ("line",)
    return ResumableLogger(run.folder, (*lines, "csv", "tensorboard"))


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
    if monitoring.every is None:
        return callbacks
    brief = monitoring.every == "fifth"
    every = (
        recipe.agent.total_timesteps // 5 if isinstance(monitoring.every, str) else monitoring.every
    )
    callbacks.append(
        EpisodeCallback(
            unseen_robot(recipe),
            max(every, 1),
            folder=run.videos,
            film_seconds=monitoring.film_seconds,
            seed=UNSEEN + recipe.seed,
            brief=brief,
        )
    )
    if not brief:
        callbacks.append(
            RatesCallback(
                lambda interval: unseen_robots(recipe, monitoring.episodes, interval),
                examined,
                every,
                task=recipe.task,
                at_end=False,  # `examine` follows, with more episodes
            )
        )
    return callbacks
