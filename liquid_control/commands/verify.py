"""`liquid-control verify`."""

from __future__ import annotations

from liquid_control.commands.arguments import Verify
from liquid_control.commands.export import load, report
from liquid_control.commands.terminal import FAILED, problems
from liquid_control.export.folder import ONNX, check_files, read_facts, read_files
from liquid_control.export.in_c import C_SOURCE
from liquid_control.recipes import CommandError


def execute(arguments: Verify) -> int:
    """Execute the command; return the exit code."""
    files = read_files(arguments.folder)
    _, recipe, agent, _ = load(arguments.against, arguments.trust)
    metadata = read_facts(files)
    if metadata.task != recipe.task:
        raise CommandError(f"{arguments.folder} is for {metadata.task}, the run for {recipe.task}")
    try:
        agreements = check_files(files, agent.policy, metadata)
    except ValueError as error:  # other sizes of observations, for example
        raise CommandError(f"{arguments.folder} is not of this policy: {error}") from error
    formats = {"onnx": ONNX, "c": C_SOURCE}
    report(agreements, tuple(name for name, file in formats.items() if file in files))
    failed = [name for name, found in agreements.items() if not found.holds]
    if failed:
        problems.print(f"[red]error:[/] not of this policy: {', '.join(failed)}")
    return FAILED if failed else 0
