"""Adam in which the synapses that carry the past learn more slowly than the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from liquid_control.kernels import extension
from liquid_control.kernels.fused import IS_DOUBLE
from liquid_control.kernels.learning import AdamState, Norms, clipped_adam

Entries = tuple[nn.Parameter, Tensor]
"""A parameter, and indices into its last axis."""

UNSUPPORTED = ("weight_decay", "amsgrad", "maximize", "capturable", "differentiable")


class RecurrentAdam(torch.optim.Adam):
    """Adam (Kingma & Ba 2015) whose steps are shorter for some entries of some parameters.

    A small change of a recurrent weight changes the state of every later step, and so the policy
    more than the same change of another weight (Luo et al. 2024, arXiv 2405.15384).

    Args:
        parameters: what to train.
        recurrent: the entries whose steps are shorter.
        **options: as for `torch.optim.Adam`.

    Attributes:
        recurrent_share: length of their steps as a share of Adam's; one changes nothing. It is a
            setting, not part of the state.
    """

    recurrent_share = 1.0

    def __init__(
        self, parameters: Iterable[nn.Parameter], recurrent: Iterable[Entries], **options: Any
    ) -> None:
        super().__init__(parameters, **options)
        self._recurrent = [entries for entries in recurrent if entries[0].requires_grad]
        self._shares: tuple[float, dict[nn.Parameter, Tensor]] = 1.0, {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step from the gradients; `closure` as in PyTorch."""
        before = [weight[..., entries] for weight, entries in self._recurrent]
        loss: float | None = super().step(closure)
        if self.recurrent_share != 1:
            for (weight, entries), old in zip(self._recurrent, before, strict=True):
                weight[..., entries] = old.lerp(weight[..., entries], self.recurrent_share)
        return loss

    def clipped_step(self, largest: float) -> Norms:
        """Scale the gradient to a norm of at most `largest`; make a step unless it is not finite.

        The compiled kernels do both in one call where they can. They leave `grad` as it is.

        Returns:
            The norm of the gradient before, and of the weights that have one after.
        """
        module, states = extension.load(), self._states()
        if module is None or not states:
            every = [weight for group in self.param_groups for weight in group["params"]]
            norm = clip_grad_norm_(every, largest).item()
            if math.isfinite(norm):
                self.step()
            weights = [weight.detach() for weight in every if weight.grad is not None]
            return Norms(norm, get_total_norm(weights).item())
        group = self.param_groups[0]
        options = {name: group[name] for name in ("lr", "betas", "eps")}
        return clipped_adam(module, states, **options, largest=largest)

    def _states(self) -> list[AdamState]:
        """Return what the kernels update; nothing if PyTorch does, as in the first step."""
        group = self.param_groups[0]
        if len(self.param_groups) > 1 or any(group.get(name) for name in UNSUPPORTED):
            return []
        shares = self._entry_shares()
        states = []
        for weight in group["params"]:
            state = self.state.get(weight)
            if weight.grad is None:
                continue
            if not state or weight.dtype not in IS_DOUBLE:
                return []
            share = shares.get(weight)
            tensors = (weight, weight.grad, state["exp_avg"], state["exp_avg_sq"])
            for each in tensors if share is None else (*tensors, share):
                if each.dtype is not weight.dtype or not each.is_cpu or not each.is_contiguous():
                    return []
            states.append((*tensors, state["step"], share))
        return states

    def _entry_shares(self) -> dict[nn.Parameter, Tensor]:
        """Return the share of Adam's step that each entry of a recurrent parameter makes."""
        of, shares = self._shares
        if of != self.recurrent_share:
            shares = {weight: torch.ones_like(weight.detach()) for weight, _ in self._recurrent}
            for weight, entries in self._recurrent:
                shares[weight][..., entries] = self.recurrent_share
            self._shares = self.recurrent_share, shares
        return shares

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies need: PyTorch names only attributes of its own."""
        own = {"_recurrent": self._recurrent, "recurrent_share": self.recurrent_share}
        return super().__getstate__() | own | {"_shares": (1.0, {})}
