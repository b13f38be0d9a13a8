"""The random numbers of an episode's conditions."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_WORD = 2**64


class Column(NamedTuple):
    """One number of each simulation, given by its place in an array (num_envs, ...).

    A view of the array would be separate from it after a deep copy.
    """

    array: NDArray[Any]
    entry: tuple[int, ...] = ()

    def item(self, index: int) -> Any:
        """Return the number of a simulation."""
        return self.array.item(index, *self.entry)

    def of(self, which: NDArray[np.int64]) -> NDArray[Any]:
        """Return the numbers of some simulations, (which,)."""
        numbers: NDArray[Any] = self.array[(which, *self.entry)]
        return numbers


@dataclass(frozen=True)
class Episode:
    """An episode, whose conditions are functions of two numbers.

    The key is the state of the environment's generator before the task draws the initial state.
    Nothing is drawn from that generator itself, so a task has the same initial states and intervals
    under any conditions. `number` distinguishes episodes whose task draws nothing.

    The numbers come from a counter-based generator (Philox, Salmon et al. 2011): any block of any
    stream can be redrawn at any time, and only these two numbers need to be saved.

    Attributes:
        key: 128 bits.
        number: Counted since the environment was seeded, from one.
    """

    key: int
    number: int

    @classmethod
    def of(cls, rng: np.random.Generator, number: int) -> Episode:
        """Return the episode that begins with the current state of the environment's generator."""
        state: Any = rng.bit_generator.state["state"]
        if not isinstance(state, dict) or "state" not in state:
            raise TypeError(
                f"the conditions of an environment need a PCG64 generator, Gymnasium's default; "
                f"got {type(rng.bit_generator).__name__}"
            )
        return cls(int(state["state"]) % _WORD**2, number)

    def stream(self, name: str, block: int = 0) -> np.random.Generator:
        """Return a generator at the beginning of a block of a stream of random numbers."""
        key = np.array([self.key % _WORD, self.key // _WORD], np.uint64)
        counter = np.array([0, block, zlib.crc32(name.encode()), self.number], np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=key))

    def to_array(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the key and the number, (3,), for `from_array`."""
        words = np.array([self.key % _WORD, self.key // _WORD, self.number], np.uint64)
        return words.view(np.int64)

    @classmethod
    def from_array(cls, array: np.ndarray[Any, np.dtype[np.int64]]) -> Episode:
        """Return the episode from the array that `to_array` returned."""
        low, high, number = (int(word) for word in array.view(np.uint64))
        return cls(low + high * _WORD, number)
