"""Random draws that are the same on every platform and with every NumPy version."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from liquid_control.wiring.checks import whole_number


class Draws:
    """Seeded choices and signs.

    NumPy guarantees stable raw words of a bit generator, but not stable methods of
    `numpy.random.Generator`; so everything here is computed from raw words.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(whole_number("seed", seed, at_least=0))

    def choose(self, count: int, population: int) -> npt.NDArray[np.intp]:
        """Return `count` different numbers below `population`, every subset equally likely."""
        keys = self._bits.random_raw(population)
        return np.argsort(keys, kind="stable")[:count]

    def signs(self, count: int) -> npt.NDArray[np.int8]:
        """Return `count` polarities, -1 or +1 with equal chance."""
        highest_bit = self._bits.random_raw(count) >> np.uint64(63)
        return np.where(highest_bit == 1, 1, -1).astype(np.int8)
