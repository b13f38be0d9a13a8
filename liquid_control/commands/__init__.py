"""The commands of `liquid-control`: dataclasses of arguments, and a module that executes each.

Only the arguments are imported here, not the dependencies of the commands.
"""

from liquid_control.commands.arguments import (
    Doctor,
    Evaluate,
    Export,
    Inspect,
    New,
    Pack,
    Recipes,
    Record,
    Replay,
    Report,
    Resume,
    Sweep,
    Train,
    Unpack,
    Verify,
    Watch,
)

__all__ = [
    "Doctor",
    "Evaluate",
    "Export",
    "Inspect",
    "New",
    "Pack",
    "Recipes",
    "Record",
    "Replay",
    "Report",
    "Resume",
    "Sweep",
    "Train",
    "Unpack",
    "Verify",
    "Watch",
]
