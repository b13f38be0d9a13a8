"""Adam in which the synapses that carry the past learn more slowly than the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Entries = tuple[nn.Parameter, Tensor]
"""A parameter, and indices into its last axis."""


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

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step from the gradients; `closure` as in PyTorch."""
        before = [weight[..., entries] for weight, entries in self._recurrent]
        loss: float | None = super().step(closure)
        if self.recurrent_share != 1:
            for (weight, entries), old in zip(self._recurrent, before, strict=True):
                weight[..., entries] = old.lerp(weight[..., entries], self.recurrent_share)
        return loss
