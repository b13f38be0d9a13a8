"""Checkpoints: what an agent is, as files that are written whole and never run."""

from liquid_control.checkpoints.archive import Contents, read, write
from liquid_control.checkpoints.errors import CheckpointError

__all__ = ["CheckpointError", "Contents", "read", "write"]
