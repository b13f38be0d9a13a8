"""Adam whose steps are longer or shorter for some parameters of circuits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from liquid_control.kernels import extension
from liquid_control.kernels.fused import IS_DOUBLE, addresses
from liquid_control.kernels.learning import AdamMemory, AdamRates, AdamState, Norms, clipped_adam

Entries = tuple[nn.Parameter, Tensor]
"""A parameter, and indices into its last axis."""

Lengths = Iterable[tuple[nn.Parameter, float]]
"""Parameters, and the length of their steps relative to Adam's."""

UNSUPPORTED = ("weight_decay", "amsgrad", "maximize", "capturable", "differentiable")


class RecurrentAdam(torch.optim.Adam):
    """Adam (Kingma & Ba 2015) with separate step lengths for some parameters.

    A small change of a recurrent weight changes the state of every later step, and so the policy
    more than the same change of another weight (Luo et al. 2024, arXiv 2405.15384). Parameters with
    large values need longer steps than others for the same relative change.

    Args:
        parameters: the parameters to train.
        recurrent: the entries whose steps are shorter.
        lengths: parameters whose steps are longer or shorter throughout.
        **options: as for `torch.optim.Adam`.

    Attributes:
        recurrent_share: length of the recurrent entries' steps relative to Adam's; one changes
            nothing. It is a setting, not part of the state.
    """

    recurrent_share = 1.0

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        recurrent: Iterable[Entries],
        lengths: Lengths = (),
        **options: Any,
    ) -> None:
        super().__init__(parameters, **options)
        self._recurrent = [entries for entries in recurrent if entries[0].requires_grad]
        self._lengths = [each for each in lengths if each[0].requires_grad]
        self._shares: tuple[float, dict[nn.Parameter, Tensor]] | None = None
        self._gathered: _Gathered | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step from the gradients; `closure` as in PyTorch."""
        shares = self._entry_shares()
        before = {weight: weight.clone() for weight in shares}
        loss: float | None = super().step(closure)
        for weight, share in shares.items():
            weight.copy_(before[weight].lerp(weight, share.to(weight)))
        return loss

    def clipped_step(self, largest: float) -> Norms:
        """Scale the gradient to a norm of at most `largest`; make a step if it is finite.

        The compiled kernels do both in one call where possible.

        Returns:
            The norm of the gradient before, and of the weights with a gradient after.
        """
        module, memory = extension.load(), self.memory()
        if module is None or memory is None:
            return clipped_step(self, largest)
        return clipped_adam(module, memory, self.rates(largest))

    def rates(self, largest: float) -> AdamRates:
        """Return the settings of a step for the kernels, given the gradient's largest norm."""
        group = self.param_groups[0]
        return group["lr"], *group["betas"], group["eps"], largest

    def why_not_fused(self) -> str | None:
        """Return why PyTorch makes the steps; None if the kernels do, from the second one on."""
        if len(self.param_groups) > 1:
            return "its optimizer has several groups of parameters"
        return why_not_fused(self)

    def memory(self) -> AdamMemory | None:
        """Return the memory that the kernels update; None if PyTorch does, as in step one."""
        if self.why_not_fused():
            return None
        weights = self.param_groups[0]["params"]
        self._gathered = _gathered(self, weights, self._entry_shares(), self._gathered)
        return None if self._gathered is None else self._gathered.memory

    def _entry_shares(self) -> dict[nn.Parameter, Tensor]:
        """Return the lengths of the steps of entries, where they differ from Adam's."""
        if self._shares is None or self._shares[0] != self.recurrent_share:
            recurrent = self._recurrent if self.recurrent_share != 1 else []
            changed = [weight for weight, _ in (*recurrent, *self._lengths)]
            shares = {weight: torch.ones_like(weight.detach()) for weight in changed}
            for weight, entries in recurrent:
                shares[weight][..., entries] = self.recurrent_share
            for weight, length in self._lengths:
                shares[weight] *= length
            self._shares = self.recurrent_share, shares
        return self._shares[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies, as PyTorch includes only its own attributes."""
        own = {
            "_recurrent": self._recurrent,
            "_lengths": self._lengths,
            "recurrent_share": self.recurrent_share,
        }
        return super().__getstate__() | own | {"_shares": None, "_gathered": None}


class AdamGroups:
    """Where the states of an Adam with several groups of parameters are in memory."""

    def __init__(self) -> None:
        self._gathered: list[_Gathered | None] = []

    @staticmethod
    def has_begun(optimizer: torch.optim.Optimizer) -> bool:
        """Whether it is an Adam that the kernels know, and has made a step."""
        # Other classes have steps of their own.
        known = type(optimizer) is torch.optim.Adam and why_not_fused(optimizer) is None
        return known and bool(optimizer.state)

    def of(self, optimizer: torch.optim.Optimizer) -> list[tuple[AdamMemory, AdamRates]] | None:
        """Return the memory and the settings of each group that is trained.

        Returns:
            None if PyTorch makes the steps, as it does the first one.
        """
        if not self.has_begun(optimizer):
            return None
        trained = [
            group
            for group in optimizer.param_groups
            if any(weight.grad is not None for weight in group["params"])
        ]
        before = self._gathered if len(self._gathered) == len(trained) else [None] * len(trained)
        self._gathered = [
            _gathered(optimizer, group["params"], {}, earlier)
            for group, earlier in zip(trained, before, strict=True)
        ]
        groups = []
        for group, gathered in zip(trained, self._gathered, strict=True):
            if gathered is None:
                return None
            rates = float(group["lr"]), *group["betas"], group["eps"], math.inf
            groups.append((gathered.memory, rates))
        return groups


def why_not_fused(optimizer: torch.optim.Optimizer) -> str | None:
    """Return why PyTorch makes an optimizer's steps; None if the kernels do, from the second on."""
    if not isinstance(optimizer, torch.optim.Adam):
        return f"its optimizer is {type(optimizer).__name__}"
    for group in optimizer.param_groups:
        if options := [name for name in UNSUPPORTED if group.get(name)]:
            return f"the kernels do not support {options[0]} of its optimizer"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return "its optimizer has hooks"
    return None


class _Gathered(NamedTuple):
    """The memory of an optimizer's states, and the tensors on which it depends."""

    memory: AdamMemory
    tensors: Sequence[Tensor | None]
    addresses: list[int]  # of the weights, which a user may move in memory
    contents: Sequence[Tensor]  # an address stays unique as long as its memory is in use

    @classmethod
    def of(
        cls, memory: AdamMemory, tensors: Sequence[Tensor | None], weights: Sequence[Tensor]
    ) -> _Gathered:
        contents = [weight.detach() for weight in weights]
        return cls(memory, tensors, addresses(weights), contents)

    def is_from(self, tensors: Sequence[Tensor | None], weights: Sequence[Tensor]) -> bool:
        """Whether these are the same tensors, and no weight was moved in memory."""
        return (
            len(tensors) == len(self.tensors)
            and all(map(is_, tensors, self.tensors))
            and addresses(weights) == self.addresses
            and all(map(Tensor.is_contiguous, weights))
        )


def _gathered(
    optimizer: torch.optim.Optimizer,
    weights: Sequence[nn.Parameter],
    shares: Mapping[nn.Parameter, Tensor],
    earlier: _Gathered | None,
) -> _Gathered | None:
    """Return the memory of the states of weights: an earlier one if nothing was moved."""
    moments = [each for weight in weights for each in optimizer.state.get(weight, {}).values()]
    tensors = [*weights, *(weight.grad for weight in weights), *moments, *shares.values()]
    if earlier is not None and earlier.is_from(tensors, weights):
        return earlier
    states = _states(optimizer, weights, shares)
    return _Gathered.of(AdamMemory.of(states), tensors, weights) if states else None


def _states(
    optimizer: torch.optim.Optimizer,
    weights: Sequence[nn.Parameter],
    shares: Mapping[nn.Parameter, Tensor],
) -> list[AdamState]:
    """Return the states that the kernels update; empty if PyTorch does."""
    states: list[AdamState] = []
    for weight in weights:
        state = optimizer.state.get(weight)
        if weight.grad is None:
            continue
        if not state or weight.dtype not in IS_DOUBLE:
            return []
        if state["step"].dtype is not torch.float32:
            return []
        share = shares.get(weight)
        tensors = (weight, weight.grad, state["exp_avg"], state["exp_avg_sq"])
        for each in tensors if share is None else (*tensors, share):
            if each.dtype is not weight.dtype or not each.is_cpu or not each.is_contiguous():
                return []
        states.append((*tensors, state["step"], share))
    return states


def clipped_step(optimizer: torch.optim.Optimizer, largest: float) -> Norms:
    """Do what `RecurrentAdam.clipped_step` does, with any optimizer, in PyTorch."""
    every = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = clip_grad_norm_(every, largest).item()
    if math.isfinite(norm):
        optimizer.step()
    weights = [weight.detach() for weight in every if weight.grad is not None]
    return Norms(norm, get_total_norm(weights).item())
