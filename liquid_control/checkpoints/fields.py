"""Declarations of the arrays of a state, and checks against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from liquid_control.checkpoints.errors import CheckpointError

Arrays: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Field:
    """The declaration of one array of a state; its numbers must be finite.

    Attributes:
        shape: the length of each axis, or a range of lengths; None allows any.
        kinds: NumPy's letters for the allowed types.
        low: smallest value, a number or an array that broadcasts.
        high: largest value, likewise.
    """

    shape: tuple[int | range | None, ...] = ()
    kinds: str = "f"
    low: Any = -np.inf
    high: Any = np.inf


COUNT = Field(kinds="iu", low=0, high=2**53)
FLAG = Field(kinds="b")


def check_arrays(state: Mapping[str, NDArray[Any]], fields: Mapping[str, Field], what: str) -> None:
    """Check that a state holds the declared arrays and no others.

    Raises:
        CheckpointError: a name, shape, type or number differs from its declaration.
    """
    if different := state.keys() ^ fields.keys():
        raise CheckpointError(
            f"the state of {what} is not as expected: it differs in "
            f"{', '.join(sorted(different))}; use the same arguments as before"
        )
    for name, field in fields.items():
        _check_array(state[name], field, f"{name} of {what}")


def _check_array(array: NDArray[Any], field: Field, name: str) -> None:
    fits = len(array.shape) == len(field.shape) and all(
        wanted in {None, size} or (isinstance(wanted, range) and size in wanted)
        for size, wanted in zip(array.shape, field.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in field.shape)
        raise CheckpointError(f"{name} has shape {list(array.shape)}; expected [{wanted}]")
    if array.dtype.kind not in field.kinds:
        raise CheckpointError(f"{name} has type {array.dtype}; expected one of {field.kinds!r}")
    if not np.isfinite(array).all():
        raise CheckpointError(f"{name} holds numbers that are not finite")
    if array.dtype.kind != "b" and ((array < field.low) | (array > field.high)).any():
        raise CheckpointError(f"{name} is out of range; expected {field.low} to {field.high}")


def check_like(state: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> None:
    """Check that tensors have the names, shapes and types of others, and are finite.

    Raises:
        CheckpointError: they do not.
    """
    if different := state.keys() ^ own.keys():
        raise CheckpointError(f"its {what} differs in {', '.join(sorted(different))}")
    for name, tensor in state.items():
        check_tensor(tensor, own[name], f"{name} of its {what}")


def check_tensor(tensor: Tensor, like: Tensor, name: str) -> None:
    """Check that a tensor has the shape and type of another, and is finite."""
    if tensor.shape != like.shape:
        raise CheckpointError(f"{name} has shape {list(tensor.shape)}; expected {list(like.shape)}")
    if tensor.dtype != like.dtype:
        raise CheckpointError(f"{name} has type {tensor.dtype}; expected {like.dtype}")
    if not tensor.isfinite().all():
        raise CheckpointError(f"{name} holds numbers that are not finite")


def check_known(
    groups: Mapping[str, Mapping[str, Tensor]], own: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """Return tensors, of which some may be missing, moved to the matching tensors' devices.

    Raises:
        CheckpointError: a name is unknown, a shape or type differs, or a number is not finite.
    """
    if unknown := groups.keys() - own.keys():
        raise CheckpointError(f"it holds {', '.join(sorted(unknown))}, which is not used here")
    found = {}
    for name, like in own.items():
        given = groups.get(name, {})
        check_like(given, {key: like[key] for key in given if key in like}, name)
        found[name] = {key: tensor.to(like[key].device) for key, tensor in given.items()}
    return found
