"""The only time loop of the project: the reference for the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from liquid_control.kernels.fused import is_traced

Step = Callable[..., Tensor]
"""(state, elapsed, *drives) -> state, one control step of a batch."""

Keep = Sequence[Tensor | None]
"""For each step the mask (batch, 1) of the states that are kept, or None if all are."""


def resets(episode_start: Tensor | None, steps: int) -> Keep:
    """Return which states are kept at each step.

    Most steps reset no state. A None for them saves an operation per step in both directions,
    but not in a trace, which would hold for these episodes alone.
    """
    if episode_start is None:
        return [None] * steps
    keep = (episode_start == 0).unsqueeze(-1)
    if is_traced():
        return keep.unbind()
    anyone = episode_start.any(dim=1).tolist()
    return [keep[t] if resetting else None for t, resetting in enumerate(anyone)]


def unroll(
    step: Step, state: Tensor, elapsed: Tensor, keep: Keep, drives: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Run `step` over time and return all states (time, batch, size) and the last one.

    Args:
        step: advances the state by one control step.
        state: (batch, size) at the start.
        elapsed: (time, batch, 1) in units of the circuit's time scale.
        keep: from `resets`; the other states are set to zero before the step.
        drives: tensors (time, batch, ...) that were computed for all steps beforehand.
    """
    trajectory = []
    for kept, now, *driven in zip(
        keep, elapsed.unbind(0), *(drive.unbind(0) for drive in drives), strict=True
    ):
        if kept is not None:
            # Not a product: a NaN must not outlive the reset of its episode.
            state = torch.where(kept, state, 0.0)
        state = step(state, now, *driven)
        trajectory.append(state)
    return torch.stack(trajectory), state
