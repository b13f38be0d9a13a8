"""A wrapper that selects part of a task's observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from liquid_control.envs.variable_rate import VariableRate, layers

Part: TypeAlias = Literal["full", "positions", "velocities"]
Observe: TypeAlias = Part | Sequence[int]

# Blocks that depend only on positions or velocities. cvel and ten_velocity depend on both.
_PART_OF = {
    "qpos": "positions",
    "cinert": "positions",
    "ten_length": "positions",
    "qvel": "velocities",
}

# Layouts (name, size) of the tasks that publish no observation_structure. Reacher and Pusher end
# with body positions, InvertedDoublePendulum with a constraint force.
_LAYOUTS: dict[type[gym.Env[Any, Any]], tuple[tuple[str, int], ...]] = {
    ReacherEnv: (("qpos", 6), ("qvel", 2), ("qpos", 2)),
    PusherEnv: (("qpos", 7), ("qvel", 7), ("qpos", 9)),
    InvertedDoublePendulumEnv: (("qpos", 5), ("qvel", 3), ("qfrc_constraint", 1)),
}


class ObserveOnly(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Selects part of a task's observation, a vector (features,).

    "positions" are the entries computed only from the joint positions (angles and their sines,
    body positions and inertias), "velocities" those computed only from the joint velocities.
    Contact and actuator forces and Humanoid's body velocities belong to neither. MuJoCo's body
    positions lag one physics step behind its joint positions.

    Args:
        env: A task, or wrappers around one; `VariableRate` goes around this wrapper.
        part: "full", "positions", "velocities", or the indices of the entries to show. The names
            work for Gymnasium's MuJoCo v5 tasks and for any env with an
            `observation_structure`, a mapping from names such as qpos and qvel to sizes.

    Attributes:
        indices: The entries shown, (entries,).

    Raises:
        TypeError: If the observation is not a vector.
        ValueError: If the part is unknown, empty or out of range, if the layout of the
            observation is unknown, or if the env is wrapped in VariableRate already.
    """

    def __init__(self, env: gym.Env[Any, Any], part: Observe) -> None:
        RecordConstructorArgs.__init__(self, part=part)
        if any(isinstance(layer, VariableRate) for layer in layers(env)):
            raise ValueError(
                "ObserveOnly goes inside VariableRate: VariableRate(ObserveOnly(env, part), ...)"
            )
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise TypeError(f"ObserveOnly needs a Box observation of one axis, got {space}")
        super().__init__(env)
        self.indices = _indices(env.unwrapped, part, space.shape[0])
        self.observation_space = gym.spaces.Box(
            space.low[self.indices], space.high[self.indices], dtype=space.dtype.type
        )

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return the chosen entries as a new array."""
        return observation[self.indices]


def _indices(task: gym.Env[Any, Any], part: Observe, size: int) -> NDArray[np.intp]:
    """Return the entries of an observation of `size` that belong to a part, (entries,)."""
    if not isinstance(part, str):
        return _checked(part, size)
    if part not in get_args(Part):
        raise ValueError(f"observe {part!r} is unknown; use one of {get_args(Part)} or indices")
    if part == "full":
        return np.arange(size)
    names = np.array([name for name, count in _layout(task, size) for _ in range(count)])
    indices = np.flatnonzero([_PART_OF.get(name) == part for name in names])
    if not len(indices):
        raise ValueError(f"the observation of {type(task).__name__} has no {part}")
    return indices


def _layout(task: gym.Env[Any, Any], size: int) -> list[tuple[str, int]]:
    """Return names and sizes of an observation's blocks, in order; the sizes sum to `size`."""
    structure = getattr(task, "observation_structure", None)
    if isinstance(structure, Mapping):
        # skipped_qpos counts entries that are not in the observation.
        blocks = [(name, int(n)) for name, n in structure.items() if name != "skipped_qpos"]
    else:
        blocks = [b for cls, layout in _LAYOUTS.items() if isinstance(task, cls) for b in layout]
    described = sum(count for _, count in blocks)
    if described != size:
        raise ValueError(
            f"the layout of {type(task).__name__}'s observation is unknown: {described} of its "
            f"{size} entries are described; give it an observation_structure, or pass indices, or "
            "observe='full'"
        )
    return blocks


def _checked(part: Sequence[int], size: int) -> NDArray[np.intp]:
    indices = np.asarray(part)
    if indices.ndim != 1 or not len(indices) or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"observe takes a list of indices, got {part!r}")
    if indices.min() < 0 or indices.max() >= size:
        raise ValueError(f"observe indices must lie in 0..{size - 1}, got {part!r}")
    return indices.astype(np.intp)
