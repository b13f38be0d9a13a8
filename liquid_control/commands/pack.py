"""`liquid-control pack` and `unpack`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from liquid_control.commands.policy_package import pack, unpack
from liquid_control.commands.run_loader import open_run
from liquid_control.commands.terminal import Quiet, RunFolder, note, otherwise, say
from liquid_control.commands.trust import UNTRUSTED, TrustFlags, trust_flag
from liquid_control.recipes import CommandError


@dataclass(frozen=True)
class Pack:
    """Pack a trained policy with recipe, evaluation, film and model card into one file."""

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

    output: Annotated[Path | None, otherwise("FILE", "the recipe's name")] = None
    """The file to write; it ends in .zip."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Carry the command out; return the exit code."""
        run, recipe = open_run(self.folder, trust=self.trust)
        path = self.output or Path(f"{recipe.name}-{recipe.seed}.zip")
        try:
            names = pack(run, recipe, path)
        except FileNotFoundError as error:
            raise CommandError(f"{error.filename}: there is no such file or folder") from error
        say(f"Packed: {path}, with {', '.join(names)}")
        if flag := trust_flag(recipe):
            note(f"whoever unpacks it must give{flag} too, and have what its recipe names")
        return 0


@dataclass(frozen=True)
class Unpack:
    """Unpack a policy into a run's folder after checking all of it; nothing in it is run."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file that `pack` wrote."""

    output: Annotated[Path | None, otherwise("FOLDER", "the file's name")] = None
    """The folder to create."""

    quiet: Quiet = False
    """Print problems only."""

    def run(self) -> int:
        """Carry the command out; return the exit code."""
        folder = self.output or Path(self.file.stem)
        try:
            run = unpack(self.file, folder)
        except FileNotFoundError as error:
            raise CommandError(f"{self.file}: there is no such file") from error
        except FileExistsError as error:
            raise CommandError(str(error)) from error
        say(f"Unpacked: {run.folder}")
        return 0
