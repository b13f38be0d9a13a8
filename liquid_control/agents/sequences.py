"""The rollout as whole sequences: no padding, no loop over episodes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

LONGEST_DEFAULT, SHORTEST_USEFUL = 256, 16


@dataclass(frozen=True)
class Minibatch:
    """Some sequences of equal length, time-major; T is that length, B how many they are.

    Attributes:
        features: (T, B, features), raw.
        episode_start: (T, B).
        state: (B, state_size) before the first step.
        actions: (T, B, ...).
        log_prob: (T, B), when the actions were taken.
        values: (T, B), likewise.
        advantages: (T, B).
        returns: (T, B).
        elapsed_time: (T, B) seconds, or None.
    """

    features: Tensor
    episode_start: Tensor
    state: Tensor
    actions: Tensor
    log_prob: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    elapsed_time: Tensor | None = None


class SequenceBuffer:
    """What a rollout of `steps` x `num_envs` saw, cut into sequences for back-propagation.

    A sequence is `length` consecutive steps of one environment, whatever episodes begin in it;
    the recurrent state is stored where each sequence starts. Tensors are allocated once, at the
    first step.

    Args:
        steps: control steps per environment in a rollout.
        length: steps per sequence; divides `steps`.
    """

    def __init__(self, steps: int, length: int) -> None:
        if length < 1 or steps % length:
            raise ValueError(
                f"sequence_length must divide n_steps = {steps}, got {length}; a rollout is cut "
                "into whole sequences"
            )
        self.steps = steps
        self.length = length
        self.position = 0
        self._columns: dict[str, Tensor] = {}
        self._states: list[Tensor] = []

    def reset(self) -> None:
        """Forget the rollout; the memory stays."""
        self.position = 0
        self._states.clear()

    def add(self, state: Tensor, **columns: Tensor) -> None:
        """Append one step of all environments.

        Args:
            state: (num_envs, state_size) before the step; kept where a sequence starts.
            **columns: (num_envs, ...) each, the same names at every step.
        """
        if self.position % self.length == 0:
            self._states.append(state)
        for name, value in columns.items():
            if name not in self._columns or self._columns[name].shape[1:] != value.shape:
                self._columns[name] = value.new_empty(self.steps, *value.shape)
            self._columns[name][self.position] = value
        self.position += 1

    def __getitem__(self, name: str) -> Tensor:
        """One column of the full rollout, (steps, num_envs, ...)."""
        return self._columns[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        """Add a column that was computed from the others."""
        self._columns[name] = value

    def minibatches(self, sequences: int) -> Iterator[Minibatch]:
        """Every sequence once, in random order, so many at a time (the last may be smaller)."""
        cut = {name: self._cut(self._columns[name]) for name in COLUMNS if name in self._columns}
        states = torch.stack(self._states).flatten(0, 1)
        order = torch.randperm(len(states)).to(states.device)
        for chosen in order.split(sequences):
            picked = {name: column[:, chosen] for name, column in cut.items()}
            yield Minibatch(state=states[chosen], **picked)

    def _cut(self, column: Tensor) -> Tensor:
        """(steps, num_envs, ...) to (length, sequences, ...), sequences as in the stored states."""
        cut: Tensor = column.unflatten(0, (-1, self.length)).transpose(0, 1).flatten(1, 2)
        return cut


COLUMNS = tuple(field.name for field in fields(Minibatch) if field.name != "state")


def default_length(n_steps: int, batch_size: int) -> int:
    """The longest sequence that divides both, halved until it is at most 256 steps.

    Warns if less than 16 steps are left, too few for back-propagation to teach a memory.
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
