"""Pictures of a robot: placement of the camera, and choice of the renderer."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from itertools import product
from textwrap import shorten
from types import TracebackType
from typing import ClassVar, Protocol, Self, TypeAlias

import mujoco
import numpy as np
from numpy.typing import NDArray

from liquid_control.monitoring.film.opengl import OpenGL
from liquid_control.monitoring.film.software_renderer import SoftwareRenderer

Array: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]
Joint, Geom = mujoco.mjtJoint, mujoco.mjtGeom

POSES = 64  # poses of a film used to place the camera
FILLED = 0.88  # share of the picture that the robot fills at most
STEEPEST, FROM_ABOVE, FROM_THE_SIDE = -25.0, -75.0, -8.0  # degrees


class Painter(Protocol):
    """A renderer of scenes."""

    def paint(self, scene: mujoco.MjvScene) -> NDArray[np.uint8]:
        """Return a picture, (height, width, 3)."""

    def close(self) -> None:
        """Free all resources."""


@dataclass(frozen=True)
class Viewpoint:
    """The position and direction of the camera.

    Attributes:
        lookat: (3,) metres; x and y relative to the centre of mass of the tracked body.
        distance: Distance from `lookat` in metres.
        azimuth: Degrees about the vertical; 90 looks along y.
        elevation: Degrees; negative values look down.
        follows: The index of the tracked body, or None for a fixed camera.
    """

    lookat: Array
    distance: float
    azimuth: float
    elevation: float
    follows: int | None

    def camera(self, data: mujoco.MjData) -> mujoco.MjvCamera:
        """Return the camera for the current position of the robot."""
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = self.lookat + _place(data, self.follows)
        camera.distance = self.distance
        camera.azimuth, camera.elevation = self.azimuth, self.elevation
        return camera


class Scene:
    """Renders a robot, by OpenGL if available and in software otherwise.

    The camera is placed once, so that the robot is visible in all of the given poses, and tracks a
    robot that moves freely. The model is not changed.

    Args:
        model: The robot.
        states: (poses, size) states of its simulation, mjSTATE_INTEGRATION.
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
    """

    _warned: ClassVar[bool] = False

    def __init__(self, model: mujoco.MjModel, states: Array, *, width: int, height: int) -> None:
        self._model = copy(model)
        self._viewpoint = viewpoint(self._model, states, width / height)
        self._scene = mujoco.MjvScene(self._model, 1000 + 4 * self._model.ngeom)
        self._software = SoftwareRenderer(self._model, width, height)
        self._painter: Painter = self._software
        try:
            self._painter = OpenGL(self._model, width, height)
        except Exception as error:  # drivers raise errors of any type
            self._warn(error)

    def picture(self, data: mujoco.MjData) -> NDArray[np.uint8]:
        """Return a picture of the robot, (height, width, 3), with the body positions of `data`."""
        mujoco.mjv_updateScene(
            self._model,
            data,
            mujoco.MjvOption(),
            None,
            self._viewpoint.camera(data),
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        try:
            return self._painter.paint(self._scene)
        except Exception as error:
            if self._painter is self._software:
                raise
            self._warn(error)
            with suppress(Exception):  # it is broken
                self._painter.close()
            self._painter = self._software
            return self._painter.paint(self._scene)

    @property
    def follows(self) -> bool:
        """Whether the camera tracks a robot that moves freely."""
        return self._viewpoint.follows is not None

    def place(self, data: mujoco.MjData) -> Array:
        """Return the tracked robot's place on the ground, (3,) metres; zeros if none is tracked."""
        return _place(data, self._viewpoint.follows)

    def close(self) -> None:
        """Free all resources."""
        self._painter.close()

    @classmethod
    def _warn(cls, error: Exception) -> None:
        """Warn once per process that OpenGL does not work."""
        if cls._warned:
            return
        cls._warned = True
        reason = " ".join(str(error).split()) or type(error).__name__
        linux = "on Debian or Ubuntu: apt install libegl1 libgl1 (or libosmesa6)"
        remedy = linux if sys.platform == "linux" else "update the graphics driver"
        warnings.warn(
            f"no OpenGL ({shorten(reason, 120)}); robots are drawn in outline instead; {remedy}",
            stacklevel=2,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def viewpoint(model: mujoco.MjModel, states: Array, aspect: float) -> Viewpoint:
    """Place a camera so that a robot is visible in all of the given poses.

    If all hinges have parallel axes, the camera looks along them; otherwise it uses the model's
    `visual/global`, with a limited elevation.

    Args:
        model: The robot.
        states: (poses, size) states of its simulation, mjSTATE_INTEGRATION.
        aspect: Width of the picture divided by its height.
    """
    data = mujoco.MjData(model)
    root = int(model.body_rootid[model.dof_bodyid[0]]) if model.nv else 0
    follows = root if _roams(model, root) else None
    geoms, corners = _framed(model, follows), []
    for state in states[np.linspace(0, len(states) - 1, min(POSES, len(states))).astype(int)]:
        mujoco.mj_setState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        corners.append(_corners(model, data, geoms) - _place(data, follows))
    box = np.concatenate(corners)
    middle = (box.min(axis=0) + box.max(axis=0)) / 2
    azimuth, elevation = _direction(model, data, root)
    return Viewpoint(
        middle,
        _distance(model, box - middle, azimuth, elevation, aspect),
        azimuth,
        elevation,
        follows,
    )


def _place(data: mujoco.MjData, body: int | None) -> Array:
    """Return the centre of mass of a body's subtree, projected to the ground."""
    return np.zeros(3) if body is None else data.subtree_com[body] * (1, 1, 0)


def _joints(model: mujoco.MjModel, root: int, *kinds: mujoco.mjtJoint) -> Indices:
    """Return the joints of some types in a root's tree of bodies."""
    ours = model.body_rootid[model.jnt_bodyid] == root
    return np.flatnonzero(ours & np.isin(model.jnt_type, [int(kind) for kind in kinds]))


def _roams(model: mujoco.MjModel, root: int) -> bool:
    """Return whether a robot can move away from its initial position."""
    slides = _joints(model, root, Joint.mjJNT_SLIDE)
    free = _joints(model, root, Joint.mjJNT_FREE)
    return bool(len(free) or not model.jnt_limited[slides].all())


def _framed(model: mujoco.MjModel, follows: int | None) -> Indices:
    """Return the geoms to show: those of the tracked body, else all that move, else all."""
    bodies, shapes = model.geom_bodyid, model.geom_type
    solid = ~np.isin(shapes, [int(Geom.mjGEOM_PLANE), int(Geom.mjGEOM_HFIELD)])
    moves = model.body_weldid[bodies] != 0
    wanted = moves if follows is None else model.body_rootid[bodies] == follows
    return np.flatnonzero(solid & wanted if (solid & wanted).any() else solid)


def _corners(model: mujoco.MjModel, data: mujoco.MjData, geoms: Indices) -> Array:
    """Return the corners of boxes around geoms, (points, 3)."""
    middles, halves = np.split(model.geom_aabb[geoms].reshape(-1, 6), 2, axis=1)
    boxes = middles[:, None] + halves[:, None] * np.array(list(product((-1, 1), repeat=3)))
    turned = boxes @ data.geom_xmat[geoms].reshape(-1, 3, 3).transpose(0, 2, 1)
    return np.asarray(data.geom_xpos[geoms][:, None] + turned).reshape(-1, 3)


def _direction(model: mujoco.MjModel, data: mujoco.MjData, root: int) -> tuple[float, float]:
    """Return azimuth and elevation in degrees."""
    azimuth, elevation = model.vis.global_.azimuth, model.vis.global_.elevation
    axes = data.xaxis[_joints(model, root, Joint.mjJNT_HINGE)]
    tumbles = len(_joints(model, root, Joint.mjJNT_FREE, Joint.mjJNT_BALL))
    if tumbles or not len(axes) or not np.allclose(np.abs(axes @ axes[0]), 1):
        return azimuth, max(elevation, STEEPEST)
    if abs(axes[0, 2]) > 0.5:
        return azimuth, FROM_ABOVE
    along = np.degrees(np.arctan2(axes[0, 1], axes[0, 0]))
    return azimuth + (along - azimuth + 90) % 180 - 90, FROM_THE_SIDE


def _distance(
    model: mujoco.MjModel, points: Array, azimuth: float, elevation: float, aspect: float
) -> float:
    """Return the distance in metres at which a camera facing the origin shows all points."""
    turn, tilt = np.radians((azimuth, elevation))
    forward = np.array((np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)))
    right = np.array((np.sin(turn), -np.cos(turn), 0))
    sideways, upwards = points @ right, points @ np.cross(right, forward)
    reach = FILLED * np.tan(np.radians(model.vis.global_.fovy) / 2)
    needed = np.maximum(np.abs(sideways) / aspect, np.abs(upwards)) / reach - points @ forward
    return float(max(needed.max(), model.stat.extent / 100))
