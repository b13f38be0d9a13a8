"""Units of the entries of observations and actions, where a MuJoCo model defines them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv

from liquid_control.envs.names import short_name

Units = tuple[str, ...]

_LENGTHS, _ANGLES, _NUMBERS = ("x", "y", "z"), ("rx", "ry", "rz"), ("qw", "qx", "qy", "qz")
_HINGE, _SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)


def observation_units(env: gym.Env[Any, Any], names: Sequence[str]) -> Units:
    """Return the unit of each entry of an observation, "" where it is unknown.

    Args:
        env: A task, or wrappers around one.
        names: From `observation_names`.
    """
    task = env.unwrapped
    known = dict(_joint_units(task.model)) if isinstance(task, MujocoEnv) else {}
    known["age"] = "s"
    return tuple(
        known.get(name, "1" if name.startswith(("sin ", "cos ")) else "") for name in names
    )


def action_units(env: gym.Env[Any, Any]) -> Units:
    """Return the unit of each entry of an action, "" where it is unknown.

    The unit of a motor is the effort of one unit of the action, such as "120 N m"; that of a servo
    is the unit of its target.
    """
    task, space = env.unwrapped, env.action_space
    if not isinstance(task, MujocoEnv) or not isinstance(space, gym.spaces.Box):
        return ("",) * gym.spaces.flatdim(space)
    model = task.model
    bounds = np.stack([space.low, space.high], axis=-1)
    if bounds.shape != (model.nu, 2) or not np.allclose(bounds, model.actuator_ctrlrange):
        return ("",) * gym.spaces.flatdim(space)  # a wrapper changes what actions mean
    return tuple(_actuator_units(model))


def joint_names(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """Return the model's names of the joints that actions drive."""
    task = env.unwrapped
    if not isinstance(task, MujocoEnv):
        return ()
    model = task.model
    driven = model.actuator_trntype == int(mujoco.mjtTrn.mjTRN_JOINT)
    joints = dict.fromkeys(model.actuator_trnid[driven, 0].tolist())
    return tuple(model.joint(joint).name for joint in joints)


def _joint_units(model: mujoco.MjModel) -> Iterator[tuple[str, str]]:
    """Yield names as in `observation_names`, and their units."""
    for index, kind in enumerate(model.jnt_type.tolist()):
        name = short_name(model.joint(index).name) or f"joint {index}"
        if kind in (_HINGE, _SLIDE):
            place, torque = ("rad", "N m") if kind == _HINGE else ("m", "N")
            yield from ((name, place), (f"{name}'", f"{place}/s"), (f"torque {name}", torque))
            yield f"force {name}", torque
            continue
        yield from ((f"{name} {axis}", "1") for axis in _NUMBERS)
        yield from ((f"{name} {axis}'", "rad/s") for axis in _ANGLES)
        for axis in _LENGTHS:
            yield from ((f"{name} {axis}", "m"), (f"{name} {axis}'", "m/s"))


def _actuator_units(model: mujoco.MjModel) -> Iterator[str]:
    fixed, affine = int(mujoco.mjtGain.mjGAIN_FIXED), int(mujoco.mjtBias.mjBIAS_AFFINE)
    none = int(mujoco.mjtBias.mjBIAS_NONE)
    joint, dynamic = int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtDyn.mjDYN_NONE)
    for index in range(model.nu):
        kind = int(model.jnt_type[model.actuator_trnid[index, 0]])
        plain = (
            model.actuator_trntype[index] == joint
            and model.actuator_gaintype[index] == fixed
            and model.actuator_dyntype[index] == dynamic
            and kind in (_HINGE, _SLIDE)
        )
        place, effort = ("rad", "N m") if kind == _HINGE else ("m", "N")
        gain, gear = model.actuator_gainprm[index, 0], model.actuator_gear[index, 0]
        bias = model.actuator_biasprm[index]
        if plain and model.actuator_biastype[index] == none:
            scale = f"{gain * gear:g} "
            yield f"{'' if scale == '1 ' else scale}{effort}"
        elif plain and model.actuator_biastype[index] == affine and gear == 1 and not bias[0]:
            servos = {(-gain, True): place, (0.0, False): f"{place}/s"}
            yield servos.get((bias[1], bool(bias[1])), "")
        else:
            yield ""
