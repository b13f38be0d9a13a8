"""The commands of `liquid-control`, one per module: dataclasses of arguments with `run`."""

from liquid_control.commands.doctor import Doctor
from liquid_control.commands.evaluate import Evaluate
from liquid_control.commands.inspect import Inspect
from liquid_control.commands.pack import Pack, Unpack
from liquid_control.commands.record import Record
from liquid_control.commands.report import Report
from liquid_control.commands.resume import Resume
from liquid_control.commands.sweep import Sweep
from liquid_control.commands.train import Train
from liquid_control.commands.watch import Watch

__all__ = [
    "Doctor",
    "Evaluate",
    "Inspect",
    "Pack",
    "Record",
    "Report",
    "Resume",
    "Sweep",
    "Train",
    "Unpack",
    "Watch",
]
