"""The states of random generators as arrays."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from liquid_control.checkpoints.fields import Arrays, Field, check_arrays

WORDS = 624  # of a Mersenne Twister
KEY = Field((WORDS,), "iu", 0, 2**32 - 1)
PLACE = Field((), "iu", 0, WORDS)
GAUSS = Field((2,), "f")  # whether a normal sample is cached, and that sample
LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
GENERATOR = Field((6,), "i", [LEAST] * 4 + [0, 0], [MOST] * 4 + [1, 2**32 - 1])
"""A PCG64: state and increment, 64 bits a number, and 32 bits cached for the next draw."""


def state_dict(*drawn_from: spaces.Space[object]) -> Arrays:
    """Return the states of this process's generators, and of those of some spaces."""
    _, (*key, place), gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002  # SB3's action noise draws from it
    assert isinstance(numpy, dict)
    state = {
        "python.key": np.array(key, np.int64),
        "python.place": np.array(place),
        "python.gauss": np.array([gauss is not None, gauss or 0.0]),
        "numpy.key": numpy["state"]["key"].astype(np.int64),
        "numpy.place": np.array(numpy["state"]["pos"]),
        "numpy.gauss": np.array([numpy["has_gauss"], numpy["gauss"]], np.float64),
        "torch": torch.get_rng_state().numpy(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().numpy()
    for index, part in enumerate(_parts(drawn_from)):
        state[f"space.{index}"] = generator_state(part.np_random)
    return state


def check_state(state: Arrays, *drawn_from: spaces.Space[object]) -> None:
    """Raise a CheckpointError unless `load_state_dict` can set the state for these spaces."""
    machine = {"torch", *(["cuda"] if "cuda" in state else [])}
    twisters = {"key": KEY, "place": PLACE, "gauss": GAUSS}
    fields = {f"{kind}.{name}": of for kind in ("python", "numpy") for name, of in twisters.items()}
    fields |= {name: Field((None,), "u") for name in machine}
    fields |= {f"space.{index}": GENERATOR for index, _ in enumerate(_parts(drawn_from))}
    check_arrays(state, fields, "the random generators")


def load_state_dict(state: Arrays, *drawn_from: spaces.Space[object]) -> None:
    """Set the generators to what `state_dict` returned.

    Raises:
        CheckpointError: the state does not fit these generators.
    """
    check_state(state, *drawn_from)
    kept, gauss = state["python.gauss"].tolist()
    words = (*state["python.key"].tolist(), state["python.place"].item())
    random.setstate((3, words, gauss if kept else None))
    kept, gauss = state["numpy.gauss"].tolist()
    key, place = state["numpy.key"].astype(np.uint32), state["numpy.place"].item()
    np.random.set_state(("MT19937", key, place, int(kept), gauss))  # noqa: NPY002
    torch.set_rng_state(torch.tensor(state["torch"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(state["cuda"]))
    for index, part in enumerate(_parts(drawn_from)):
        load_generator_state(part.np_random, state[f"space.{index}"])


def generator_state(generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the state of a PCG64, see `GENERATOR`; others raise a TypeError."""
    state = generator.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise TypeError(f"the state of a generator {state['bit_generator']} cannot be saved")
    numbers = state["state"]["state"], state["state"]["inc"]
    words = [half for number in numbers for half in divmod(number, 2**64)]
    array = np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)
    return array.view(np.int64)


def load_generator_state(generator: np.random.Generator, array: NDArray[np.int64]) -> None:
    """Set a PCG64 to what `generator_state` returned."""
    state, low, increment, low_increment, kept, word = array.view(np.uint64).tolist()
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": state << 64 | low, "inc": increment << 64 | low_increment},
        "has_uint32": kept,
        "uinteger": word,
    }


def _parts(of: tuple[spaces.Space[object], ...]) -> Iterator[spaces.Space[object]]:
    """Yield spaces and those within them; each has its own generator."""
    for space in of:
        yield space
        if isinstance(space, spaces.Dict):
            yield from _parts(tuple(space.values()))
