"""The states of the random generators that a training draws from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray


def get_rng_state(
    *drawn_from: spaces.Space[Any],
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """States of the process's generators and of those of some spaces, as JSON and as arrays."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002  # SB3's action noise draws from it
    assert isinstance(numpy, dict)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    arrays = {"torch": torch.get_rng_state().numpy()}
    if torch.cuda.is_available():
        arrays["cuda"] = torch.cuda.get_rng_state().numpy()
    notes = {
        "python": random.getstate(),
        "numpy": numpy,
        "spaces": [part.np_random.bit_generator.state for part in _parts(drawn_from)],
    }
    return notes, arrays


def set_rng_state(
    notes: Mapping[str, Any],
    arrays: Mapping[str, NDArray[np.uint8]],
    *drawn_from: spaces.Space[Any],
) -> None:
    """Set the generators to what `get_rng_state` returned, of spaces alike."""
    version, words, gauss = notes["python"]
    random.setstate((version, tuple(words), gauss))
    key = np.array(notes["numpy"]["state"]["key"], np.uint32)
    np.random.set_state(  # noqa: NPY002
        {**notes["numpy"], "state": {**notes["numpy"]["state"], "key": key}}
    )
    torch.set_rng_state(torch.tensor(arrays["torch"]))
    if "cuda" in arrays and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(arrays["cuda"]))
    for part, state in zip(_parts(drawn_from), notes["spaces"], strict=True):
        part.np_random.bit_generator.state = state


def _parts(of: tuple[spaces.Space[Any], ...]) -> Iterator[spaces.Space[Any]]:
    """Spaces and those within them; each has a generator of its own."""
    for space in of:
        yield space
        if isinstance(space, spaces.Dict):
            yield from _parts(tuple(space.values()))
