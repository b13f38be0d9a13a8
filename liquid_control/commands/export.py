"""`liquid-control export`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.arguments import Export, Trust
from liquid_control.commands.run_folder import Run, check_new
from liquid_control.commands.run_loader import (
    load_agent,
    open_run,
    rates,
    unseen_robot,
    unseen_robots,
)
from liquid_control.commands.terminal import note, say
from liquid_control.deploy import CompilerError, CPolicy
from liquid_control.envs.conditions import conditions_from
from liquid_control.envs.sensors import Dropout
from liquid_control.envs.units import action_units, joint_names, observation_units
from liquid_control.export import ExportError, describe_policy, export_policy
from liquid_control.export.agreement import (
    PRECISIONS,
    TOLERANCE,
    Agreement,
    act,
    errors_of,
    record,
    run,
)
from liquid_control.export.certificate import (
    Acting,
    Certificate,
    Condition,
    certify,
    figure,
    measure_returns,
    page,
    sensors_of,
)
from liquid_control.export.facts import Signals
from liquid_control.export.folder import FILES
from liquid_control.export.in_c import InC, compiled
from liquid_control.export.quantization import quantized
from liquid_control.recipes import CommandError, Recipe, build_env

LARGE_ROUNDING = 0.25  # of the actions' range
DELAYS = (0.0, 0.5, 1.0)  # in nominal intervals
DROPOUTS = (0.0, 0.1, 0.3)
LONGEST = 50  # nominal intervals; policies refuse a hundred
FORMATS = {"onnx": ("onnx",), "c": ("c",), "all": tuple(FILES)}


def execute(arguments: Export) -> int:
    """Execute the command; return the exit code."""
    if arguments.episodes < 0:
        raise CommandError(f"--episodes must be at least 0, got {arguments.episodes}")
    trained_run, recipe, agent, nominal = load(arguments.folder, arguments.trust)
    folder = arguments.output or Path(f"{recipe.name}-{recipe.seed}-export")
    check_new(folder)  # before the certificate, which takes minutes
    certificate, rounding, pages = None, None, {}
    facts = facts_of(trained_run, recipe, nominal)
    try:
        description = describe_policy(agent.policy)  # rejects policies that cannot be exported
        with TemporaryDirectory() as temporary:
            acting: Acting = agent.policy
            if arguments.quantize is not None:
                rounded = quantized(description, arguments.quantize)
                trained = facts["trained_interval"]
                in_c = compiled(rounded, Path(temporary), trained_interval=trained)
                acting, rounding = InC(in_c), cost_of_rounding(agent, in_c)
            if arguments.episodes > 0:
                certificate = measure(recipe, acting, nominal, arguments)
            if certificate is not None and rounding is not None:
                condition = Condition(nominal, 0.0, 0.0)
                exact = measure_in(recipe, agent.policy, nominal, arguments, condition)
                rounding |= {"return": certificate.nominal, "float_return": float(exact.mean())}
        if certificate is not None:
            text = page(certificate, recipe.task, nominal, rounding, arguments.quantize or "")
            pages = {
                "certificate.md": text.encode(),
                "certificate.png": figure(certificate, recipe.task),
            }
        agreements = export_policy(
            agent.policy,
            folder,
            FORMATS[arguments.format],
            pages,
            arguments.quantize or "float32",
            rounding=rounding,
            certificate=None if certificate is None else certificate.to_dict(),
            **facts,
        )
    except (ExportError, FileExistsError) as error:
        raise CommandError(str(error)) from error
    except CompilerError as error:
        raise CommandError(
            f"{error}; the C code is compiled here to be compared with the policy. Repair the "
            "compiler, set TMPDIR to a folder whose programs may run, or give --format onnx"
        ) from error
    except FileNotFoundError as error:
        raise CommandError(f"--quantize measures what rounding costs in C: {error}") from error
    except ImportError as error:
        raise CommandError(
            f"{error.name} is missing; pip install 'liquid-control[export]', or give --format c"
        ) from error
    report(agreements, FORMATS[arguments.format])
    say(f"Exported: {folder}")
    return 0


def cost_of_rounding(agent: LiquidPPO | LiquidSAC, rounded: CPolicy) -> dict[str, float]:
    """Return the change of actions by rounded weights, relative to their range."""
    moments = record(agent.policy, rounded.metadata)
    exact = np.stack([*act(agent.policy, moments)])
    errors = errors_of(agent.policy.action_space, exact, run(rounded, moments))
    return {"error": float(errors.max()), "mean_error": float(errors.mean())}


def measure(recipe: Recipe, acting: Acting, nominal: float, arguments: Export) -> Certificate:
    """Measure the certificate, with a progress bar."""
    intervals = {float(each) for each in rates(recipe, nominal).values() if each != "trained"}
    intervals.add(nominal)
    delays = [share * nominal for share in DELAYS]
    with Progress(disable=arguments.quiet) as bars:
        conditions = len(intervals) * len(delays) * len(DROPOUTS)
        bar = bars.add_task("certificate", total=conditions)

        def returns(condition: Condition) -> NDArray[np.float64]:
            try:
                return measure_in(recipe, acting, nominal, arguments, condition)
            finally:
                bars.advance(bar)

        return certify(returns, sorted(intervals), delays, DROPOUTS, nominal)


def measure_in(
    recipe: Recipe, acting: Acting, nominal: float, arguments: Export, condition: Condition
) -> NDArray[np.float64]:
    """Return the returns of episodes in a condition, (episodes,)."""
    sensors = (*recipe.env.sensors, *sensors_of(condition))
    env = recipe.env.model_copy(update={"sensors": sensors})
    robots = unseen_robots(
        recipe.model_copy(update={"env": env}), arguments.episodes, condition.interval
    )
    try:
        return measure_returns(acting, robots, trained_interval(recipe, nominal))
    finally:
        robots.close()


def trained_interval(recipe: Recipe, nominal: float) -> tuple[float, float]:
    """Return the shortest and the longest interval of the training, in seconds.

    Where frames are dropped or observations lost there is no longest one, and `LONGEST` nominal
    intervals stand for it.
    """
    low, high = recipe.env.rule.bounds(nominal)
    sensors = conditions_from(recipe.env.sensors).sensors
    if any(isinstance(each, Dropout) and each.probability > 0 for each in sensors):
        high = math.inf
    return float(low), float(min(high, LONGEST * nominal))


def facts_of(run: Run, recipe: Recipe, nominal: float) -> dict[str, Any]:
    """Return the facts of a run that `export_policy` takes."""
    return {
        "task": recipe.task,
        "trained_interval": trained_interval(recipe, nominal),
        "recipe_sha256": sha256(run.config.read_bytes()).hexdigest(),
        "signals": signals_of(recipe),
    }


def signals_of(recipe: Recipe) -> Signals:
    """Return names and units of a recipe's observations and actions."""
    robot = unseen_robot(recipe)
    try:
        names = tuple(robot.get_wrapper_attr("observation_names"))
        return Signals(
            names,
            observation_units(robot, names),
            tuple(robot.get_wrapper_attr("action_names")),
            action_units(robot),
            joint_names(robot),
        )
    finally:
        robot.close()


def load(folder: Path, trust: Trust) -> tuple[Run, Recipe, LiquidPPO | LiquidSAC, float]:
    """Return a run, its recipe and agent, on the CPU, and its nominal interval."""
    run, recipe = open_run(folder, trust=trust)
    env = build_env(recipe)
    try:
        agent = load_agent(recipe, run, env)
        nominal = nominal_interval(env)
    finally:
        env.close()
    agent.policy.to("cpu")
    return run, recipe, agent, nominal


def report(agreements: Mapping[str, Agreement], formats: tuple[str, ...]) -> None:
    """Print the agreement of files with the policy, and the formats that were not compared."""
    for name, found in agreements.items():
        say(
            f"{name}: differs from the policy by at most {found.error:.2g} of the actions' range "
            f"in {found.steps:,} steps"
            + (f"; rounded weights move it by {found.rounding:.2g}" if found.rounding else "")
        )
        if found.rounding > LARGE_ROUNDING:
            note(
                f"rounded weights move the actions of policy in {name} by up to "
                f"{100 * found.rounding:.0f} % of their range; measure what it returns, with "
                "--episodes, or keep more bits"
            )
        if found.holds and found.error > TOLERANCE:
            note(
                f"policy in {name} may differ by {found.tolerance:.2g} instead of {TOLERANCE:g}, "
                f"at most {PRECISIONS:g} times what single precision changes in its actions"
            )
    for name in formats:
        if name not in agreements:
            note(f"policy in {name} was not compared with the policy: no C compiler is installed")
