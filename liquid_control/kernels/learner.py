"""Updates of PPO for Gaussian actions, a whole epoch of them in one call of the kernels."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from liquid_control.kernels.fused import addresses
from liquid_control.kernels.learning import AdamMemory, AdamRates, SurrogateOptions

NetworkMemory = tuple[Any, list[int], list[int]]
"""Network in C++, and addresses of its parameters and of their gradients."""

BodyMemory = tuple[Any, float, list[int], list[int], NetworkMemory | None]
"""Circuit in C++, its time scale, addresses as in `NetworkMemory`, and its encoder."""


class PolicyMemory(NamedTuple):
    """The parts of a policy in single precision, and where their parameters are.

    Attributes:
        actor: the acting circuit.
        twin: the critic's own circuit, if it has one.
        is_shared: whether the critic has only the actor's neurons as inputs.
        value: the critic's head.
        action: the action head, without a mapping of the motor neurons before it.
        log_std: address of the log-deviation of actions.
        d_log_std: address of its gradient, zero if it is unwanted.
    """

    actor: BodyMemory
    twin: BodyMemory | None
    is_shared: bool
    value: NetworkMemory
    action: NetworkMemory
    log_std: int
    d_log_std: int


class Seen(NamedTuple):
    """What a policy sees in a rollout, (steps, num_envs, ...).

    Attributes:
        features: normalised.
        clock: see `policies.networks.clock`.
        elapsed_time: seconds.
        episode_start: true where an episode starts.
    """

    features: Tensor
    clock: Tensor
    elapsed_time: Tensor
    episode_start: Tensor


class Targets(NamedTuple):
    """What a policy learns from in a rollout, (steps, num_envs, ...).

    Attributes:
        actions: of the rollout, like the rest.
        log_prob: of the actions.
        values: at that time.
        advantages: of the actions.
        returns: to learn.
    """

    actions: Tensor
    log_prob: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class Learner:
    """A policy that learns in the kernels as long as its parameters stay where they are."""

    def __init__(self, module: ModuleType, memory: PolicyMemory) -> None:
        self.memory = memory
        self._learner = module.Learner(*memory)

    def unroll(self, seen: Seen, state: Tensor, length: int) -> Tensor:
        """Return the states of the circuits between sequences of a rollout.

        Args:
            seen: in whole sequences.
            state: (num_envs, size) before the first step; the circuits' come first, and the last
                columns of the results are not filled.
            length: steps per sequence.

        Returns:
            the states before each sequence and after the last one, (parts + 1, num_envs, size).
        """
        parts = len(seen.elapsed_time) // length
        states = state.new_empty(parts + 1, *state.shape)
        states[0] = state
        seen = Seen(*plain(seen))
        shape = _shape(seen, parts, length, states)
        self._learner.unroll(shape, addresses((*seen, states)), torch.get_num_threads())
        return states

    def learn(
        self,
        seen: Seen,
        states: Tensor,
        targets: Targets,
        order: Tensor,
        sequences: int,
        surrogate: SurrogateOptions,
        adam: AdamMemory,
        rates: AdamRates,
        largest_divergence: float,
    ) -> tuple[Tensor, Tensor]:
        """Make an update with each minibatch, until one has to be reported.

        That is the last one then: its divergence is above the largest one, and it changed nothing,
        or a loss or a norm is not finite.

        Args:
            seen: in whole sequences.
            states: (parts, num_envs, size) before each sequence.
            targets: to learn from.
            order: of the sequences, numbered as in `states.flatten(0, 1)`.
            sequences: in a minibatch; the last one has the rest.
            surrogate: options of the loss.
            adam: the states of the parameters.
            rates: of Adam's steps.
            largest_divergence: above which no update is made.

        Returns:
            losses (updates, 6), as those of `gaussian_surrogate`, and the norms (updates, 2) of the
            gradient and of the weights.
        """
        seen, states = Seen(*plain(seen)), states.contiguous()
        wanted = plain(targets)
        parts, updates = len(states), -(-len(order) // sequences)
        losses, norms = torch.empty(updates, 6), torch.empty(updates, 2, dtype=torch.float64)
        made = self._learner.learn(
            _shape(seen, parts, len(seen.elapsed_time) // parts, states),
            addresses((*seen, states, *wanted)),
            order.data_ptr(),
            sequences,
            adam.sizes,
            adam.addresses,
            losses.data_ptr(),
            norms.data_ptr(),
            surrogate.numbers(),
            rates,
            largest_divergence,
            torch.get_num_threads(),
        )
        return losses[:made], norms[:made]


def plain(rows: Iterable[Tensor]) -> list[Tensor]:
    """Return columns in single precision, or of bool, whose rows follow each other in memory."""
    kept = (each if each.dtype is torch.bool else each.float() for each in rows)
    return [each.contiguous() for each in kept]


def _shape(seen: Seen, parts: int, length: int, states: Tensor) -> tuple[int, ...]:
    return parts, length, states.shape[1], seen.features.shape[2], states.shape[2]
