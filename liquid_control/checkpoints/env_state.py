"""The state of objects that live on in another process, as far as it can be seen.

What the steps to come of an environment depend on is looked for in all of its attributes and in
those of its parts: wrappers, simulations, random generators, clocks, running statistics. All of
them must be of kinds that are known here, for a state that is overlooked would change the episode;
an environment with other parts, such as processes of its own, is refused by name.

Nothing is built from what was put down. Numbers, names and arrays take the place of their like in
an object that was made with the same arguments; functions, spaces and paths stay.
"""

from __future__ import annotations

import enum
import io
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from itertools import chain, repeat
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any, TypeAlias

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

Arrays: TypeAlias = dict[str, NDArray[Any]]

# What may change into one another as an environment is stepped.
PLAIN = (NoneType, str, bool, int, float, enum.Enum, np.generic, np.ndarray)
# What stays as it is.
CODE = (FunctionType, MethodType, BuiltinFunctionType, ModuleType, type)
FIXED = (*CODE, bytes, PurePath, np.dtype, io.IOBase, gym.Space, EnvSpec, mujoco.MjSpec)
DRAWN = ("pygame", "glfw", "mujoco.renderer", "gymnasium.envs.mujoco.mujoco_rendering")
# Attributes that no step depends on: what was told last, and what is known of a class.
TOLD = {"buf_infos", "reset_infos", "class_attributes", "metadata", "results_writer"}
# Packages whose objects are looked through, beside all environments and dataclasses.
OPEN = {"gymnasium", "stable_baselines3", "liquid_control"}
# Arrays of MjData that follow from the others and have no fixed size, and shapes of MjModel; last,
# what holds addresses.
FLEETING = ("efc_", "iefc_", "efm_", "island_", "map_", "plugin")
SHAPES = ("mesh_", "hfield_", "tex_", "skin_", "bvh_", "oct_", "flex_", "plugin")
PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION
STATE = ""  # its name among the arrays of a simulation

Simulated: TypeAlias = mujoco.MjData | mujoco.MjModel
SIMULATED = (mujoco.MjData, mujoco.MjModel)


class CannotPutDownError(TypeError):
    """An environment has a part whose state cannot be seen."""


def put_down(value: Any, name: str) -> tuple[Any, Arrays]:
    """All that can change of a value, as JSON and as arrays; `name` is its own for complaints.

    A part with methods `snapshot` and `restore` of its own, such as the environments of
    `envs.make_vec`, is asked.

    Raises:
        CannotPutDownError: It has a part of an unknown kind, which is named.
    """
    arrays: Arrays = {}
    return _note(value, name, arrays, {}), arrays


def take_up(value: Any, notes: Any, arrays: Mapping[str, NDArray[Any]], name: str) -> None:
    """Let a value, made with the same arguments, become in place what was put down.

    Raises:
        ValueError: It was made with other arguments.
    """
    _Taking(arrays).take(value, notes, name)


def _note(value: Any, path: str, arrays: Arrays, seen: dict[int, str]) -> Any:
    """Note a value; its arrays go to `arrays`. None stands for what stays as it is."""
    if isinstance(value, PLAIN):
        return _note_plain(value, path, arrays)
    if _stays(value):
        return None
    if isinstance(value, tuple):
        return {"tuple": [_note(part, at, arrays, seen) for _, part, at in _parts(value, path)]}
    if id(value) in seen:
        return {"same": seen[id(value)]}
    seen[id(value)] = path
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, SIMULATED):
        arrays |= {f"{path}/{name}": array for name, array in _put_down(value).items()}
        return {"simulation": None}
    if hasattr(type(value), "snapshot") and hasattr(type(value), "restore"):
        notes, own = value.snapshot()
        arrays |= {f"{path}/{name}": array for name, array in own.items()}
        return {"own": notes}
    kind = _kind(value, path)
    parts = _parts(value, path)
    return {kind: [[key, _note(part, at, arrays, seen)] for key, part, at in parts]}


def _note_plain(value: Any, path: str, arrays: Arrays) -> Any:
    if isinstance(value, enum.Enum):
        return {"member": value.name}
    if isinstance(value, str):  # a place among files stays
        return None if {"/", "\\"} & set(value) else {"value": value}
    if isinstance(value, (np.generic, np.ndarray)):
        if value.dtype.kind in "SU":
            return None
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            raise CannotPutDownError(f"{path}, an array of {value.dtype},")
        arrays[path] = np.array(value)
        return {"array": isinstance(value, np.ndarray)}
    finite = not isinstance(value, float) or math.isfinite(value)
    return {"value": value} if finite else {"float": str(value)}


class _Taking:
    """Puts what was noted, with its arrays, in the place of what is there."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays
        self.made: dict[str, Any] = {}  # by path

    def take(self, value: Any, note: Any, path: str) -> Any:
        """What a value becomes; what has parts becomes it in place."""
        if note is None:
            return value
        ((kind, noted),) = note.items()
        if kind == "same":
            return self.made[noted]
        if kind in {"value", "float", "array", "member", "tuple"}:
            return self._plain(value, kind, noted, path)
        if value is None and kind in {"list", "dict"}:
            value = [] if kind == "list" else {}
        self.made[path] = value
        if kind == "generator" and isinstance(value, np.random.Generator):
            value.bit_generator.state = noted
        elif kind == "simulation" and isinstance(value, SIMULATED):
            _take_up(value, _below(path, self.arrays))
        elif kind == "own" and hasattr(type(value), "restore"):
            value.restore(noted, _below(path, self.arrays))
        elif kind == _kind(value, path):
            self._parts(value, noted, path)
        else:
            raise _otherwise(path, value)
        return value

    def _plain(self, value: Any, kind: str, noted: Any, path: str) -> Any:
        if kind == "member" and isinstance(value, enum.Enum):
            return type(value)[noted]
        if kind == "member" or not isinstance(value, (*PLAIN, list, tuple, dict)):
            raise _otherwise(path, value)
        if kind == "tuple":
            there = chain(value if isinstance(value, tuple) else (), repeat(None))
            parts = enumerate(zip(there, noted, strict=False))
            return tuple(self.take(part, below, f"{path}.{key}") for key, (part, below) in parts)
        if kind == "array":
            return _array(value, self.arrays[path], is_scalar=not noted)
        return float(noted) if kind == "float" else noted

    def _parts(self, value: Any, noted: list[tuple[Any, Any]], path: str) -> None:
        there = {key: part for key, part, _ in _parts(value, path)}
        parts = {
            key: self.take(there.get(key), below, f"{path}.{key}")
            for key, below in noted
            if below is not None or key in there
        }
        if isinstance(value, (list, deque)):
            value.clear()
            value.extend(parts.values())
        elif isinstance(value, dict):
            value.clear()
            value.update(parts)
        else:
            vars(value).update(parts)


def _kind(value: Any, path: str) -> str:
    """What a value with parts is; a CannotPutDownError if they may not be all there is to it."""
    if isinstance(value, (list, deque)):
        return "list"
    if isinstance(value, dict):
        if all(isinstance(key, (str, int, NoneType)) for key in value):
            return "dict"
        raise CannotPutDownError(f"{path}, whose keys are neither names nor numbers,")
    module = type(value).__module__
    known = isinstance(value, (gym.Env, VecEnv)) or is_dataclass(value)
    if hasattr(value, "__dict__") and (known or module.partition(".")[0] in OPEN):
        return "object"
    raise CannotPutDownError(f"{path}, a {module}.{type(value).__name__},")


def _parts(value: Any, path: str) -> list[tuple[Any, Any, str]]:
    """Keys, parts, and the paths of the parts."""
    if isinstance(value, dict):
        parts = value
    elif isinstance(value, (list, tuple, deque)):
        parts = dict(enumerate(value))
    else:
        parts = {name: part for name, part in vars(value).items() if name not in TOLD}
    return [(key, part, f"{path}.{key}") for key, part in parts.items()]


def _array(value: Any, array: NDArray[Any], *, is_scalar: bool) -> Any:
    """An array in the place of a value; into it if it fits, for others may look at that."""
    if is_scalar:
        return array[()]
    if not isinstance(value, np.ndarray) or not value.flags.writeable:
        return array.copy()
    if (value.shape, value.dtype) != (array.shape, array.dtype):
        return array.copy()
    value[...] = array
    return value


def _below(path: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """The arrays of one part, by their names in it."""
    own = f"{path}/"
    return {name.removeprefix(own): array for name, array in arrays.items() if name.startswith(own)}


def _put_down(simulated: Simulated) -> Arrays:
    arrays = {name: array.copy() for name, array in _live(simulated)}
    if isinstance(simulated, mujoco.MjData):
        arrays[STATE] = np.empty(mujoco.mj_stateSize(simulated.model, PHYSICS))
        mujoco.mj_getState(simulated.model, simulated, arrays[STATE], PHYSICS)
    return arrays


def _take_up(simulated: Simulated, arrays: Arrays) -> None:
    if isinstance(simulated, mujoco.MjData):
        mujoco.mj_setState(simulated.model, simulated, arrays[STATE], PHYSICS)
        mujoco.mj_forward(simulated.model, simulated)  # contacts, and whatever has no fixed size
        mujoco.mj_setState(simulated.model, simulated, arrays[STATE], PHYSICS)
    for name, array in _live(simulated):
        array[...] = arrays[name]


def _otherwise(path: str, value: Any) -> ValueError:
    return ValueError(
        f"{path} is a {type(value).__name__} here, and was another kind of thing where it was put "
        "down; make it with the same arguments"
    )


def _stays(value: Any) -> bool:
    module = f"{type(value).__module__}."
    return isinstance(value, FIXED) or any(module.startswith(f"{each}.") for each in DRAWN)


def _live(simulated: Simulated) -> Iterator[tuple[str, NDArray[Any]]]:
    """Arrays of a simulation that a task may read before its next step; those of its model.

    A model is as it was made, unless an environment draws masses or gravity at random.
    """
    is_model = isinstance(simulated, mujoco.MjModel)
    holders = {"": simulated, "opt.": simulated.opt} if is_model else {"": simulated}
    for prefix, holder in holders.items():
        for name in dir(holder):
            if not name.startswith(("_", *(SHAPES if is_model else FLEETING))):
                array = getattr(holder, name)
                if isinstance(array, np.ndarray) and array.dtype.kind in "biuf":
                    yield prefix + name, array
