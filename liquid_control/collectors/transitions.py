"""Collected control steps and episode ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from liquid_control.policies.stateful import StatefulPolicy


class Transitions(NamedTuple):
    """Control steps of B environments.

    Attributes:
        features: (T, B, features), raw.
        elapsed_time: (T, B) seconds.
        episode_start: (T, B), nonzero where an episode starts.
        actions: (T, B, ...).
        rewards: (T, B).
        ended: (T, B), true where the step was the last of its episode.
        seconds: (T, B) that the step lasted; NaN if unreported: then the elapsed time of the next
            observation holds.
    """

    features: Tensor
    elapsed_time: Tensor
    episode_start: Tensor
    actions: Tensor
    rewards: Tensor
    ended: Tensor
    seconds: Tensor

    def lasted(self, observed: Tensor) -> Tensor:
        """Return the seconds that each step lasted, (T, B).

        Args:
            observed: (T, B) seconds, the elapsed time of the observation after each step.
        """
        return torch.where(self.seconds.isnan(), observed, self.seconds)

    def to(self, device: torch.device) -> Transitions:
        """Move all fields to a device."""
        return Transitions(*(column.to(device) for column in self))


class EpisodeEnd(NamedTuple):
    """The step at which an episode of a rollout ended, and its terminal observation."""

    step: int
    env: int
    truncated: bool
    observation: Any


def find_episode_ends(
    step: int, dones: NDArray[np.bool_], infos: list[dict[str, Any]]
) -> list[EpisodeEnd]:
    """Return the episodes that ended at one step of SB3's environments.

    Raises:
        ValueError: an info lacks the last observation of its episode.
    """
    ends = []
    for env in np.flatnonzero(dones).tolist():
        info = infos[env]
        if "terminal_observation" not in info:
            raise ValueError(
                f"the episode of environment {env} ended, but its info has only "
                f"{sorted(info) or 'no keys'}; a VecEnv adds the last observation as "
                "'terminal_observation'"
            )
        truncated = info.get("TimeLimit.truncated", False)
        ends.append(EpisodeEnd(step, env, truncated, info["terminal_observation"]))
    return ends


Place = tuple[Tensor, Tensor]
"""Indices of steps and of environments, (count,) each."""


def gather(
    policy: StatefulPolicy, ends: Sequence[EpisodeEnd], features: Tensor
) -> tuple[Place, tuple[Tensor, Tensor]]:
    """Return where episodes ended, and the features and elapsed time of their last observations.

    Args:
        policy: that acted.
        ends: of the episodes.
        features: (T, B, features) of the steps that ended them, among others.
    """
    step, env = torch.tensor([each[:2] for each in ends], device=policy.device).T
    observations = obs_as_tensor(
        combined([each.observation for each in ends], np.stack), policy.device
    )
    return (step, env), policy.split(observations, features[step, env])


def with_history(
    policy: StatefulPolicy, transitions: Transitions, past: Tensor
) -> tuple[Transitions, Tensor]:
    """Insert what critics see of earlier steps into the features of collected ones.

    Args:
        policy: that acted.
        transitions: (steps, num_envs, ...).
        past: rows of its `history` before the first step.

    Returns:
        the transitions, and the rows of the past and of all steps.
    """
    history = policy.history
    if not history.size:
        return transitions, past
    features, _, starts, actions, *_ = transitions
    rows = torch.cat([past, history.rows(features, actions, starts)])
    features = policy.with_history(features, history.of(rows))
    return transitions._replace(features=features), rows


def with_next_history(
    policy: StatefulPolicy, features: Tensor, episode_start: Tensor, past: Tensor
) -> Tensor:
    """Insert what critics see of earlier steps into features (num_envs, ...) that follow them.

    Args:
        policy: that acted.
        features: from `observe`.
        episode_start: (num_envs,).
        past: rows of its `history` before them.
    """
    history = policy.history
    if not history.size:
        return features
    now = history.rows(features[None], past.new_zeros(0), episode_start[None])
    return policy.with_history(features, history.of(torch.cat([past, now]))[0])


def combined(observations: Sequence[Any], join: Callable[[list[Any]], NDArray[Any]]) -> Any:
    """Join arrays with a function such as `np.stack`; those in dicts name by name."""
    if isinstance(observations[0], dict):
        return {name: join([each[name] for each in observations]) for name in observations[0]}
    return join(list(observations))
