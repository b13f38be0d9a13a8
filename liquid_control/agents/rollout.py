"""A rollout in hindsight: whatever acting did not need, for whole sequences at once."""

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


class Ending(NamedTuple):
    """Where an episode ended in a rollout, and what was observed there."""

    step: int
    env: int
    truncated: bool
    observation: Any


def endings_of(step: int, dones: NDArray[np.bool_], infos: list[dict[str, Any]]) -> list[Ending]:
    """The episodes that ended at one step of SB3's environments."""
    return [
        Ending(
            step,
            env,
            infos[env].get("TimeLimit.truncated", False),
            infos[env]["terminal_observation"],
        )
        for env in np.flatnonzero(dones).tolist()
    ]


@torch.no_grad()
def judge(policy: LiquidPolicy, rollout: SequenceBuffer, state: Tensor) -> Tensor:
    """Give a rollout its columns, among them values and log-probabilities, and its states.

    Args:
        policy: as it was when it acted.
        rollout: what was seen and done, of all its steps or fewer.
        state: (num_envs, state_size) before the first step.

    Returns:
        The state after the last step.
    """
    rollout.stack(policy.device)
    judged = []
    for span in rollout.spans():
        rollout.states.append(state)
        values, log_prob, _, state = policy.evaluate_actions(
            span["features"],
            span.get("elapsed_time"),
            state,
            span["episode_start"],
            span["actions"],
        )
        judged.append((values, log_prob))
    if judged:
        rollout["values"], rollout["log_prob"] = map(torch.cat, zip(*judged, strict=True))
    return state


@torch.no_grad()
def look_ahead(
    policy: LiquidPolicy,
    rollout: SequenceBuffer,
    state: Tensor,
    features: Tensor,
    elapsed_time: Tensor | None,
    endings: Sequence[Ending],
) -> None:
    """Tell of each step of a judged rollout what it led to: when, whether for good, of what value.

    A step that ends an episode leads to what was observed there and not to the next one's start.

    Args:
        policy: as it was when it acted.
        rollout: gains `duration` in nominal intervals, `terminated` and `next_values`.
        state: (num_envs, state_size) after the last step.
        features: (num_envs, features), observed after it.
        elapsed_time: (num_envs,) seconds, or None.
        endings: all of the rollout.
    """
    ended = rollout["ended"]
    now = None if elapsed_time is None else elapsed_time[None]
    last = policy.predict_values(features[None], now, state, ended[-1:])
    next_values = torch.cat([rollout["values"][1:], last])
    duration = torch.ones_like(next_values)
    if now is not None:
        duration = torch.cat([rollout["elapsed_time"][1:], now])
        if endings:
            place, (_, at_end) = gather(policy, endings)
            assert at_end is not None
            duration[place] = at_end
        duration /= policy.nominal_interval
    terminated = ended.clone()
    cut = [ending for ending in endings if ending.truncated]
    if cut:
        place, observed = gather(policy, cut)
        terminated[place] = False
        next_values[place] = _values_behind(policy, rollout, place, *observed)
    rollout["duration"], rollout["terminated"] = duration, terminated
    rollout["next_values"] = torch.where(terminated, 0.0, next_values)


Place = tuple[Tensor, Tensor]
"""Indices of steps and of environments, (count,) each."""


def gather(
    policy: StatefulPolicy, endings: Sequence[Ending]
) -> tuple[Place, tuple[Tensor, Tensor | None]]:
    """Where some episodes ended, and the features and the elapsed time there."""
    step, env = torch.tensor([each[:2] for each in endings], device=policy.device).T
    observations = [each.observation for each in endings]
    return (step, env), policy.observe(obs_as_tensor(_stack(observations), policy.device))


def _values_behind(
    policy: LiquidPolicy,
    rollout: SequenceBuffer,
    place: Place,
    features: Tensor,
    elapsed_time: Tensor | None,
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
        None if elapsed_time is None else followed_by("elapsed_time", elapsed_time),
        torch.stack(rollout.states)[sequence, env],
        followed_by("episode_start", torch.zeros_like(step, dtype=torch.bool)),
    )
    return values[end]


def _stack(observations: list[Any]) -> Any:
    """Single observations as a batch."""
    if isinstance(observations[0], dict):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)
