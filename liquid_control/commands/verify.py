"""`liquid-control verify`."""

from __future__ import annotations

from liquid_control.commands.arguments import Verify
from liquid_control.commands.export import facts_of, load, report
from liquid_control.commands.terminal import FAILED, note, problems
from liquid_control.deploy import Metadata
from liquid_control.export import verify_folder
from liquid_control.export.folder import FACTS, FILES
from liquid_control.recipes import CommandError


def execute(arguments: Verify) -> int:
    """Execute the command; return the exit code."""
    folder = arguments.folder
    run, recipe, agent, nominal = load(arguments.against, arguments.trust)
    facts = facts_of(run, recipe, nominal)
    try:
        agreements = verify_folder(folder, agent.policy, trust=arguments.trust.trust, **facts)
    except ImportError as error:
        raise CommandError(
            f"{error.name} is missing; pip install 'liquid-control[export]'"
        ) from error
    formats = tuple(name for name, files in FILES.items() if (folder / files[0]).exists())
    report(agreements, formats)
    stated = Metadata.from_json((folder / FACTS).read_bytes())
    if stated.certificate is not None or stated.rounding is not None:
        note(
            "its certificate and the cost of rounding are its author's; neither was measured again"
        )
    if not agreements:
        raise CommandError(f"nothing in {folder} could be compared; install a C compiler")
    failed = [name for name, found in agreements.items() if not found.holds]
    if failed:
        problems.print(f"[red]error:[/] not of this policy: {', '.join(failed)}")
    return FAILED if failed else 0
