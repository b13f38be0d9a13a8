"""What a task sees of its simulations."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STATE = {
    "qpos": mujoco.mjtState.mjSTATE_QPOS,
    "qvel": mujoco.mjtState.mjSTATE_QVEL,
    "ctrl": mujoco.mjtState.mjSTATE_CTRL,
}
"""Fields of MjData that every task has; the others it lists in `Task.reads`."""


class Simulations:
    """Fields of MjData by their names, each an array of all simulations, (simulations, ...).

    The arrays are live. As after mj_step, positions of bodies and forces are those from which the
    last physics step was computed.

    Attributes:
        model: The MjModel.
    """

    def __init__(self, model: Any, fields: dict[str, Array]) -> None:
        self.model = model
        self._fields = fields
        self.__dict__ |= fields

    @classmethod
    def of(cls, model: Any, data: Any, reads: Iterable[str]) -> Simulations:
        """Return a single simulation, an MjData."""
        views = {name: field(data, name)[None] for name in (*STATE, *reads)}
        return cls(model, views)

    def __getattr__(self, name: str) -> Array:
        # Asked only for what is not there; the type is for those that are.
        raise AttributeError(
            f"the task reads {name!r} and has {', '.join(self.__dict__.get('_fields', ()))}; "
            f"list it in the `reads` of the task"
        )

    @cached_property
    def bodies(self) -> dict[str, int]:
        """Numbers of the bodies by name."""
        return {self.model.body(body).name: body for body in range(self.model.nbody)}


def field(data: Any, name: str) -> Array:
    """Return a field of an MjData as a live array; ValueError if tasks cannot read it."""
    array = getattr(data, name, None)
    if not isinstance(array, np.ndarray) or array.dtype != np.float64 or not array.size:
        raise ValueError(
            f"{name!r} is no field of MjData that this task can read; one is 'xpos', for example"
        )
    return array
