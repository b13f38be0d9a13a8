"""Updates of PPO for Gaussian actions, a whole epoch of them in one call of the kernels."""

from __future__ import annotations

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


class Columns(NamedTuple):
    """Sequences in the order of their minibatches, whose rows (T * B, ...) follow each other.

    Attributes:
        seen: normalised features.
        clock: see `policies.networks.clock`.
        elapsed_time: seconds.
        episode_start: true where an episode starts.
        state: (sequences, state_size), before the first step.
        actions: of the rollout, like the rest.
        log_prob: of the actions.
        values: at that time.
        advantages: of the actions.
        returns: to learn.
    """

    seen: Tensor
    clock: Tensor
    elapsed_time: Tensor
    episode_start: Tensor
    state: Tensor
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

    def learn(
        self,
        columns: Columns,
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
            columns: to learn from.
            sequences: in a minibatch; the last one has the rest.
            surrogate: options of the loss.
            adam: the states of the parameters.
            rates: of Adam's steps.
            largest_divergence: above which no update is made.

        Returns:
            losses (updates, 6), as those of `gaussian_surrogate`, and the norms (updates, 2) of the
            gradient and of the weights.
        """
        columns = Columns(*(_plain(column, torch.float32) for column in columns))
        starts = _plain(columns.episode_start != 0, torch.bool)
        every = len(columns.state)
        length = len(columns.returns) // every
        updates = -(-every // sequences)
        losses, norms = torch.empty(updates, 6), torch.empty(updates, 2, dtype=torch.float64)
        shape = length, sequences, every, columns.seen.shape[1], columns.state.shape[1]
        made = self._learner.learn(
            shape,
            addresses(columns._replace(episode_start=starts)),
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


def _plain(column: Tensor, dtype: torch.dtype) -> Tensor:
    return column.to(dtype).contiguous()
