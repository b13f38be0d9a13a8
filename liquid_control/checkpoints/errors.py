"""What is wrong with a checkpoint."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A file or folder that is no checkpoint, not a whole one, or not one for this agent."""
