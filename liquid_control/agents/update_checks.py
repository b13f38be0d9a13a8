"""Checks for NaN and infinity in an update, which is then undone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_REMEDY = (
    "The agent has the weights from before its last training on the rollout or replay. Lower the "
    "learning rate, or max_grad_norm where there is one, and resume from the last checkpoint"
)


class Diverged(ValueError):  # noqa: N818  # reads well in tracebacks
    """An update's loss or gradient, or the weights after it, are not finite."""


def check_update(name: str, value: Tensor | float, update: int, timesteps: int) -> None:
    """Raise `Diverged` if an update's loss, or the norm of its gradient, is not finite."""
    if not math.isfinite(value):
        raise Diverged(
            f"the {name} of update {update} is {float(value)}, after {timesteps} timesteps; no "
            f"weight was changed by it. {_REMEDY}"
        )


def check_weights(norm: float, update: int, timesteps: int) -> None:
    """Raise `Diverged` if the norm of the weights is not finite after an update."""
    if not math.isfinite(norm):
        raise Diverged(
            f"update {update} changed the norm of the weights to {norm}, after {timesteps} "
            f"timesteps. {_REMEDY}"
        )


@contextmanager
def undone_on_error(weights: Sequence[Tensor]) -> Iterator[None]:
    """Restore the weights if the context raises an error."""
    before = [weight.detach().clone() for weight in weights]
    try:
        yield
    except Exception:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)
        raise
