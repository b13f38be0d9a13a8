"""`liquid-control export`."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.nominal_interval import nominal_interval
from liquid_control.commands.arguments import Export, Trust
from liquid_control.commands.run_folder import Run
from liquid_control.commands.run_loader import open_run, restore
from liquid_control.commands.terminal import note, say
from liquid_control.export import ExportError, export_policy
from liquid_control.export.agreement import Agreement
from liquid_control.export.folder import FILES
from liquid_control.recipes import CommandError, Recipe, build_env

FORMATS = {"onnx": ("onnx",), "c": ("c",), "all": tuple(FILES)}


def execute(arguments: Export) -> int:
    """Execute the command; return the exit code."""
    run, recipe, agent, nominal = load(arguments.folder, arguments.trust)
    folder = arguments.output or Path(f"{recipe.name}-{recipe.seed}-export")
    low, high = recipe.env.rule.bounds(nominal)
    try:
        agreements = export_policy(
            agent.policy,
            folder,
            FORMATS[arguments.format],
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
