"""`liquid-control doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from liquid_control.commands.terminal import FAILED, say
from liquid_control.display import diagnosis
from liquid_control.doctor import diagnose


@dataclass(frozen=True)
class Doctor:
    """Show what this installation has and lacks, with remedies. Exits with 0 if it can train."""

    quiet: ClassVar[bool] = False

    def run(self) -> int:
        """Carry the command out; return the exit code."""
        findings = diagnose()
        say(diagnosis(findings))
        return FAILED if any(each.fatal for each in findings) else 0
