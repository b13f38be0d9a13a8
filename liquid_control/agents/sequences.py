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
        elapsed_time: (T, B) seconds.
        episode_start: (T, B).
        state: (B, state_size) before the first step.
        actions: (T, B, ...).
        log_prob: (T, B), when the actions were taken.
        values: (T, B), likewise.
        advantages: (T, B).
        returns: (T, B).
    """

    features: Tensor
    elapsed_time: Tensor
    episode_start: Tensor
    state: Tensor
    actions: Tensor
    log_prob: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class SequenceBuffer:
    """What a rollout of `steps` x `num_envs` saw, cut into sequences for back-propagation.

    A sequence is `length` consecutive steps of one environment, whatever episodes begin in it.
    Steps are listed as they come, and become columns (steps, num_envs, ...) when the rollout is
    over; further columns are computed from them.

    Args:
        steps: control steps per environment in a rollout.
        length: steps per sequence; divides `steps`.

    Attributes:
        states: the recurrent state (num_envs, state_size) before each sequence, in order of time.
    """

    def __init__(self, steps: int, length: int) -> None:
        if length < 1 or steps % length:
            raise ValueError(
                f"sequence_length must divide n_steps = {steps}, got {length}; a rollout is cut "
                "into whole sequences"
            )
        self.steps = steps
        self.length = length
        self.reset()

    def reset(self) -> None:
        """Forget the rollout."""
        self.position = 0
        self.states: list[Tensor] = []
        self._listed: dict[str, list[Tensor]] = {}
        self._columns: dict[str, Tensor] = {}

    def add(self, **columns: Tensor) -> None:
        """Append one step of all environments: (num_envs, ...) each, of the same names each time.

        The tensors are kept, not copied.
        """
        for name, value in columns.items():
            self._listed.setdefault(name, []).append(value)
        self.position += 1

    def stack(self, device: torch.device) -> None:
        """Make columns of the steps so far, on `device`."""
        self._columns = {name: torch.stack(each).to(device) for name, each in self._listed.items()}
        self._listed = {}

    def __getitem__(self, name: str) -> Tensor:
        """One column of the rollout, (steps, num_envs, ...)."""
        return self._columns[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        """Add a column that was computed from the others."""
        self._columns[name] = value

    def spans(self) -> Iterator[dict[str, Tensor]]:
        """The columns, a sequence of all environments at a time, in order of time."""
        for start in range(0, self.position, self.length):
            now = slice(start, start + self.length)
            yield {name: column[now] for name, column in self._columns.items()}

    def minibatches(self, sequences: int) -> Iterator[Minibatch]:
        """Every sequence once, in random order, so many at a time (the last may be smaller)."""
        cut = {name: self._cut(self._columns[name]) for name in COLUMNS}
        states = torch.cat(self.states)
        order = torch.randperm(len(states)).to(states.device)
        for chosen in order.split(sequences):
            picked = {name: column.index_select(1, chosen) for name, column in cut.items()}
            yield Minibatch(state=states[chosen], **picked)

    def _cut(self, column: Tensor) -> Tensor:
        """(steps, num_envs, ...) to (length, sequences, ...), sequences as in the states."""
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
