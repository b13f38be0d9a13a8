"""The losses of soft actor-critic over sequences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from liquid_control.agents.returns import per_step
from liquid_control.policies.soft import SoftLiquidPolicy, span
from liquid_control.storage.replay import Sequences


class SoftLosses(NamedTuple):
    """The losses of actor and critics, and `target_entropy` minus the entropy."""

    actor: Tensor
    critic: Tensor
    deficit: Tensor


def soft_losses(
    policy: SoftLiquidPolicy,
    sequences: Sequences,
    ent_coef: Tensor,
    *,
    burn_in: int,
    gamma: float,
    target_entropy: float,
) -> SoftLosses:
    """Compute the losses of Haarnoja et al. 2018, eq. 7 and 5.

    Args:
        policy: to train.
        sequences: from the replay.
        ent_coef: alpha.
        burn_in: steps ahead of the trained ones, over which the state is recomputed.
        gamma: discount per nominal interval.
        target_entropy: of an action that lasts a nominal interval.

    Returns:
        Means over steps; the deficit, weighted by duration, has no gradient.
    """
    signal = policy.signal(
        sequences.features,
        sequences.elapsed_time,
        sequences.episode_start,
        sequences.previous_actions,
    )
    state = sequences.state
    with torch.no_grad():
        target, theirs = policy.critic_target, policy.critic_part(state)
        seen_by_target, _ = target.run(*target.encode(signal), theirs)
        if burn_in:
            *_, state = policy.unroll(span(signal, 0, burn_in), state)
    trained = span(signal, burn_in, None)
    actor_activity, seen, _ = policy.unroll(trained, state)
    new_actions, log_prob = policy.actor(actor_activity)

    with torch.no_grad():
        context = target.context(seen_by_target[burn_in + 1 :])
        next_values = target(context, new_actions[1:])
        targets = soft_targets(
            sequences.rewards,
            sequences.terminated,
            sequences.duration,
            next_values.amin(dim=0),
            log_prob[1:],
            gamma,
            ent_coef,
        )
    context = policy.critic.context(seen[:-1])
    values = policy.critic(context, sequences.actions)
    new_values = policy.critic(context.detach(), new_actions[:-1], frozen=True)
    weight = sequences.mask / sequences.mask.sum()
    critic_loss = 0.5 * ((values - targets).square() * weight).sum()
    duration, log_prob = sequences.duration[:-1], log_prob[:-1]
    actor_loss = ((ent_coef * duration * log_prob - new_values.amin(dim=0)) * weight).sum()
    deficit = (duration * (log_prob.detach() + target_entropy) * weight).sum()
    return SoftLosses(actor_loss, critic_loss, deficit)


def soft_targets(
    rewards: Tensor,
    terminated: Tensor,
    duration: Tensor,
    next_values: Tensor,
    next_log_prob: Tensor,
    gamma: float,
    ent_coef: Tensor,
) -> Tensor:
    """Return the targets of the critics: reward plus the discounted soft value of the next step.

    y_t = r_t + gamma^d_t (Q_{t+1} - alpha d_{t+1} log pi_{t+1}) (Haarnoja et al. 2018, eq. 3 and 8,
    with the discount per nominal interval and the entropy weighted by duration).

    Args:
        rewards: (time, batch).
        terminated: (time, batch), nonzero where the episode terminated.
        duration: (time + 1, batch) nominal intervals.
        next_values: (time, batch), the minimum over the target critics.
        next_log_prob: (time, batch), of the next action.
        gamma: discount per nominal interval.
        ent_coef: alpha.
    """
    soft = next_values - ent_coef * duration[1:] * next_log_prob
    return rewards + torch.where(terminated == 0, per_step(gamma, duration[:-1]) * soft, 0.0)
