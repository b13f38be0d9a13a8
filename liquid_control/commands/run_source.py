"""Runs as arguments of commands: a folder, or a packed policy, which is unpacked first."""

from __future__ import annotations

import re
from pathlib import Path

from filelock import FileLock

from liquid_control.commands import example_policies, hub
from liquid_control.commands.policy_package import holds, is_packed, unpack
from liquid_control.commands.run_folder import Run, existing_run
from liquid_control.commands.terminal import note
from liquid_control.recipes import CommandError

UNPACKED = Path("runs", "unpacked")


def run_at(path: Path) -> Run:
    """Return the run that an argument names.

    Args:
        path: the folder of a run; a file that `pack` wrote; the name of an example policy of the
            package; or hub:OWNER/NAME. Packed policies are unpacked into runs/unpacked, once.

    Raises:
        CommandError: there is no run or policy, or the folder to unpack into has other content.
        CheckpointError: the packed policy is damaged.
    """
    packed = packed_file(path)
    if packed is None and path.is_file():
        raise CommandError(
            f"{path} is neither the folder of a run nor a packed policy; one that is damaged or a "
            "link is not read, so take another copy"
        )
    if packed is None:
        return existing_run(path)
    name = str(path) if packed != path else path.stem
    folder = UNPACKED / re.sub(r"[^\w.-]+", "-", name.removeprefix(hub.PREFIX))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):  # against other commands that unpack it
        if not folder.exists():
            unpack(packed, folder)
            note(f"{path} is unpacked into {folder}")
        elif not holds(existing_run(folder), packed):
            raise CommandError(
                f"{folder} holds another policy than {path}; remove it, or unpack the policy "
                "elsewhere with `liquid-control unpack --output`"
            )
    return existing_run(folder)


def packed_file(path: Path) -> Path | None:
    """Return the file of a packed policy, given a path, a name or an address of the Hub.

    Raises:
        CommandError: the Hub has no such policy, or it cannot be reached.
    """
    if not path.exists() and str(path).startswith(hub.PREFIX):
        return hub.pull(hub.Address.of(str(path)))
    if path.is_file():
        return path if is_packed(path) else None
    return example_policies.find(path)
