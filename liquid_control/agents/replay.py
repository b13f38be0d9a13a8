"""A replay of sequences from past episodes, in memory of constant size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from liquid_control.policies.observations import feature_count


@dataclass(frozen=True)
class Sequences:
    """B windows of T steps each, time-major; S = burn-in + T + 1.

    Steps before an episode's start or after its end may belong to other episodes: the state resets
    at the start, and the mask is zero after the end.

    Attributes:
        features: (S, B, features), raw.
        elapsed_time: (S, B) seconds.
        episode_start: (S, B).
        previous_actions: (S, B, actions); arbitrary at an episode's start.
        state: (B, state_size) before the first step; arbitrary if the episode starts later.
        actions: (T, B, actions), of the steps after the burn-in, as are the fields below.
        rewards: (T, B).
        terminated: (T, B).
        mask: (T, B), 1 where the window has a step.
        duration: (T + 1, B) nominal intervals of each step and of the step after the last; at the
            end of an episode the last step's duration is repeated.
    """

    features: Tensor
    elapsed_time: Tensor
    episode_start: Tensor
    previous_actions: Tensor
    state: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    mask: Tensor
    duration: Tensor


SINGLES = ("elapsed_time", "duration", "rewards", "terminated", "episode_start")
WINDOWS = ("begin", "length")
COUNTERS = ("position", "age", "oldest", "newest")


class SequenceReplay:
    """Stores whole episodes and samples windows of them (R2D2, Kapturowski et al. 2019).

    A window is `sequence_length` consecutive steps of one episode, counted from its start; an
    episode's last window may be shorter. Each step lies in exactly one window, which can be sampled
    as soon as it is complete, even while the episode goes on. A sample includes `burn_in` steps
    before the window and the recurrent state that acting had before those; an episode's first
    window needs neither.

    Each environment has a ring of slots, one for each observation, terminal ones included. A window
    is discarded before the first slot it needs is overwritten.

    Args:
        buffer_size: slots of all environments; the first arguments are those of SB3's buffers.
        observation_space: of one environment.
        action_space: of one environment, a Box.
        device: of the samples; the slots themselves are in CPU memory.
        n_envs: number of environments.
        optimize_memory_usage: must be False; no observation is stored twice.
        sequence_length: steps of a window, T.
        burn_in: steps before a window, at most T.

    Raises:
        ValueError: a number does not fit the others.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "cpu",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        sequence_length: int = 32,
        burn_in: int = 16,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError(
                "optimize_memory_usage has no effect in a SequenceReplay, which stores each "
                "observation once; leave it False"
            )
        if sequence_length < 1:
            raise ValueError(f"sequence_length must be at least one step, got {sequence_length}")
        if not 0 <= burn_in <= sequence_length:
            raise ValueError(
                f"burn_in must be at least 0 and at most sequence_length = {sequence_length}, "
                f"got {burn_in}"
            )
        spans = buffer_size // n_envs // sequence_length
        if spans < 5:
            raise ValueError(
                f"buffer_size must hold at least 5 sequences of {sequence_length} steps for each "
                f"of {n_envs} environments, {5 * sequence_length * n_envs} in all, "
                f"got {buffer_size}"
            )
        self.sequence_length, self.burn_in = sequence_length, burn_in
        self.n_envs, self.device = n_envs, torch.device(device)
        self.rows = spans * sequence_length
        sizes = {
            "features": feature_count(observation_space),
            "actions": math.prod(action_space.shape or ()),
            **dict.fromkeys(SINGLES, 1),
        }
        ends = np.cumsum(list(sizes.values())).tolist()
        self._columns = {
            name: slice(end - size, end)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        self._slots = torch.zeros(self.rows, n_envs, ends[-1])
        self._states = torch.zeros(spans, n_envs, 0)  # resized when the first state is added
        self._position = np.zeros(n_envs, np.int64)  # number of slots written, never wrapped
        self._age = np.zeros(n_envs, np.int64)  # number of slots of the current episode
        # A ring of windows for each environment, numbered from `_oldest` up to `_newest`.
        self._begin = np.zeros((self.rows, n_envs), np.int64)
        self._length = np.zeros((self.rows, n_envs), np.int64)
        self._oldest = np.zeros(n_envs, np.int64)
        self._newest = np.zeros(n_envs, np.int64)

    def __len__(self) -> int:
        """Return the number of windows that can be sampled."""
        return int((self._newest - self._oldest).sum())

    def add(
        self,
        state: Tensor,
        ended: NDArray[np.bool_],
        final: Mapping[str, Tensor] | None = None,
        **columns: Tensor,
    ) -> None:
        """Append one step of all environments.

        Args:
            state: (num_envs, state_size), the recurrent state before the step.
            ended: (num_envs,), true where the step was the last of its episode.
            final: features and elapsed_time (count, ...) of the terminal observations.
            **columns: features and actions (num_envs, size), elapsed_time in seconds, duration in
                nominal intervals, rewards, terminated and episode_start, (num_envs,) each. An
                episode start ends the environment's previous episode if that is unfinished.
        """
        started = columns["episode_start"].cpu().numpy() != 0
        self._close(np.flatnonzero(started & (self._age > 0)))
        self._keep(state)
        rows = self._row(columns)
        self._write(np.arange(self.n_envs), rows)
        if final is not None:
            envs = np.flatnonzero(ended)
            duration = columns["duration"][envs]
            self._write(envs, self._row({**final, "duration": duration}))
            self._close(envs)
        self._forget()

    def sample(self, count: int) -> Sequences:
        """Draw `count` windows, uniformly and with replacement, on `device`.

        Raises:
            ValueError: no window is complete.
        """
        if len(self) == 0:
            raise ValueError(
                f"no sequence is complete; collect at least {self.sequence_length + 1} steps of "
                "an episode, or one that is shorter"
            )
        return self._gather(torch.randint(len(self), (count,)).numpy())

    def _gather(self, chosen: NDArray[np.int64]) -> Sequences:
        """Return windows by index, counted over all environments."""
        length, burn_in = self.sequence_length, self.burn_in
        ends = np.cumsum(self._newest - self._oldest)
        env = np.searchsorted(ends, chosen, side="right")
        window = (chosen - ends[env] + self._newest[env]) % self.rows
        start = self._begin[window, env] - burn_in
        # One slot before the burn-in, for the previous action.
        row = (start + np.arange(-1, burn_in + length + 1)[:, None]) % self.rows
        flat = torch.from_numpy(row * self.n_envs + env).flatten()
        slots = self._slots.flatten(0, 1).index_select(0, flat).to(self.device)
        slots = slots.view(*row.shape, -1)
        steps = np.arange(length)[:, None] < self._length[window, env]

        def column(name: str, first: int = 1, last: int | None = None) -> Tensor:
            return slots[first:last, :, self._columns[name]]

        trained = burn_in + 1
        return Sequences(
            features=column("features"),
            elapsed_time=column("elapsed_time").squeeze(-1),
            episode_start=column("episode_start").squeeze(-1),
            previous_actions=column("actions", 0, -1),
            state=self._states[start % self.rows // length, env].to(self.device),
            actions=column("actions", trained, -1),
            rewards=column("rewards", trained, -1).squeeze(-1),
            terminated=column("terminated", trained, -1).squeeze(-1),
            mask=torch.from_numpy(steps).to(slots),
            duration=column("duration", trained).squeeze(-1),
        )

    def _row(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Join columns to rows (count, width); missing columns are zero."""
        count = len(columns["features"])
        row = self._slots.new_zeros(count, self._slots.shape[-1])
        for name, values in columns.items():
            row[:, self._columns[name]] = values.view(count, -1)
        return row

    def _keep(self, state: Tensor) -> None:
        """Store the states from which the burn-in of a window starts.

        In one environment these are at least `sequence_length` slots apart, so each has a cell.
        """
        if self._states.shape[-1] != state.shape[-1]:
            self._states = state.new_zeros(*self._states.shape[:2], state.shape[-1], device="cpu")
        ahead = self._age + self.burn_in
        envs = np.flatnonzero((ahead % self.sequence_length == 0) & (ahead > 0))
        if len(envs):
            cells = self._position[envs] % self.rows // self.sequence_length
            self._states[cells, envs] = state[envs].cpu()

    def _write(self, envs: NDArray[np.int64], rows: Tensor) -> None:
        """Fill the next slot of some environments, and complete windows that end there."""
        self._slots[self._position[envs] % self.rows, envs] = rows
        whole = envs[(self._age[envs] % self.sequence_length == 0) & (self._age[envs] > 0)]
        self._offer(whole, np.full(len(whole), self.sequence_length))
        self._position[envs] += 1
        self._age[envs] += 1

    def _close(self, envs: NDArray[np.int64]) -> None:
        """End episodes. The steps after an episode's last whole window become a shorter one."""
        rest = (self._age[envs] - 1) % self.sequence_length
        self._position[envs] -= 1  # a window ends in the slot of the last observation
        self._offer(envs[rest > 0], rest[rest > 0])
        self._position[envs] += 1
        self._age[envs] = 0

    def _offer(self, envs: NDArray[np.int64], length: NDArray[np.int64]) -> None:
        """Make windows available whose last observation is in the slot at `_position`."""
        window = self._newest[envs] % self.rows
        self._begin[window, envs] = self._position[envs] - length
        self._length[window, envs] = length
        self._newest[envs] += 1

    def _forget(self) -> None:
        """Discard windows of which a slot or the state will be overwritten next."""
        envs = np.arange(self.n_envs)
        needed = self._position - self.rows + self.sequence_length + self.burn_in
        while True:
            stale = self._begin[self._oldest % self.rows, envs] < needed
            stale &= self._oldest < self._newest
            if not stale.any():
                return
            self._oldest += stale

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays, for `take_over`, not copied and without unused slots."""
        filled = int(self._position.max().clip(max=self.rows))
        return {
            "geometry": self._geometry(self._states.shape[-1]),
            "slots": self._slots[:filled].numpy(),
            "states": self._states.numpy(),
            **{name: getattr(self, f"_{name}")[:filled] for name in WINDOWS},
            **{name: getattr(self, f"_{name}") for name in COUNTERS},
        }

    def take_over(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the contents by `arrays` of another replay.

        Raises:
            ValueError: sizes or shapes differ; the contents are unchanged then.
        """
        expected = self._geometry(arrays["states"].shape[-1])
        if not np.array_equal(arrays["geometry"], expected):
            raise ValueError(
                "the saved replay differs in (sequence_length, burn_in, rows, num_envs, width "
                f"of a slot, state_size): got {arrays['geometry'].tolist()}, expected "
                f"{expected.tolist()}; build the agent with the arguments it had"
            )
        slots = torch.from_numpy(arrays["slots"])
        self._slots[: len(slots)] = slots
        self._states = torch.tensor(arrays["states"])
        for name in (*WINDOWS, *COUNTERS):
            getattr(self, f"_{name}")[: len(arrays[name])] = arrays[name]

    def save(self, file: IO[bytes]) -> None:
        """Write all arrays to a file (npz, without pickle)."""
        arrays: dict[str, Any] = {**self.arrays()}
        np.savez(file, **arrays)

    def load(self, file: IO[bytes]) -> None:
        """Read a file that `save` wrote.

        Raises:
            ValueError: the file is damaged, holds no replay, or sizes or shapes differ; the
                contents are unchanged then.
        """
        names = ("geometry", "slots", "states", *WINDOWS, *COUNTERS)
        try:
            with np.load(file, allow_pickle=False) as saved:
                arrays = {name: saved[name] for name in names}
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
            raise ValueError(
                f"the file holds no whole replay ({error}); load a file of save_replay_buffer"
            ) from error
        self.take_over(arrays)

    def _geometry(self, state_size: int) -> NDArray[np.int64]:
        return np.array(
            [self.sequence_length, self.burn_in, *self._slots.shape, state_size], np.int64
        )
