"""`liquid-control export`."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.arguments import Export, Trust
from liquid_control.commands.run_folder import Run
from liquid_control.commands.run_loader import open_run, rates, restore, unseen_robots
from liquid_control.commands.terminal import note, say
from liquid_control.export import ExportError, describe_policy, export_policy
from liquid_control.export.agreement import Agreement
from liquid_control.export.certificate import (
    Certificate,
    Condition,
    certify,
    figure,
    measure_returns,
    page,
)
from liquid_control.export.folder import FILES
from liquid_control.recipes import CommandError, Recipe, build_env

DELAYS = (0.0, 0.5, 1.0)  # in nominal intervals
DROPOUTS = (0.0, 0.1, 0.3)
FORMATS = {"onnx": ("onnx",), "c": ("c",), "all": tuple(FILES)}


def execute(arguments: Export) -> int:
    """Execute the command; return the exit code."""
    run, recipe, agent, nominal = load(arguments.folder, arguments.trust)
    folder = arguments.output or Path(f"{recipe.name}-{recipe.seed}-export")
    low, high = recipe.env.rule.bounds(nominal)
    if folder.exists():  # before the certificate, which takes minutes
        raise CommandError(f"{folder} exists; choose another folder")
    certificate, pages = None, {}
    try:
        describe_policy(agent.policy)  # refuses what cannot be exported
        if arguments.episodes > 0:
            certificate = measure(recipe, agent, nominal, arguments)
            pages = {
                "certificate.md": page(certificate, recipe.task, nominal).encode(),
                "certificate.png": figure(certificate, recipe.task),
            }
        agreements = export_policy(
            agent.policy,
            folder,
            FORMATS[arguments.format],
            pages,
            certificate=None if certificate is None else certificate.to_dict(),
            task=recipe.task,
            trained_interval=(float(low), float(high)),
            recipe_sha256=sha256(run.config.read_bytes()).hexdigest(),
        )
    except (ExportError, FileExistsError) as error:
        raise CommandError(str(error)) from error
    except ImportError as error:
        raise CommandError(
            f"{error.name} is missing; pip install 'liquid-control[export]', or give --format c"
        ) from error
    report(agreements, FORMATS[arguments.format])
    say(f"Exported: {folder}")
    return 0


def measure(
    recipe: Recipe, agent: LiquidPPO | LiquidSAC, nominal: float, arguments: Export
) -> Certificate:
    """Measure the certificate, with a bar of its progress."""
    intervals = {float(each) for each in rates(recipe, nominal).values() if each != "trained"}
    intervals.add(nominal)
    delays = [share * nominal for share in DELAYS]
    with Progress(disable=arguments.quiet) as bars:
        conditions = len(intervals) * len(delays) * len(DROPOUTS)
        bar = bars.add_task("certificate", total=conditions)

        def returns(condition: Condition) -> NDArray[np.float64]:
            env = unseen_robots(recipe, arguments.episodes, condition.interval)
            try:
                return measure_returns(agent.policy, env, condition)
            finally:
                env.close()
                bars.advance(bar)

        return certify(returns, sorted(intervals), delays, DROPOUTS, nominal)


def load(folder: Path, trust: Trust) -> tuple[Run, Recipe, LiquidPPO | LiquidSAC, float]:
    """Return a run, its recipe and agent, on the CPU, and its nominal interval."""
    run, recipe = open_run(folder, trust=trust)
    env = build_env(recipe)
    try:
        agent = restore(recipe, run, env)
        nominal = nominal_interval(env)
    finally:
        env.close()
    agent.policy.to("cpu")
    return run, recipe, agent, nominal


def report(agreements: Mapping[str, Agreement], formats: tuple[str, ...]) -> None:
    """Say how well files agree with the policy, and which could not be compared."""
    for name, found in agreements.items():
        say(
            f"{name}: differs from the policy by at most {found.error:.2g} of the actions' range "
            f"in {found.steps:,} steps"
        )
    for name in formats:
        if name not in agreements:
            note(f"policy in {name} was not compared with the policy: no C compiler is installed")
