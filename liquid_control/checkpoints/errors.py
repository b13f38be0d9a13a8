"""The error that checkpoints raise."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A file or folder is not a checkpoint, is incomplete, or does not fit this agent."""
