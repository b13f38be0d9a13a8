"""Rates of change of observations, as additional features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Derivatives:
    """Inserts filtered derivatives, per second, after the features that they belong to.

    With the difference quotient v = (x - previous x) / elapsed time, a derivative d of time
    constant tau solves tau d' = v - d over the elapsed time, as a leaky neuron with the input v:
    d = v + (previous d - v) exp(-elapsed time / tau). With tau = 0 it is v. A long time constant
    suppresses noise but adds delay. All derivatives are zero where an episode starts.

    Args:
        observed: number of leading features that have derivatives.
        time_constants: seconds, one for each derivative; if empty, nothing is inserted.

    Attributes:
        size: number of derivatives, of all features.
        width: number of features that have derivatives, and of these.
    """

    def __init__(self, observed: int, time_constants: Sequence[float]) -> None:
        self.observed, self.time_constants = observed, tuple(time_constants)
        self.size = observed * len(self.time_constants)
        self.width = observed + self.size

    def __call__(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        previous: Tensor | None,
        episode_start: Tensor | None,
    ) -> Tensor:
        """Return the features of one step with their derivatives, (batch, features + size).

        Args:
            features: (batch, features), raw.
            elapsed_time: (batch,) seconds.
            previous: the result for the previous step, at least its first `width` columns; None
                where all episodes start.
            episode_start: (batch,), nonzero where an episode starts; None: nowhere.
        """
        if not self.size:
            return features
        observed, others = features[:, : self.observed], features[:, self.observed :]
        derivatives = features.new_zeros(len(features), self.size)
        if previous is not None:
            derivatives = self._derive(observed, elapsed_time[:, None], previous)
        if episode_start is not None:
            derivatives = derivatives.masked_fill(episode_start.bool()[:, None], 0.0)
        return torch.cat([observed, derivatives, others], dim=1)

    def _derive(self, observed: Tensor, seconds: Tensor, previous: Tensor) -> Tensor:
        last, *derived = previous[:, : self.width].split(self.observed, dim=1)
        quotient = (observed - last) / seconds
        return torch.cat(
            [
                torch.lerp(quotient, before, torch.exp(-seconds / tau)) if tau else quotient
                for before, tau in zip(derived, self.time_constants, strict=True)
            ],
            dim=1,
        )
