"""Convert Gymnasium spaces and SB3 schedules to JSON and back; no other class is built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from liquid_control.checkpoints.errors import CheckpointError

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
TYPES = ("float16", "float32", "float64", "bool", *INTEGERS)
LARGEST = 2**24  # numbers in one space


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return a space as JSON.

    Raises:
        TypeError: our agents do not support the space.
    """
    match space:
        case spaces.Box():
            return {
                "kind": "box",
                "shape": list(space.shape),
                "dtype": str(space.dtype),
                "low": _bounds(space.low),
                "high": _bounds(space.high),
            }
        case spaces.Discrete():
            count, start = int(space.n), int(space.start)
            return {"kind": "discrete", "n": count, "start": start, "dtype": str(space.dtype)}
        case spaces.MultiDiscrete():
            counts, start = space.nvec.tolist(), space.start.tolist()
            dtype = str(space.dtype)
            return {"kind": "multi_discrete", "nvec": counts, "start": start, "dtype": dtype}
        case spaces.MultiBinary():
            counted = isinstance(space.n, int)
            return {"kind": "multi_binary", "shape": list(space.shape), "counted": counted}
        case spaces.Dict():
            return {
                "kind": "dict",
                "spaces": [[name, space_to_json(part)] for name, part in space.items()],
            }
    raise TypeError(f"a checkpoint cannot hold the space {space}")


def space_from_json(data: Any) -> spaces.Space[Any]:
    """Invert `space_to_json`.

    Raises:
        CheckpointError: the data does not describe a space.
    """
    try:
        return _space(data)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"it describes an impossible space: {error!r}") from error


def _space(data: Mapping[str, Any]) -> spaces.Space[Any]:
    match data["kind"]:
        case "box":
            shape, dtype = _shape(data["shape"]), _type(data["dtype"], TYPES)
            low, high = (_spread(data[name], shape, dtype) for name in ("low", "high"))
            return spaces.Box(low, high, shape, dtype.type)
        case "discrete":
            dtype = _type(data.get("dtype", "int64"), INTEGERS)
            other: Any = {} if dtype == np.int64 else {"dtype": dtype.type}  # Gymnasium 1.3
            return spaces.Discrete(int(data["n"]), start=int(data["start"]), **other)
        case "multi_discrete":
            dtype = _type(data.get("dtype", "int64"), INTEGERS)
            counts = np.array(data["nvec"], np.int64)
            return spaces.MultiDiscrete(counts, dtype.type, start=data.get("start"))
        case "multi_binary":
            shape = _shape(data["shape"])
            if not data.get("counted", len(shape) == 1):
                return spaces.MultiBinary(shape)
            (size,) = shape
            return spaces.MultiBinary(size)
        case "dict":
            return spaces.Dict([(str(name), _space(part)) for name, part in data["spaces"]])
    raise ValueError(f"kind {data['kind']!r}")


def _type(name: Any, known: Sequence[str]) -> np.dtype[Any]:
    if name not in known:
        raise ValueError(f"numbers of type {name!r}")
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def _bounds(values: NDArray[Any]) -> list[str | float]:
    """Bounds as numbers, infinite ones as text; a single one if all are equal."""
    flat = values.ravel()
    if len(flat) and (flat == flat[0]).all():
        flat = flat[:1]
    return [number if math.isfinite(number) else str(number) for number in flat.tolist()]


def _spread(bounds: list[str | float], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    values = np.array([float(bound) if isinstance(bound, str) else bound for bound in bounds])
    values = values.astype(dtype)
    whole = len(values) == math.prod(shape)
    return values.reshape(shape) if whole else np.broadcast_to(values, shape)


def _shape(sizes: list[int]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in sizes)
    if min(shape, default=0) < 0 or math.prod(shape) > LARGEST:
        raise ValueError(f"shape {list(shape)}")
    return shape


UNKNOWN = {"kind": "function"}
"""A schedule that a file cannot hold; it must be passed to `load`."""


def schedule_to_json(schedule: Any) -> Any:
    """Return a number, None or linear schedule as JSON; `UNKNOWN` for other functions."""
    match schedule:
        case FloatSchedule():
            return schedule_to_json(schedule.value_schedule)
        case ConstantSchedule():
            return float(schedule.val)
        case LinearSchedule():
            ends = {"start": schedule.start, "end": schedule.end}
            return {"kind": "linear", **ends, "end_fraction": schedule.end_fraction}
    return UNKNOWN if callable(schedule) else schedule


def schedule_from_json(data: Any) -> Any:
    """Invert `schedule_to_json`; other data is returned unchanged."""
    if isinstance(data, dict) and data.get("kind") == "linear":
        return LinearSchedule(float(data["start"]), float(data["end"]), float(data["end_fraction"]))
    return data


def without_numpy(value: Any) -> Any:
    """Return a value with Python's numbers for NumPy's."""
    match value:
        case np.generic():
            return value.item()
        case dict():
            return {name: without_numpy(part) for name, part in value.items()}
        case list() | tuple():
            return [*map(without_numpy, value)]
    return value
