"""The colours of all figures, distinguishable by colour-blind readers.

Colours are Okabe and Ito's (Color Universal Design, 2008). Vermilion stands for positive values and
excitatory synapses, blue for negative values and inhibitory synapses. The other colours stand for
layers and signals.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap

BLACK = "#000000"
ORANGE = "#e69f00"
SKY = "#56b4e9"
GREEN = "#009e73"
YELLOW = "#f0e442"
BLUE = "#0072b2"
VERMILION = "#d55e00"
PURPLE = "#cc79a7"

NEUTRAL = "#f7f7f7"  # zero
GREY = "#767676"

EXCITATORY = VERMILION
INHIBITORY = BLUE

ACTION = ORANGE  # as motor neurons
REWARD = BLACK
ELAPSED_TIME = GREY

SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""Colours without a meaning, for curves that are compared with each other."""

_LAYERS = {"sensory": SKY, "inter": GREEN, "command": PURPLE, "motor": ORANGE}
_OTHER_LAYERS = (YELLOW, BLACK, "#b3b3b3")

LANGUAGE = (BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, NEUTRAL, GREY)
"""All colours with a meaning."""

# An odd number of colours, so that zero maps to the middle one.
DIVERGING = LinearSegmentedColormap.from_list("blue_vermilion", (BLUE, NEUTRAL, VERMILION), N=257)
"""Maps [0, 1] to colours, with the neutral one at 0.5."""


def layer_colours(layers: Iterable[str]) -> dict[str, str]:
    """Return a colour for each layer; layers of other names share the remaining colours."""
    others = cycle(_OTHER_LAYERS)
    return {layer: _LAYERS.get(layer) or next(others) for layer in layers}


def signed_colours(values: npt.ArrayLike, limit: float = 1.0) -> npt.NDArray[np.uint8]:
    """Return the colours of signed values: cool below zero, neutral at zero, warm above.

    Args:
        values: Of any shape; values beyond the limit have the colour of the limit.
        limit: The magnitude with the strongest colour.

    Returns:
        Red, green and blue, (..., 3).
    """
    shares = (np.asarray(values, dtype=np.float64) / limit + 1) / 2
    # With `bytes`, `__call__` returns uint8, which its annotation omits.
    return np.asarray(DIVERGING(shares, bytes=True))[..., :3].astype(np.uint8, copy=False)
