"""The rollout of LiquidPPO, stored as sequences of equal length."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from liquid_control.collectors.transitions import Transitions

LONGEST_DEFAULT, SHORTEST_USEFUL = 16, 16
LARGEST_BATCH, SMALLEST_BATCH = 64, 32  # control steps of a minibatch, by default


class Rollout(NamedTuple):
    """A finished rollout: T control steps of B environments, and the training targets.

    Attributes:
        transitions: the collected steps.
        values: (T, B).
        log_prob: (T, B), of the actions.
        duration: (T, B) nominal intervals from each observation to the next.
        terminated: (T, B), true where an episode terminated.
        next_values: (T, B), of the observation after each step; zero where the episode terminated.
        advantages: (T, B).
        returns: (T, B), advantages plus values.
    """

    transitions: Transitions
    values: Tensor
    log_prob: Tensor
    duration: Tensor
    terminated: Tensor
    next_values: Tensor
    advantages: Tensor
    returns: Tensor


class Minibatch(NamedTuple):
    """B sequences of T steps each.

    Attributes:
        state: (B, state_size) before the first step.
        features: (T, B, features), raw.
        elapsed_time: (T, B) seconds.
        episode_start: (T, B).
        actions: (T, B, ...).
        log_prob: (T, B), of the policy that acted.
        values: (T, B), of the policy that acted.
        advantages: (T, B).
        returns: (T, B).
        extra: the rows (T * B, ...) of further columns that were asked for.
    """

    state: Tensor
    features: Tensor
    elapsed_time: Tensor
    episode_start: Tensor
    actions: Tensor
    log_prob: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    extra: tuple[Tensor, ...] = ()


class SequenceBuffer:
    """Stores a rollout, and draws minibatches of sequences from it.

    A sequence is `length` consecutive steps of one environment, across episode starts.

    Args:
        steps: control steps per environment in a rollout.
        length: steps per sequence; divides `steps`.

    Attributes:
        rollout: the finished rollout, set by the agent.
        states: (steps / length, num_envs, state_size), the recurrent state before each sequence in
            order of time, set by the agent. It may be replaced by newer states.

    Raises:
        ValueError: `length` does not divide `steps`.
    """

    rollout: Rollout
    states: Tensor

    def __init__(self, steps: int, length: int) -> None:
        if length < 1 or steps % length:
            raise ValueError(
                f"sequence_length must divide n_steps = {steps}, got {length}; a rollout is cut "
                "into whole sequences"
            )
        self.steps = steps
        self.length = length
        self._collected: list[Transitions] = []

    def __len__(self) -> int:
        """Return the number of collected control steps per environment."""
        return len(self._collected)

    def reset(self) -> None:
        """Discard the collected steps."""
        self._collected = []

    def add(self, step: Transitions) -> None:
        """Append one step of all environments, fields (num_envs, ...). Tensors are not copied."""
        self._collected.append(step)

    def stack(self, device: torch.device) -> Transitions:
        """Return the collected steps in order of time, at least one, on `device`."""
        columns = zip(*self._collected, strict=True)
        return Transitions(*(torch.stack(column) for column in columns)).to(device)

    def minibatches(self, sequences: int, extra: Sequence[Tensor] = ()) -> Iterator[Minibatch]:
        """Yield every sequence once in random order, `sequences` at a time; the last has the rest.

        Args:
            sequences: of a minibatch; the last has the rest.
            extra: rows (steps * num_envs, ...) of further columns.
        """
        # All minibatches are gathered and cut at once: small operations take longer than updates
        # should.
        states, *columns, further = self._shuffled(sequences, extra)
        parts = [states.split(sequences), *(self._cut(column, sequences) for column in columns)]
        rows = [column.split(sequences * self.length) for column in further]
        for i, minibatch in enumerate(zip(*parts, strict=True)):
            yield Minibatch._make((*minibatch, tuple(column[i] for column in rows)))

    def draw_order(self) -> Tensor:
        """Return the numbers of all sequences, in `states.flatten(0, 1)`, in random order."""
        return torch.randperm(self.states.shape[:2].numel())

    def _shuffled(self, sequences: int, extra: Sequence[Tensor]) -> Minibatch:
        """Return every sequence once in random order, as rows (T * B, ...) of minibatches in order.

        The rollout must be complete, and `rollout` and `states` set.
        """
        rollout, states = self.rollout, self.states.flatten(0, 1)
        columns = (
            rollout.transitions.features,
            rollout.transitions.elapsed_time,
            rollout.transitions.episode_start,
            rollout.transitions.actions,
            rollout.log_prob,
            rollout.values,
            rollout.advantages,
            rollout.returns,
        )
        rows = torch.arange(rollout.values.numel(), device=states.device)
        rows = rows.view(-1, self.length, rollout.values.shape[1]).transpose(0, 1).flatten(1)
        order = self.draw_order().to(states.device)
        chosen = torch.cat([part.flatten() for part in rows[:, order].split(sequences, dim=1)])
        own = (column.flatten(0, 1)[chosen] for column in columns)
        return Minibatch._make((states[order], *own, tuple(column[chosen] for column in extra)))

    def _cut(self, rows: Tensor, sequences: int) -> list[Tensor]:
        """Cut the rows of minibatches into (length, sequences, ...); the last has the rest."""
        size = sequences * self.length
        full = len(rows) // size
        whole, rest = rows.tensor_split((full * size,))
        cut = list(whole.view(full, self.length, sequences, *rows.shape[1:]).unbind())
        return [*cut, rest.view(self.length, -1, *rows.shape[1:])] if len(rest) else cut


def default_batch(steps: int, sequence_length: int | None) -> int:
    """Return the control steps of a minibatch: the most from 64 to 32 that divide a rollout.

    It is 64 if none does, or the whole of a smaller rollout, and always holds whole sequences.

    Args:
        steps: of the rollout, over all environments.
        sequence_length: None: not chosen yet.
    """
    length = sequence_length or 1
    most = max(LARGEST_BATCH // length, 1) * length
    sizes = range(most, SMALLEST_BATCH - 1, -length)
    return next((size for size in sizes if steps % size == 0), min(most, steps))


def check_batch(batch_size: int, sequence_length: int) -> None:
    """Raise a ValueError unless a minibatch holds whole sequences."""
    if batch_size % sequence_length:
        raise ValueError(
            f"batch_size must be a multiple of sequence_length = {sequence_length}, since a "
            f"minibatch holds whole sequences, got {batch_size}"
        )


def default_length(n_steps: int, batch_size: int) -> int:
    """Return the greatest common divisor, halved until it is at most 16 steps or odd.

    Warns if the result is below 16 steps, too short to learn from memory.
    """
    length = math.gcd(n_steps, batch_size)
    while length > LONGEST_DEFAULT and length % 2 == 0:
        length //= 2
    if length < min(SHORTEST_USEFUL, n_steps):
        warnings.warn(
            f"sequences are {length} steps long, the most that divides both n_steps = {n_steps} "
            f"and batch_size = {batch_size}; choose numbers with a larger common divisor, or set "
            "sequence_length",
            stacklevel=3,
        )
    return length
