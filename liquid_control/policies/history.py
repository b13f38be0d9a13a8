"""Earlier observations and actions, as additional features of critics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import one_hot


class History:
    """Observations and actions of earlier control steps, for critics.

    A critic may infer from them what the observation hides, such as a robot's velocities. The actor
    does not see them, so that an exported policy does not need them.

    For each lag l, a step has the observation of l steps before and the action that followed it.
    Before an episode's first step, the observation is that of the first step and the action zero.

    Arguments `past` are rows (span, batch, width) of the steps before the given ones, in order of
    time: they start as `initial`, and `rows` returns those of further steps.

    Args:
        observed: number of an observation's features, which come first among all features.
        actions: the space of actions.
        lags: control steps, each at least one.

    Attributes:
        size: number of features.
        span: the longest lag, zero without any.
        width: numbers in a row.
    """

    def __init__(self, observed: int, actions: spaces.Space[Any], lags: Sequence[int]) -> None:
        self.observed, self.lags = observed, tuple(lags)
        self._actions = actions
        self.span = max(self.lags, default=0)
        own = observed + (_action_size(actions) if self.lags else 0)
        self.size, self.width = own * len(self.lags), own + 1

    def initial(self, like: Tensor, batch: int) -> Tensor:
        """Return the rows before the first step of all, of the type of a tensor."""
        return like.new_zeros(self.span, batch, self.width)

    def rows(self, features: Tensor, actions: Tensor, episode_start: Tensor) -> Tensor:
        """Return rows (time, batch, width) of steps.

        Args:
            features: (time, batch, features), raw.
            actions: (time, batch, ...), or fewer steps of them: the last rows have none.
            episode_start: (time, batch).
        """
        steps, batch = episode_start.shape
        rows = features.new_zeros(steps, batch, self.width)
        rows[..., : self.observed] = features[..., : self.observed]
        if len(actions):
            rows[: len(actions), :, self.observed : -1] = self._encoded(actions)
        rows[..., -1] = episode_start
        return rows

    def of(self, rows: Tensor) -> Tensor:
        """Return the features (time, batch, size) of all steps in `rows` but the first `span`."""
        begin = _episode_start(rows)[self.span :]
        time = torch.arange(self.span, len(rows), device=rows.device)[:, None].expand_as(begin)
        env = torch.arange(rows.shape[1], device=rows.device).expand_as(begin)
        return self._at(rows, time, env, begin)

    def after(self, rows: Tensor, step: Tensor, env: Tensor) -> Tensor:
        """Return the features (count, size) of the observation that ended an episode.

        Args:
            rows: of the past and of all steps.
            step: (count,), the last ones of their episodes, without the past.
            env: (count,), of these episodes.
        """
        last = step + self.span
        return self._at(rows, last + 1, env, _episode_start(rows)[last, env])

    def _at(self, rows: Tensor, time: Tensor, env: Tensor, begin: Tensor) -> Tensor:
        """Return the features (..., size) at places in `rows`.

        Args:
            rows: (time, batch, width).
            time: (...), at least `span`.
            env: (...).
            begin: (...), the first row of the episode there, or an earlier one of `rows`.
        """
        features = []
        for lag in self.lags:
            row = rows[torch.maximum(time - lag, begin), env]
            seen, action = row[..., : self.observed], row[..., self.observed : -1]
            known = (time - lag >= begin).unsqueeze(-1)
            features += [seen, action.where(known, 0.0)]
        return torch.cat(features, dim=-1)

    def _encoded(self, actions: Tensor) -> Tensor:
        """Return actions (time, batch, ...) as numbers (time, batch, size)."""
        space = self._actions
        if isinstance(space, spaces.Discrete):
            return one_hot(actions.long().reshape(actions.shape[:2]), int(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            parts = zip(actions.long().unbind(dim=-1), space.nvec.tolist(), strict=True)
            return torch.cat([one_hot(each, size) for each, size in parts], dim=-1)
        return actions.reshape(*actions.shape[:2], -1)


def _episode_start(rows: Tensor) -> Tensor:
    """Return the index of the row in which each row's episode starts, (time, batch), or 0."""
    times = torch.arange(len(rows), device=rows.device)[:, None]
    return torch.where(rows[..., -1] != 0, times, 0).cummax(dim=0).values


def _action_size(space: spaces.Space[Any]) -> int:
    """Return the number of an action's numbers; one for each choice of a discrete one."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return math.prod(space.shape or ())
