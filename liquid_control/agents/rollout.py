"""Compute values, log-probabilities and recurrent states of a collected rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from liquid_control.agents.sequences import SequenceBuffer
from liquid_control.policies import LiquidPolicy
from liquid_control.policies.stateful import StatefulPolicy


class EpisodeEnd(NamedTuple):
    """The step at which an episode of a rollout ended, and its terminal observation."""

    step: int
    env: int
    truncated: bool
    observation: Any


def find_episode_ends(
    step: int, dones: NDArray[np.bool_], infos: list[dict[str, Any]]
) -> list[EpisodeEnd]:
    """The episodes that ended at one step of SB3's environments."""
    return [
        EpisodeEnd(
            step,
            env,
            infos[env].get("TimeLimit.truncated", False),
            infos[env]["terminal_observation"],
        )
        for env in np.flatnonzero(dones).tolist()
    ]


@torch.no_grad()
def evaluate_rollout(policy: LiquidPolicy, rollout: SequenceBuffer, state: Tensor) -> Tensor:
    """Stack a rollout, and compute its values, its log-probabilities and its states.

    Args:
        policy: as it was when it acted.
        rollout: what was seen and done, of all its steps or fewer.
        state: (num_envs, state_size) before the first step.

    Returns:
        The state after the last step.
    """
    rollout.stack(policy.device)
    evaluated = []
    for span in rollout.spans():
        rollout.states.append(state)
        values, log_prob, _, state = policy.evaluate_actions(
            span["features"],
            span["elapsed_time"],
            state,
            span["episode_start"],
            span["actions"],
        )
        evaluated.append((values, log_prob))
    if evaluated:
        rollout["values"], rollout["log_prob"] = map(torch.cat, zip(*evaluated, strict=True))
    return state


@torch.no_grad()
def bootstrap_values(
    policy: LiquidPolicy,
    rollout: SequenceBuffer,
    state: Tensor,
    features: Tensor,
    elapsed_time: Tensor,
    ends: Sequence[EpisodeEnd],
) -> None:
    """Compute the duration, the termination and the next value of each step of a rollout.

    A step that ends an episode is followed by its terminal observation, not by the next episode.

    Args:
        policy: as it was when it acted.
        rollout: from `evaluate_rollout`; gains `duration` in nominal intervals, `terminated` and
            `next_values`.
        state: (num_envs, state_size) after the last step.
        features: (num_envs, features), observed after it.
        elapsed_time: (num_envs,) seconds.
        ends: all of the rollout.
    """
    ended = rollout["ended"]
    last = policy.predict_values(features[None], elapsed_time[None], state, ended[-1:])
    next_values = torch.cat([rollout["values"][1:], last])
    duration = torch.cat([rollout["elapsed_time"][1:], elapsed_time[None]])
    if ends:
        place, (_, at_end) = gather(policy, ends)
        duration[place] = at_end
    duration /= policy.nominal_interval
    terminated = ended.clone()
    cut = [end for end in ends if end.truncated]
    if cut:
        place, observed = gather(policy, cut)
        terminated[place] = False
        next_values[place] = _values_behind(policy, rollout, place, *observed)
    rollout["duration"], rollout["terminated"] = duration, terminated
    rollout["next_values"] = torch.where(terminated, 0.0, next_values)


Place = tuple[Tensor, Tensor]
"""Indices of steps and of environments, (count,) each."""


def gather(
    policy: StatefulPolicy, ends: Sequence[EpisodeEnd]
) -> tuple[Place, tuple[Tensor, Tensor]]:
    """Where some episodes ended, and the features and the elapsed time there."""
    step, env = torch.tensor([each[:2] for each in ends], device=policy.device).T
    observations = [each.observation for each in ends]
    return (step, env), policy.observe(obs_as_tensor(_stack(observations), policy.device))


def _values_behind(
    policy: LiquidPolicy,
    rollout: SequenceBuffer,
    place: Place,
    features: Tensor,
    elapsed_time: Tensor,
) -> Tensor:
    """Values (count,) of observations that followed on some steps but are not in the rollout.

    No state is kept in the midst of a sequence. So what the sequence has of each episode is copied,
    the observation put behind it, and all are unrolled together.
    """
    step, env = place
    times = torch.arange(rollout.position, device=step.device)
    begin = torch.where(rollout["episode_start"], times[:, None], 0).cummax(dim=0).values[place]
    sequence = step // rollout.length
    begin = torch.maximum(begin, sequence * rollout.length)
    past = step + 1 - begin
    rows = begin + torch.arange(int(past.max()) + 1, device=step.device)[:, None]
    rows = rows.clamp(max=len(times) - 1)  # what comes after the observation is not looked at
    end = past, torch.arange(len(past), device=step.device)

    def followed_by(name: str, last: Tensor) -> Tensor:
        column = rollout[name][rows, env]
        column[end] = last
        return column

    values = policy.predict_values(
        followed_by("features", features),
        followed_by("elapsed_time", elapsed_time),
        torch.stack(rollout.states)[sequence, env],
        followed_by("episode_start", torch.zeros_like(step, dtype=torch.bool)),
    )
    return values[end]


def _stack(observations: list[Any]) -> Any:
    """Single observations as a batch."""
    if isinstance(observations[0], dict):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)
