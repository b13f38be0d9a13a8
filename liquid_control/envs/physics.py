"""A thin layer over the C API of MuJoCo's batch of simulations.

`mujoco.batch.Batch` takes the same number of physics steps in all simulations. Its C API runs a
function on each simulation; ours (`_hold.c`) takes a different number of steps in each, and
advances actuators between them.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_double, c_int, c_size_t, c_void_p
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import mujoco
import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.actuators import Actuation
from liquid_control.envs.bodies import Bodies, values
from liquid_control.envs.events import Timeline
from liquid_control.envs.tasks.task import STATE, Array, Earlier, Simulations, field

# Forces that only mj_rnePostConstraint computes; a reset sets them to zero.
_FORCES = {"cacc", "cfrc_int", "cfrc_ext"}

# MuJoCo resets a simulation that becomes unstable, and counts one of these warnings.
_UNSTABLE = slice(mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQACC + 1)


class _Config(Structure):
    _fields_ = (("nthread", c_int), ("persistent", c_bool))


class _Field(Structure):
    _fields_ = (("offset", c_size_t), ("size", c_size_t), ("rows", c_void_p))


class _Commands(Structure):
    _fields_ = (
        ("offset", c_size_t),
        ("controls", c_size_t),
        ("slots", c_size_t),
        ("limits", c_size_t),
        ("commands", c_void_p),
        ("issued", c_void_p),
        ("latest", c_void_p),
        ("current", c_void_p),
        ("delay", c_void_p),
        ("changes", c_void_p),
        ("levels", c_void_p),
    )


class _Pushes(Structure):
    _fields_ = (
        ("offset", c_size_t),
        ("count", c_size_t),
        ("bodies", c_void_p),
        ("at", c_void_p),
        ("forces", c_void_p),
        ("kept", c_void_p),
    )


class _Plan(Structure):
    _fields_ = (
        ("step", c_void_p),
        ("forces", c_void_p),
        ("substeps", c_void_p),
        ("now", c_void_p),
        ("fields", POINTER(_Field)),
        ("count", c_size_t),
        ("past", POINTER(_Field)),
        ("past_count", c_size_t),
        ("length", c_size_t),
        ("commands", POINTER(_Commands)),
        ("pushes", POINTER(_Pushes)),
    )


class _Owner:
    """Referenced by Physics and all arrays of a batch's memory; its destruction frees the batch."""


class Physics:
    """Many simulations of one model, each with its own number of substeps, on a pool of threads.

    Results do not depend on the number of threads, and equal those of mj_step on one MjData.

    Args:
        model: The MjModel; a copy is simulated.
        count: Number of simulations.
        threads: Threads of the pool, the caller's included.
        reads: Fields of MjData to provide in addition to qpos, qvel and ctrl.
        past: Physics steps for which these fields are kept, for `earlier`.
        actuation: The commands of the actuators; None: `step` sets the controls.
        bodies: The values of the model that differ between simulations, or None.
        timeline: The next pushes, or None.

    Attributes:
        simulations: Fields of MjData, as arrays of all simulations.
        memory: The arrays that a step depends on, not copied: the state of each simulation, and
            the fields that tasks read from the last step and from earlier ones.
        now: Physics steps since the reset of each simulation, (simulations,), set by the caller.
    """

    def __init__(
        self,
        model: Any,
        count: int,
        threads: int,
        reads: Sequence[str],
        *,
        past: int = 0,
        actuation: Actuation | None = None,
        bodies: Bodies | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        self._mujoco = library()
        self._model = model
        message = ctypes.create_string_buffer(1000)
        config = _Config(threads, False)
        self._batch = self._mujoco.mjb_makeBatch(
            model._address, count, byref(config), message, len(message)
        )
        if not self._batch:
            raise ValueError(f"MuJoCo cannot simulate this model in a batch: {message.value!r}")
        self._owner = _Owner()
        weakref.finalize(self._owner, self._mujoco.mjb_deleteBatch, self._batch)

        size = self._mujoco.mjb_nstate(self._batch)
        self._state = self._array("mjb_state", c_double, (count, size))
        warnings = self._array("mjb_warning", c_int, (count, mujoco.mjtWarning.mjNWARNING, 2))
        self._unstable = warnings[:, _UNSTABLE, 1]
        self._status = self._array("mjb_status", c_int, (count,))
        template = mujoco.MjData(model)
        read = {
            name: np.zeros((count, *field(template, name).shape))
            for name in reads
            if name not in STATE
        }
        state = {name: self._component(bit) for name, bit in STATE.items()}
        self.simulations = Simulations(model, state | read)
        self._forces = [read[name] for name in read if name in _FORCES]
        self._length = length = past + 1 if past else 0
        self._past: dict[str, Array] = {
            name: np.zeros((count, length, *rows.shape[1:]))
            for name, rows in (state | read).items()
            if length and rows[0].size
        }
        self.memory: dict[str, Array] = {"state": self._state} | read
        self.memory |= {f"past.{name}": rows for name, rows in self._past.items()}
        self._bodies = bodies
        self._values = {
            name: self._expanded(name) for name in (bodies.fields if bodies is not None else ())
        }
        if "body_mass" in self._values:
            self.simulations.body_mass = self._values["body_mass"]

        fields = _fields(template, read, {name: rows[0].nbytes for name, rows in read.items()})
        rings = _fields(
            template, self._past, {name: rows[0, 0].nbytes for name, rows in self._past.items()}
        )
        self._substeps = np.zeros(count, np.int32)
        self.now = np.zeros(count, np.int32)
        self._once = np.ones(count, np.int32)
        self._first = np.arange(count) * length
        forces = self._mujoco.mj_rnePostConstraint if self._forces else None
        self._commands, self._referred = _commands(actuation, template), (actuation, timeline)
        self._stepping = _plan(
            self._mujoco.mj_step, forces, self._substeps, self.now, fields, rings, length,
            self._commands, _pushes(timeline, template),
        )  # fmt: skip
        self._starting = _plan(
            self._mujoco.mj_forward, None, self._once, self.now, fields, (), 0, None, None
        )
        self._hold = import_module("liquid_control.envs._hold").ADDRESS

    def __getstate__(self) -> NoReturn:
        """Refuse copies, as the simulations are in MuJoCo's memory."""
        raise TypeError(
            "simulations that are stepped together cannot be copied or pickled; make others with "
            "envs.make_vec, or copy envs that are stepped one by one, with threads=0"
        )

    def step(
        self,
        ctrl: NDArray[Any],
        substeps: NDArray[np.integer[Any]],
        which: NDArray[np.integer[Any]] | None = None,
    ) -> NDArray[np.intp]:
        """Hold controls (simulations, actuators) for `substeps` (simulations,) physics steps.

        Args:
            ctrl: Ignored where the actuators follow commands.
            substeps: At least one in the simulations that are stepped.
            which: Indices of these simulations, ascending; None: all.

        Returns:
            Indices of the simulations that became unstable, (unstable,). MuJoCo has reset them
            to the model's defaults.
        """
        if self._commands is None:
            self.simulations.ctrl[:] = ctrl
        self._substeps[:] = substeps
        ids = None if which is None else np.ascontiguousarray(which, np.int32)
        if not self._apply(self._stepping, ids) and not self._unstable.any():
            return np.empty(0, np.intp)
        return np.flatnonzero(self._unstable.any(axis=1) | (self._status != 0))

    def earlier(self, now: NDArray[np.integer[Any]]) -> Simulations:
        """Return all simulations as they were `now` physics steps after their resets.

        Args:
            now: At most `past` steps ago, (simulations,).
        """
        return Earlier(self.simulations, self._past, self._first + now % self._length)

    def embody(self, which: NDArray[np.integer[Any]]) -> None:
        """Write the values of `bodies` to the models of the simulations `which`."""
        stale = []
        for index in which.tolist():
            fields = {name: rows[index] for name, rows in self._values.items()}
            assert self._bodies is not None
            if self._bodies.write(index, fields):
                stale.append(index)
        if stale:
            ids = np.array(stale, np.int32)
            if self._mujoco.mjb_setConst(self._batch, ids.ctypes.data, len(ids)):
                raise RuntimeError("MuJoCo cannot compute the constants of the changed models")

    def reset(self, which: NDArray[np.integer[Any]], qpos: Array, qvel: Array) -> None:
        """Reset the simulations `which`, (which,) ascending, to positions and velocities."""
        ids = np.ascontiguousarray(which, np.int32)
        self._mujoco.mjb_reset(self._batch, ids.ctypes.data, len(ids), None, 0)
        self.simulations.qpos[ids] = qpos
        self.simulations.qvel[ids] = qvel
        if self._apply(self._starting, ids):
            failed = int(ids[self._status[ids] != 0][0])
            text = self._mujoco.mjb_error(self._batch, failed).decode()
            raise RuntimeError(f"MuJoCo cannot start simulation {failed}: {text}")
        for array in self._forces:
            array[ids] = 0.0
        for name, ring in self._past.items():
            ring[ids, 0] = getattr(self.simulations, name)[ids]

    def load(self, which: int, data: Any) -> None:
        """Copy one simulation into an MjData and its model, and run mj_forward."""
        if self._values:
            self._mujoco.mjb_getModel(self._batch, which, self._model._address)
        self._mujoco.mjb_getData(self._batch, which, data._address)
        mujoco.mj_forward(self._model, data)

    def store(self, which: int, data: Any) -> None:
        """Copy the state of an MjData into one simulation."""
        mujoco.mj_getState(
            self._model, data, self._state[which], mujoco.mjtState.mjSTATE_INTEGRATION
        )

    def _array(self, name: str, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return memory of the batch as an array; `name` is the MuJoCo function that returns it."""
        start = getattr(self._mujoco, name)(self._batch)
        memory = (kind * int(np.prod(shape))).from_address(start)
        memory.owner = self._owner
        return np.ctypeslib.as_array(memory).reshape(shape)

    def _component(self, bit: int) -> Array:
        """Return a view of one component of all states, (simulations, size)."""
        size = c_int()
        start = self._mujoco.mjb_stateComponent(self._batch, int(bit), byref(size))
        offset = (start - self._mujoco.mjb_state(self._batch)) // ctypes.sizeof(c_double)
        return self._state[:, offset : offset + size.value]

    def _expanded(self, name: str) -> Array:
        """Give each simulation its own values of a field of MjModel; return them."""
        size, item = c_int(), c_int()
        start = self._mujoco.mjb_expand(self._batch, name.encode(), byref(size), byref(item))
        if not start or item.value != ctypes.sizeof(c_double):
            raise RuntimeError(f"MuJoCo cannot give each simulation its own {name}")
        count, template = len(self._state), values(self._model, name)
        memory = (c_double * (count * size.value)).from_address(start)
        memory.owner = self._owner  # type: ignore[attr-defined]
        rows: Array = np.ctypeslib.as_array(memory).reshape(count, *template.shape)
        return rows

    def _apply(self, plan: _Plan, ids: NDArray[np.int32] | None) -> int:
        """Run a plan on some simulations, or on all; return the number of failures."""
        some, count = (None, len(self._state)) if ids is None else (ids.ctypes.data, len(ids))
        failed: int = self._mujoco.mjb_apply(self._batch, some, count, self._hold, byref(plan), 1)
        return failed


@cache
def library() -> Any:
    """Return MuJoCo's C library, already loaded by `mujoco`.

    Raises:
        RuntimeError: If it is too old for batches, or `_hold.c` was not compiled.
    """
    folder = Path(mujoco.__file__).parent
    path = next(
        path for path in folder.iterdir() if path.name.startswith(("libmujoco.", "mujoco.dll"))
    )
    functions = ctypes.CDLL(str(path))
    if not hasattr(functions, "mjb_makeBatch"):
        raise RuntimeError(f"mujoco {mujoco.__version__} has no batches; install 4.0 or newer")
    try:
        import_module("liquid_control.envs._hold")
    except ImportError as error:
        raise RuntimeError(
            f"the compiled part of liquid_control.envs is missing ({error}); install a C compiler "
            f"and reinstall liquid_control"
        ) from error
    for name, result, arguments in (
        ("mjb_makeBatch", c_void_p, (c_void_p, c_int, POINTER(_Config), c_char_p, c_int)),
        ("mjb_deleteBatch", None, (c_void_p,)),
        ("mjb_nstate", c_int, (c_void_p,)),
        ("mjb_state", c_void_p, (c_void_p,)),
        ("mjb_stateComponent", c_void_p, (c_void_p, c_int, POINTER(c_int))),
        ("mjb_warning", c_void_p, (c_void_p,)),
        ("mjb_status", c_void_p, (c_void_p,)),
        ("mjb_error", c_char_p, (c_void_p, c_int)),
        ("mjb_apply", c_int, (c_void_p, c_void_p, c_int, c_void_p, POINTER(_Plan), c_int)),
        ("mjb_reset", c_int, (c_void_p, c_void_p, c_int, c_void_p, c_int)),
        ("mjb_getData", None, (c_void_p, c_int, c_void_p)),
        ("mjb_getModel", None, (c_void_p, c_int, c_void_p)),
        ("mjb_expand", c_void_p, (c_void_p, c_char_p, POINTER(c_int), POINTER(c_int))),
        ("mjb_setConst", c_int, (c_void_p, c_void_p, c_int)),
    ):
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    return functions


def _plan(
    step: Any,
    forces: Any,
    substeps: NDArray[np.int32],
    now: NDArray[np.int32],
    fields: Any,
    past: Any,
    length: int,
    commands: _Commands | None,
    pushes: _Pushes | None,
) -> _Plan:
    step, forces = (ctypes.cast(function, c_void_p) for function in (step, forces))
    return _Plan(
        step=step,
        forces=forces,
        substeps=substeps.ctypes.data,
        now=now.ctypes.data,
        fields=fields,
        count=len(fields),
        past=past or None,
        past_count=len(past),
        length=length,
        commands=None if commands is None else ctypes.pointer(commands),
        pushes=None if pushes is None else ctypes.pointer(pushes),
    )


def _fields(template: Any, rows: dict[str, Array], sizes: dict[str, int]) -> Any:
    """Return the copies to make of an MjData's fields, with their sizes in bytes."""
    return (_Field * len(rows))(
        *(
            _Field(_offset(name, template), sizes[name], array.ctypes.data)
            for name, array in rows.items()
        )
    )


def _commands(actuation: Actuation | None, template: Any) -> _Commands | None:
    """Return the arrays of actuators for `_hold.c`, not copied."""
    if actuation is None:
        return None
    _, slots, controls = actuation.commands.shape
    arrays = ("commands", "issued", "latest", "current", "delay", "changes", "levels")
    return _Commands(
        offset=_offset("ctrl", template),
        controls=controls,
        slots=slots,
        limits=len(actuation.changes),
        **{name: getattr(actuation, name).ctypes.data for name in arrays},
    )


def _pushes(timeline: Timeline | None, template: Any) -> _Pushes | None:
    """Return the arrays of pushes for `_hold.c`, not copied."""
    if timeline is None:
        return None
    kept = np.zeros_like(timeline.force)
    pushes = _Pushes(
        offset=_offset("xfrc_applied", template),
        count=len(timeline.pushed),
        bodies=timeline.pushed.ctypes.data,
        at=timeline.at.ctypes.data,
        forces=timeline.force.ctypes.data,
        kept=kept.ctypes.data,
    )
    pushes.owner = kept
    return pushes


def _offset(name: str, template: Any) -> int:
    """Return the offset of a field's pointer in mjData, by searching for its address.

    All mjData of a model have the same layout. A field that is empty in this model may have the
    same address; the first match is then equally valid.
    """
    pointer, offset = getattr(template, name).ctypes.data, 0
    while c_void_p.from_address(template._address + offset).value != pointer:
        offset += ctypes.sizeof(c_void_p)
    return offset
