"""The one time loop of the project, and its adjoint for neurons that can do with a cheap one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Step = Callable[..., Tensor]
"""(state, elapsed, *drives) -> state, one control step of a batch."""

Update = Callable[[Tensor, Sequence[Tensor], Tensor], tuple[Tensor, ...]]
"""(gates, own state parts, elapsed) -> new state parts, each neuron from its own entries alone."""

Keep = Sequence[Tensor | None]


@dataclass(frozen=True)
class ElementwiseStep:
    """A step in which neurons hear each other through one matrix only, and else are on their own.

    Attributes:
        update: what a neuron makes of what it hears.
        weight: (neurons, gates * neurons), from the first state part to the gates.
        parts: neuron-sized pieces of the state.
        parameters: the parameters that `update` uses.
    """

    update: Update
    weight: Tensor
    parts: int
    parameters: tuple[Tensor, ...]

    def __call__(self, state: Tensor, elapsed: Tensor, drive: Tensor) -> Tensor:
        """Advance the state (batch, parts * neurons) by one step."""
        own = state.chunk(self.parts, dim=-1)
        new = self.update(torch.addmm(drive, own[0], self.weight), own, elapsed)
        return new[0] if self.parts == 1 else torch.cat(new, dim=-1)


def resets(episode_start: Tensor | None, steps: int) -> list[Tensor | None]:
    """Which states survive into each step, (batch, 1); None for a step where all of them do.

    Most steps reset nobody; leaving those out saves an operation per step in both directions.
    """
    if episode_start is None:
        return [None] * steps
    anyone = episode_start.any(dim=1).tolist()
    keep = (episode_start == 0).unsqueeze(-1)
    return [keep[t] if resetting else None for t, resetting in enumerate(anyone)]


def unroll(
    step: Step, state: Tensor, elapsed: Tensor, keep: Keep, drives: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Run `step` over time and return all states (time, batch, size) and the last one.

    Args:
        step: advances the state by one control step; an `ElementwiseStep` has a faster gradient,
            but for torch.func, which differentiates as often as asked.
        state: (batch, size) at the start.
        elapsed: (time, batch, 1) in units of the circuit's time scale.
        keep: per step None or (batch, 1), False where the state is zeroed before the step.
        drives: tensors (time, batch, ...) computed for all steps beforehand.
    """
    once = torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active()
    if once and isinstance(step, ElementwiseStep):
        (drive,) = drives
        trajectory: Tensor = _Adjoint.apply(  # type: ignore[no-untyped-call]
            step.update, step.parts, keep, drive, step.weight, state, elapsed, *step.parameters
        )
    else:
        trajectory = _loop(step, state, elapsed, keep, drives)
    return trajectory, trajectory[-1]


def _loop(
    step: Step, state: Tensor, elapsed: Tensor, keep: Keep, drives: Sequence[Tensor]
) -> Tensor:
    trajectory = []
    for kept, now, *driven in zip(
        keep, elapsed.unbind(0), *(drive.unbind(0) for drive in drives), strict=True
    ):
        state = step(_kept(state, kept), now, *driven)
        trajectory.append(state)
    return torch.stack(trajectory)


def _kept(value: Tensor, keep: Tensor | None) -> Tensor:
    # Not a product: a NaN must not outlive the reset of its episode.
    return value if keep is None else torch.where(keep, value, 0.0)


class _Adjoint(torch.autograd.Function):
    """Back-propagation through time whose loop carries the gradient of the state and nothing else.

    Since each neuron is updated from its own entries, the derivatives of all steps are the
    gradient of one sum, taken for the whole sequence at once. What is left of the loop is a product
    with them and one with the weights; the gradients of weights and drives form afterwards.
    """

    @staticmethod
    def forward(
        ctx: Any,
        update: Update,
        parts: int,
        keep: Keep,
        drive: Tensor,
        weight: Tensor,
        state: Tensor,
        elapsed: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        step = ElementwiseStep(update, weight, parts, parameters)
        trajectory = _loop(step, state, elapsed, keep, (drive,))
        ctx.update, ctx.parts, ctx.keep = update, parts, keep
        ctx.save_for_backward(drive, weight, state, elapsed, trajectory, *parameters)
        return trajectory

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        drive, weight, state, elapsed, trajectory, *parameters = ctx.saved_tensors
        size = weight.shape[0]
        before = torch.stack(
            [
                _kept(previous, keep)
                for previous, keep in zip([state, *trajectory[:-1]], ctx.keep, strict=True)
            ]
        )
        hidden = before[..., :size]
        gates = torch.matmul(hidden, weight).add_(drive).requires_grad_()
        own = before.detach().requires_grad_()
        time = elapsed.detach().requires_grad_()
        with torch.enable_grad():
            new = ctx.update(gates, own.chunk(ctx.parts, dim=-1), time)
        to_gates, to_own = _slopes(new, gates, own)
        of_state, of_gates, carried = _carry(
            gradient, to_gates, to_own, weight.T.contiguous(), ctx.keep
        )
        wanted = ctx.needs_input_grad[-len(parameters) :] if parameters else ()
        trained = [each for each, needed in zip(parameters, wanted, strict=True) if needed]
        of_elapsed, *of_trained = torch.autograd.grad(
            new, (time, *trained), of_state.chunk(ctx.parts, dim=-1), allow_unused=True
        )
        rest = iter(of_trained)
        of_parameters = [next(rest) if needed else None for needed in wanted]
        of_weight = hidden.flatten(0, 1).T @ of_gates.flatten(0, 1)
        return (None, None, None, of_gates, of_weight, carried, of_elapsed, *of_parameters)


def _slopes(new: tuple[Tensor, ...], gates: Tensor, own: Tensor) -> tuple[Tensor, Tensor | None]:
    """Derivatives of each state part by each gate, and by each own part if there are any.

    They are (time, batch, parts, gates, n) and (time, batch, parts, parts, n).
    """
    neurons = new[0].shape[-1]
    shape = (*gates.shape[:2], gates.shape[-1] // neurons, neurons)
    by_gates, by_own = [], []
    for part in new:
        of_gates, of_own = torch.autograd.grad(
            part, (gates, own), torch.ones_like(part), retain_graph=True, allow_unused=True
        )
        by_gates.append(of_gates.view(shape))
        if of_own is not None:
            by_own.append(of_own.unflatten(-1, (-1, neurons)))
    # Either all parts follow from the neurons' own past or, as in CfC, none.
    return torch.stack(by_gates, dim=2), torch.stack(by_own, dim=2) if by_own else None


def _carry(
    gradient: Tensor, to_gates: Tensor, to_own: Tensor | None, back: Tensor, keep: Keep
) -> tuple[Tensor, Tensor, Tensor]:
    """The loop backwards in time.

    Args:
        gradient: (time, batch, parts * n), of the loss by each state directly.
        to_gates: from `_slopes`.
        to_own: from `_slopes`.
        back: (gates * n, n), the transposed weights.
        keep: as in `unroll`.

    Returns:
        Gradients by each state and each step's gates, in time, and by the state at the start.
    """
    of_state = torch.empty_like(gradient)
    of_gates = gradient.new_empty(*gradient.shape[:2], back.shape[0])
    of_part = of_state.view(*to_gates.shape[:3], 1, -1)
    carried = torch.zeros_like(gradient[0])
    for t in range(len(gradient) - 1, -1, -1):
        torch.add(gradient[t], carried, out=of_state[t])
        torch.sum(to_gates[t] * of_part[t], dim=1, out=of_gates[t].view_as(to_gates[t, :, 0]))
        carried = of_gates[t] @ back
        if to_own is not None:
            past = (to_own[t] * of_part[t]).sum(dim=1)
            past[:, 0] += carried
            carried = past.flatten(1)
        carried = _kept(carried, keep[t])
    return of_state, of_gates, carried
