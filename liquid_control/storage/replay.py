"""A replay buffer of sequences, in memory of fixed size."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.fields import Field, check_arrays
from liquid_control.collectors.transitions import Transitions
from liquid_control.policies.history import History
from liquid_control.policies.images import Pixels, from_bytes, to_bytes
from liquid_control.policies.observations import feature_count, privileged_count
from liquid_control.storage.memory import gigabytes, memory_of_machine


@dataclass(frozen=True)
class Sequences:
    """A batch of windows, time-major: B windows of T steps, S = burn-in + T + 1.

    Steps before an episode's start or after its end belong to other episodes: the state resets at
    the start, and the mask is 0 after the end.

    Attributes:
        features: (S, B, features), raw, those of the history among them.
        elapsed_time: (S, B) seconds.
        episode_start: (S, B).
        previous_actions: (S, B, actions); at an episode's start, of another episode.
        state: (B, state_size) before the first step, if the episode had begun by then.
        actions: (T, B, actions), of the steps after the burn-in; so are the rest.
        rewards: (T, B).
        terminated: (T, B).
        mask: (T, B), 1 where the window has a step.
        duration: (T + 1, B) nominal intervals of each step and of the one after the last; where the
            episode ended there, of its last step again.
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


COLLECTED = ("features", "actions", "elapsed_time", "rewards", "episode_start")
SINGLES = ("elapsed_time", "duration", "rewards", "terminated", "episode_start")
MOST = 2**53  # slots written in all


class SequenceReplay:
    """Stores whole episodes and samples windows of them (R2D2, Kapturowski et al. 2019).

    A window is `sequence_length` consecutive steps of one episode, counted from its start; the last
    one may be shorter. Each step lies in exactly one window, and can be sampled as soon as that is
    complete, before the episode ends. Each window is preceded by `burn_in` steps of the same
    episode and the recurrent state before those, unless it is the episode's first.

    Each environment has a ring buffer with one observation per slot, terminal ones included. A
    window is dropped before the first slot that it needs is overwritten. Pixels take a byte each.

    Args:
        buffer_size: slots in all; the first arguments are those of SB3's buffers.
        observation_space: of one environment.
        action_space: of one environment, a Box.
        device: of the samples; the buffer itself is in CPU memory.
        n_envs: number of environments.
        optimize_memory_usage: must be False; each observation is stored once.
        sequence_length: steps of a window, T.
        burn_in: steps before a window, at most T.
        derivatives: number stored with each feature, unless it is privileged.
        critic_history: lags in control steps; samples also have the observation and the action of
            that many steps ago, see `History`, after the other features.

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
        sequence_length: int,
        burn_in: int,
        derivatives: int = 0,
        critic_history: Sequence[int] = (),
    ) -> None:
        if optimize_memory_usage:
            raise ValueError(
                "optimize_memory_usage does not apply to a SequenceReplay, which stores each "
                "observation once; leave it False"
            )
        if sequence_length < 1:
            raise ValueError(f"sequence_length must be at least one step, got {sequence_length}")
        if not 0 <= burn_in <= sequence_length:
            raise ValueError(
                f"burn_in must be at least 0 and at most sequence_length = {sequence_length}, "
                f"got {burn_in}; set both"
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
        features = feature_count(observation_space, images=True)
        observed = features - privileged_count(observation_space)
        self.history = History(observed, action_space, critic_history)
        if self.rows < 5 * sequence_length + self.history.span:
            raise ValueError(
                f"buffer_size must hold 5 sequences and the {self.history.span} steps of "
                f"critic_history for each of {n_envs} environments, got {buffer_size}"
            )
        self._images = images = Pixels.of(observation_space, features)
        vectors = features - images.size
        sizes = {
            "features": vectors + derivatives * observed,
            "actions": math.prod(action_space.shape or ()),
            **dict.fromkeys(SINGLES, 1),
        }
        ends = np.cumsum(list(sizes.values())).tolist()
        self._columns = {
            name: slice(end - size, end)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        check_memory(self.rows * n_envs * (4 * ends[-1] + images.size))
        self._slots = torch.zeros(self.rows, n_envs, ends[-1])
        self._pixels = torch.zeros(self.rows, n_envs, images.size, dtype=torch.uint8)
        self._states = torch.zeros(spans, n_envs, 0)  # its width is set by the first state
        self._position = np.zeros(n_envs, np.int64)  # slots written in all, never wrapped
        self._age = np.zeros(n_envs, np.int64)  # slots written of the current episode
        # The windows of each environment, also a ring, numbered `_oldest` to `_newest`.
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
        step: Transitions,
        duration: Tensor,
        terminated: Tensor,
        final: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Append one step of all environments.

        Args:
            state: (num_envs, state_size), the recurrent state before the step.
            step: fields (num_envs, ...). The start of an episode ends the previous one, unless that
                ended already.
            duration: (num_envs,) nominal intervals that the step lasted.
            terminated: (num_envs,), nonzero where the step terminated its episode.
            final: features (count, features) and elapsed times (count,), observed where `step`
                ended an episode.
        """
        started = step.episode_start.cpu().numpy() != 0
        self._close(np.flatnonzero(started & (self._age > 0)))
        self._store_state(state)
        columns = {name: getattr(step, name) for name in COLLECTED}
        columns |= {"duration": duration, "terminated": terminated}
        self._write(np.arange(self.n_envs), columns)
        if final is not None:
            envs = np.flatnonzero(step.ended.cpu().numpy())
            features, elapsed_time = final
            last = {"features": features, "elapsed_time": elapsed_time, "duration": duration[envs]}
            self._write(envs, last)
            self._close(envs)
        self._drop_stale()

    def sample(self, count: int) -> Sequences:
        """Sample windows uniformly with replacement, on `device`.

        Raises:
            ValueError: no window is complete, or none is asked for.
        """
        if count < 1:
            raise ValueError(
                f"sample at least one sequence, got {count}; a minibatch needs at least "
                f"{self.sequence_length} steps"
            )
        if len(self) == 0:
            raise ValueError(
                f"no sequence is complete; collect at least {self.sequence_length + 1} steps of "
                "an episode, or one that is shorter"
            )
        return self._gather(torch.randint(len(self), (count,)).numpy())

    def _gather(self, chosen: NDArray[np.int64]) -> Sequences:
        """Return windows by their number, counted over all environments."""
        length, burn_in, span = self.sequence_length, self.burn_in, self.history.span
        ends = np.cumsum(self._newest - self._oldest)
        env = np.searchsorted(ends, chosen, side="right")
        window = (chosen - ends[env] + self._newest[env]) % self.rows
        start = self._begin[window, env] - burn_in
        # Slots before the burn-in: those of the history, and one more for the previous action.
        row = (start + np.arange(-1 - span, burn_in + length + 1)[:, None]) % self.rows
        flat = torch.from_numpy(row * self.n_envs + env).flatten()
        slots = self._slots.flatten(0, 1).index_select(0, flat).to(self.device)
        earlier = slots.view(*row.shape, -1)[1:]
        slots = slots.view(*row.shape, -1)[span:]
        steps = np.arange(length)[:, None] < self._length[window, env]

        def column(name: str, first: int = 1, last: int | None = None) -> Tensor:
            return slots[first:last, :, self._columns[name]]

        features = column("features")
        if self._images.size:
            pixels = self._pixels.flatten(0, 1).index_select(0, flat).to(self.device)
            features = self._images.put(features, from_bytes(pixels.view(*row.shape, -1)[1:]))
        if self.history.size:
            names = "features", "actions", "episode_start"
            seen, actions, starts = (earlier[..., self._columns[name]] for name in names)
            rows = self.history.rows(seen, actions, starts.squeeze(-1))
            features = torch.cat([features, self.history.of(rows)], dim=-1)
        trained = burn_in + 1
        return Sequences(
            features=features,
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

    def _store_state(self, state: Tensor) -> None:
        """Store the states from which the burn-in of a window will start.

        Those of one environment are at least `sequence_length` slots apart, so each has a cell.
        """
        if self._states.shape[-1] != state.shape[-1]:
            self._states = state.new_zeros(*self._states.shape[:2], state.shape[-1], device="cpu")
        ahead = self._age + self.burn_in
        envs = np.flatnonzero((ahead % self.sequence_length == 0) & (ahead > 0))
        if len(envs):
            cells = self._position[envs] % self.rows // self.sequence_length
            self._states[cells, envs] = state[envs].cpu()

    def _write(self, envs: NDArray[np.int64], columns: Mapping[str, Tensor]) -> None:
        """Fill the next slot of some environments, and add the window that this completes.

        Columns are (count, ...); missing ones are zero.
        """
        features, pixels = self._images.take(columns["features"])
        rows = self._slots.new_zeros(len(envs), self._slots.shape[-1])
        for name, values in {**columns, "features": features}.items():
            rows[:, self._columns[name]] = values.view(len(envs), -1)
        slot = self._position[envs] % self.rows
        self._slots[slot, envs] = rows
        if self._images.size:
            self._pixels[slot, envs] = to_bytes(pixels).cpu()
        whole = envs[(self._age[envs] % self.sequence_length == 0) & (self._age[envs] > 0)]
        self._add_windows(whole, np.full(len(whole), self.sequence_length))
        self._position[envs] += 1
        self._age[envs] += 1

    def _close(self, envs: NDArray[np.int64]) -> None:
        """End episodes; the steps after the last whole window become a shorter one."""
        rest = (self._age[envs] - 1) % self.sequence_length
        self._position[envs] -= 1  # the slot of the last observation ends the window
        self._add_windows(envs[rest > 0], rest[rest > 0])
        self._position[envs] += 1
        self._age[envs] = 0

    def _add_windows(self, envs: NDArray[np.int64], length: NDArray[np.int64]) -> None:
        """Add windows whose last observation is in the slot at `_position`."""
        window = self._newest[envs] % self.rows
        self._begin[window, envs] = self._position[envs] - length
        self._length[window, envs] = length
        self._newest[envs] += 1

    def _drop_stale(self) -> None:
        """Drop windows whose slots or state will be overwritten next."""
        envs = np.arange(self.n_envs)
        needed = self._position - self.rows + self.sequence_length + self.burn_in
        needed += self.history.span
        while True:
            stale = self._begin[self._oldest % self.rows, envs] < needed
            stale &= self._oldest < self._newest
            if not stale.any():
                return
            self._oldest += stale

    def state_dict(self) -> dict[str, Tensor]:
        """Return all stored data, not copied, and without unused slots."""
        filled = int(self._position.max().clip(max=self.rows))
        arrays = {
            "begin": self._begin[:filled],
            "length": self._length[:filled],
            "position": self._position,
            "age": self._age,
            "oldest": self._oldest,
            "newest": self._newest,
            "geometry": self._geometry(self._states.shape[-1]),
        }
        tensors = {"slots": self._slots[:filled], "states": self._states}
        if self._images.size:
            tensors["pixels"] = self._pixels[:filled]
        return tensors | {name: torch.from_numpy(array) for name, array in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], state_size: int) -> None:
        """Load what `state_dict` returned.

        Args:
            state: checked before anything is changed.
            state_size: numbers in a recurrent state of the agent.

        Raises:
            CheckpointError: it is of another size, or no replay can reach this state.
        """
        arrays = {name: tensor.cpu().numpy() for name, tensor in state.items()}
        self._check(arrays, state_size)
        filled = len(arrays["slots"])
        self._slots[:filled] = torch.from_numpy(arrays["slots"])
        self._states = torch.tensor(arrays["states"])
        if self._images.size:
            self._pixels[:filled] = torch.from_numpy(arrays["pixels"])
        self._begin[:filled], self._length[:filled] = arrays["begin"], arrays["length"]
        self._position, self._age = arrays["position"].copy(), arrays["age"].copy()
        self._oldest, self._newest = arrays["oldest"].copy(), arrays["newest"].copy()

    def _check(self, arrays: Mapping[str, NDArray[Any]], state_size: int) -> None:
        """Raise a CheckpointError unless these arrays are a state of this replay."""
        expected = self._geometry(arrays["states"].shape[-1])
        if not np.array_equal(arrays["geometry"], expected):
            raise CheckpointError(
                "the saved replay differs in (sequence_length, burn_in, rows, num_envs, width "
                f"of a slot, state_size): got {arrays['geometry'].tolist()}, expected "
                f"{expected.tolist()}; build the agent with the same arguments"
            )
        spans, envs = self._states.shape[:2]
        width = arrays["states"].shape[-1] and state_size  # 0 until something is added
        ring, counter = Field((None, envs), "i", 0, MOST), Field((envs,), "i", 0, MOST)
        fields = {
            "geometry": Field((6,), "i"),
            "slots": Field((None, envs, self._slots.shape[-1])),
            "states": Field((spans, envs, width)),
            "begin": ring,
            "length": replace(ring, high=self.sequence_length),
            **dict.fromkeys(("position", "age", "oldest", "newest"), counter),
        }
        if self._images.size:
            fields["pixels"] = Field((None, envs, self._images.size), "u", 0, 255)
        check_arrays(arrays, fields, "the replay")
        position, oldest, newest = (arrays[name] for name in ("position", "oldest", "newest"))
        filled = int(position.max().clip(max=self.rows))
        per_slot = {"slots", "begin", "length", "pixels"} & arrays.keys()
        lengths = {len(arrays[name]) for name in per_slot}
        fits = lengths == {filled} and (arrays["age"] <= position).all()
        fits = fits and (oldest <= newest).all() and (newest - oldest <= filled).all()
        for env in range(envs) if fits else ():
            window = np.arange(oldest[env], newest[env]) % self.rows
            fits = fits and (window < filled).all()
            if fits:
                begin, length = arrays["begin"][window, env], arrays["length"][window, env]
                fits = (length > 0).all() and (begin + length < position[env]).all()
                fits = fits and (begin >= position[env] - self.rows).all()
        if not fits:
            raise CheckpointError("the windows of the saved replay do not lie in its slots")

    def save(self, file: IO[bytes]) -> None:
        """Write everything as NumPy arrays (npz, without pickle)."""
        arrays: dict[str, Any] = {name: each.numpy() for name, each in self.state_dict().items()}
        np.savez(file, **arrays)

    def load(self, file: IO[bytes], state_size: int) -> None:
        """Load what `save` wrote.

        Raises:
            ValueError: it is damaged, not a replay, or of another size; nothing is changed then.
        """
        try:
            with np.load(file, allow_pickle=False) as saved:
                state = {name: torch.from_numpy(saved[name]) for name in saved.files}
            self.load_state_dict(state, state_size)
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
            raise ValueError(
                f"the file does not hold a complete replay ({error}); load what "
                "save_replay_buffer wrote"
            ) from error

    def _geometry(self, state_size: int) -> NDArray[np.int64]:
        return np.array(
            [self.sequence_length, self.burn_in, *self._slots.shape, state_size], np.int64
        )


def check_memory(needed: int) -> None:
    """Warn, as SB3 does, if a replay of this many bytes exceeds the machine's memory."""
    if needed > (memory := memory_of_machine()):
        warnings.warn(
            f"the replay takes up to {gigabytes(needed)} of memory, and the machine has "
            f"{gigabytes(memory)}; lower buffer_size",
            stacklevel=2,
        )
