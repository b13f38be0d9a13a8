"""Running mean and variance as buffers of a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class RunningMoments(nn.Module):
    """Mean and variance of all rows seen so far (Chan, Golub & LeVeque 1979, eq. 2.1).

    They are buffers: saved with the weights, moved with the device, and never trained. They are in
    double precision, also where `.float()` or `.half()` convert the weights.
    Before the first update the mean is zero and the variance one.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Update the moments with rows (..., size)."""
        rows = rows.detach().flatten(0, -2).double()
        if len(rows) == 0:
            return
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        total = self.count + len(rows)
        share = len(rows) / total
        shift = mean - self.mean
        self.variance.copy_(
            torch.lerp(self.variance, variance, share) + share * (1 - share) * shift**2
        )
        self.mean.add_(share * shift)
        self.count.copy_(total)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the moments as every module is moved; they stay in double precision."""
        moments = {name: getattr(self, name) for name in ("mean", "variance", "count")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in moments.items():
            setattr(self, name, tensor.to(getattr(self, name).device))
        return self


class ObservationNormalizer(RunningMoments):
    """Scales features (..., size) to zero mean and unit variance, clipped to +-`clip`.

    Shift and scale are cached in single precision, because every step of a rollout needs them.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, size: int, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__(size)
        self.clip = clip
        self.epsilon = epsilon
        self.register_buffer("shift", torch.zeros(size), persistent=False)
        self.register_buffer("scale", torch.ones(size), persistent=False)
        self.register_load_state_dict_post_hook(_loaded)  # type: ignore[no-untyped-call]

    def update(self, rows: Tensor) -> None:
        """Update the moments with rows (..., size)."""
        super().update(rows)
        self._cache()

    def forward(self, features: Tensor) -> Tensor:
        """Normalise with the current moments; trailing features may be missing, as for actors."""
        size = features.shape[-1]
        shift, scale = self.shift, self.scale
        if size < len(shift):
            shift, scale = shift[:size], scale[:size]
        return (features - shift).mul_(scale).clamp_(-self.clip, self.clip)

    def _cache(self) -> None:
        self.shift.copy_(self.mean)
        self.scale.copy_(torch.rsqrt(self.variance + self.epsilon))


def _loaded(normalizer: nn.Module, _: object) -> None:
    assert isinstance(normalizer, ObservationNormalizer)
    normalizer._cache()
