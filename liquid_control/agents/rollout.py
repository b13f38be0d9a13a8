"""Compute a finished rollout from collected steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from liquid_control.agents.returns import ReturnNormalizer, gae, per_step
from liquid_control.collectors.finite_checks import check_column
from liquid_control.collectors.transitions import EpisodeEnd, Place, Transitions, gather
from liquid_control.policies import LiquidPolicy
from liquid_control.storage.sequences import Rollout


class Unrolled(NamedTuple):
    """A policy's outputs over collected steps, and its states between sequences.

    Attributes:
        values: (steps, num_envs).
        log_prob: (steps, num_envs), of the actions.
        states: (sequences + 1, num_envs, state_size), before each sequence and after the last step.
    """

    values: Tensor
    log_prob: Tensor
    states: Tensor


@torch.no_grad()
def states_of(policy: LiquidPolicy, transitions: Transitions, state: Tensor, length: int) -> Tensor:
    """Return a policy's states between sequences, as in `Unrolled`.

    Args:
        policy: with any weights.
        transitions: (steps, num_envs, ...); the steps need not fill the last sequence.
        state: (num_envs, state_size) before the first step.
        length: steps per sequence.
    """
    features, elapsed_time, episode_start, *_ = transitions
    return policy.states(features, elapsed_time, state, episode_start, length)


@torch.no_grad()
def unroll_sequences(policy: LiquidPolicy, transitions: Transitions, states: Tensor) -> Unrolled:
    """Unroll a policy over collected steps, all sequences at once.

    Args:
        policy: with any weights.
        transitions: (steps, num_envs, ...), of whole sequences.
        states: from `states_of` with the same policy.
    """
    parts, shape = len(states) - 1, transitions.ended.shape

    def side_by_side(column: Tensor) -> Tensor:
        return column.view(parts, -1, *column.shape[1:]).transpose(0, 1).flatten(1, 2)

    features, elapsed_time, episode_start, actions, *_ = map(side_by_side, transitions)
    values, log_prob, *_ = policy.evaluate_actions(
        features, elapsed_time, states[:-1].flatten(0, 1), episode_start, actions
    )
    values, log_prob = (
        column.view(len(column), parts, -1).transpose(0, 1).reshape(shape)
        for column in (values, log_prob)
    )
    return Unrolled(values, log_prob, states)


@torch.no_grad()
def finish_rollout(
    policy: LiquidPolicy,
    transitions: Transitions,
    unrolled: Unrolled,
    features: Tensor,
    elapsed_time: Tensor,
    ends: Sequence[EpisodeEnd],
    *,
    length: int,
    gamma: float,
    gae_lambda: float,
    return_normalizer: ReturnNormalizer | None,
    timesteps: int,
    rows: Tensor | None = None,
) -> Rollout:
    """Compute durations, bootstrapped values, advantages and returns of collected steps.

    Args:
        policy: with the weights that acted.
        transitions: (steps, num_envs, ...).
        unrolled: from `unroll_sequences` with the same policy.
        features: (num_envs, features), observed after the last step.
        elapsed_time: (num_envs,) seconds, of that observation.
        ends: every episode end of the rollout.
        length: steps per sequence.
        gamma: discount per nominal interval.
        gae_lambda: mixing of GAE, per nominal interval.
        return_normalizer: updated with the rollout's returns, then scales its rewards; or None.
        timesteps: of the training, for error messages.
        rows: from `transitions.with_history`; not needed without a history.

    Raises:
        NotFinite: a reward, duration, action or value is NaN or infinite. The normalizer is
            unchanged then.
        ValueError: an elapsed time is refused, see `check_elapsed_time`.
    """
    observed = torch.cat([transitions.elapsed_time[1:], elapsed_time[None]])
    if ends:
        place, (_, at_end) = gather(policy, ends, transitions.features)
        observed[place] = at_end
    duration = transitions.lasted(observed) / policy.nominal_interval

    state, ended = unrolled.states[-1], transitions.ended
    last = policy.predict_values(features[None], elapsed_time[None], state, ended[-1:])
    next_values = torch.cat([unrolled.values[1:], last])
    terminated = ended.clone()
    if truncated := [end for end in ends if end.truncated]:
        place, last_seen = gather(policy, truncated, transitions.features)
        terminated[place] = False
        seen, at_end = last_seen
        if rows is not None and policy.history.size:
            seen = policy.with_history(seen, policy.history.after(rows, *place))
        next_values[place] = _terminal_values(
            policy, transitions, unrolled.states, length, place, seen, at_end
        )
    next_values = torch.where(terminated, 0.0, next_values)

    rewards, values = transitions.rewards, unrolled.values
    for name, column in (
        ("rewards", rewards),
        ("duration", duration),
        ("actions", transitions.actions),
        ("values", values),
        ("next_values", next_values),
    ):
        check_column(name, column, timesteps)
    policy.check_elapsed_time(observed)
    policy.check_elapsed_time(duration * policy.nominal_interval)
    discounts = per_step(gamma, duration)
    if return_normalizer is not None:
        rewards = return_normalizer(rewards, discounts, transitions.episode_start.bool())
    traces = torch.where(ended, 0.0, discounts * per_step(gae_lambda, duration))
    advantages = gae(rewards, values, next_values, discounts, traces)
    return Rollout(
        transitions=transitions,
        values=values,
        log_prob=unrolled.log_prob,
        duration=duration,
        terminated=terminated,
        next_values=next_values,
        advantages=advantages,
        returns=advantages + values,
    )


def _terminal_values(
    policy: LiquidPolicy,
    transitions: Transitions,
    states: Tensor,
    length: int,
    place: Place,
    features: Tensor,
    elapsed_time: Tensor,
) -> Tensor:
    """Return the values (count,) of terminal observations, which are not among the transitions.

    States are stored between sequences only. So for each episode the steps from its start, or from
    the start of the sequence, are copied, the terminal observation is appended, and all of them are
    unrolled together.
    """
    step, env = place
    times = torch.arange(len(transitions.ended), device=step.device)
    begin = torch.where(transitions.episode_start, times[:, None], 0).cummax(dim=0).values[place]
    sequence = step // length
    begin = torch.maximum(begin, sequence * length)
    past = step + 1 - begin
    rows = begin + torch.arange(int(past.max()) + 1, device=step.device)[:, None]
    rows = rows.clamp(max=len(times) - 1)  # rows after the terminal observation are ignored
    end = past, torch.arange(len(past), device=step.device)

    def followed_by(column: Tensor, last: Tensor) -> Tensor:
        copied = column[rows, env]
        copied[end] = last
        return copied

    values = policy.predict_values(
        followed_by(transitions.features, features),
        followed_by(transitions.elapsed_time, elapsed_time),
        states[sequence, env],
        followed_by(transitions.episode_start, torch.zeros_like(step, dtype=torch.bool)),
    )
    return values[end]
