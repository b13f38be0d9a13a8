"""Checkpoints of agents and trainings: files of numbers and JSON that hold no code."""

from liquid_control.checkpoints.archive import Contents, read, write
from liquid_control.checkpoints.errors import CheckpointError

__all__ = ["CheckpointError", "Contents", "read", "write"]
