"""Readable names for the entries of observations and actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import mujoco
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv

Names = tuple[str, ...]

_PLACE, _TURN, _QUATERNION = ("x", "y", "z"), ("rx", "ry", "rz"), ("qw", "qx", "qy", "qz")
_AXES = {  # of a joint's position, and of its motion
    mujoco.mjtJoint.mjJNT_FREE: (_PLACE + _QUATERNION, _PLACE + _TURN),
    mujoco.mjtJoint.mjJNT_BALL: (_QUATERNION, _TURN),
}

# Names of observation blocks whose entries are numbered.
_BLOCKS = {"cfrc_ext": "force", "cinert": "inertia", "cvel": "body velocity"}


def observation_names(env: gym.Env[Any, Any]) -> Names:
    """Return a unique name for each entry of an env's observation.

    A joint's position has the name of the joint, such as "bthigh", and its velocity "bthigh'". If
    the layout of the observation is unknown, its entries are numbered: "observation 0".

    Args:
        env: A task, or wrappers around one. A wrapper that selects entries has the attribute
            `indices`; any other wrapper that keeps the size keeps the names.
    """
    size = gym.spaces.flatdim(env.observation_space)
    if not isinstance(env, gym.Wrapper):
        names = tuple(_observed(env))
    elif hasattr(env, "indices"):
        inside = observation_names(env.env)
        names = tuple(inside[index] for index in env.indices)
    else:
        names = observation_names(env.env)
    return _checked(names, "observation", size)


def action_names(env: gym.Env[Any, Any]) -> Names:
    """Return a name for each entry of an env's action: its actuator's, or that of the driven joint.

    Entries without a name are numbered: "action 0".
    """
    task = env.unwrapped
    names = tuple(_actuators(task.model)) if isinstance(task, MujocoEnv) else ()
    return _checked(names, "action", gym.spaces.flatdim(env.action_space))


def _checked(names: Names, what: str, size: int) -> Names:
    """Return the names if each entry has a unique one, else numbers."""
    return names if len(names) == len(set(names)) == size else _numbered(what, size)


def _numbered(what: str, count: int) -> Names:
    return tuple(f"{what} {number}" for number in range(count))


def _observed(task: gym.Env[Any, Any]) -> Iterator[str]:
    """Yield the names of a task's observation, or nothing if its layout is unknown."""
    if not isinstance(task, MujocoEnv):
        return
    positions, motions = _joints(task.model)
    structure = getattr(task, "observation_structure", None)
    if isinstance(structure, Mapping):
        yield from _structured(structure, positions, motions)
    elif isinstance(task, ReacherEnv):
        yield from (f"{of} {joint}" for of in ("cos", "sin") for joint in positions[:2])
        yield from (*positions[2:], *_velocities(motions[:2]), "off target x", "off target y")
    elif isinstance(task, PusherEnv):
        yield from (*positions[:7], *_velocities(motions[:7]))
        yield from (f"{body} {axis}" for body in ("arm tip", "object", "goal") for axis in _PLACE)
    elif isinstance(task, InvertedDoublePendulumEnv):
        yield positions[0]
        yield from (f"{of} {joint}" for of in ("sin", "cos") for joint in positions[1:])
        yield from (*_velocities(motions), f"force {motions[0]}")


def _structured(structure: Mapping[str, int], positions: Names, motions: Names) -> Iterator[str]:
    """Yield the names of an observation, given the names and sizes of its blocks."""
    # Gymnasium omits the first positions, and the torques of joints without an actuator.
    driven = motions[len(motions) - structure.get("qfrc_actuator", 0) :]
    named = {
        "qpos": positions[structure.get("skipped_qpos", 0) :],
        "qvel": _velocities(motions),
        "qfrc_actuator": tuple(f"torque {name}" for name in driven),
    }
    for block, size in structure.items():
        if block != "skipped_qpos":
            names = named.get(block, ())
            yield from names if len(names) == size else _numbered(_BLOCKS.get(block, block), size)


def _joints(model: mujoco.MjModel) -> tuple[Names, Names]:
    """Return names of all positions (nq,) and of all degrees of freedom (nv,) of a model."""
    positions: list[str] = []
    motions: list[str] = []
    for index, kind in enumerate(model.jnt_type):
        name = short_name(model.joint(index).name) or f"joint {index}"
        placed, moved = _AXES.get(mujoco.mjtJoint(kind), ((), ()))
        positions += [f"{name} {axis}" for axis in placed] or [name]
        motions += [f"{name} {axis}" for axis in moved] or [name]
    return tuple(positions), tuple(motions)


def _velocities(motions: Names) -> Names:
    return tuple(f"{name}'" for name in motions)


def _actuators(model: mujoco.MjModel) -> Iterator[str]:
    for index in range(model.nu):
        drives_joint = model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT
        joint = model.joint(model.actuator_trnid[index, 0]).name if drives_joint else ""
        yield short_name(model.actuator(index).name or joint) or f"action {index}"


def short_name(name: str) -> str:
    """Return the name of a joint or an actuator for readers."""
    return name.removesuffix("_joint").replace("_", " ")
