"""Pictures of a robot: where the camera stands, and who paints."""

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

POSES = 64  # of a film, by which the camera is placed
FILLED = 0.88  # of the picture, by the robot at its largest
STEEPEST, FROM_ABOVE, FROM_THE_SIDE = -25.0, -75.0, -8.0  # degrees


class Painter(Protocol):
    """Makes a picture of a scene."""

    def paint(self, scene: mujoco.MjvScene) -> NDArray[np.uint8]:
        """Return a picture, (height, width, 3)."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True)
class Viewpoint:
    """Where the camera stands.

    Attributes:
        lookat: (3,) metres; the first two from the centre of mass of the body that is followed.
        distance: from there, in metres.
        azimuth: degrees about the vertical; 90 looks along y.
        elevation: degrees; below zero looks down.
        follows: the number of a body, or None if the camera stands still.
    """

    lookat: Array
    distance: float
    azimuth: float
    elevation: float
    follows: int | None

    def camera(self, data: mujoco.MjData) -> mujoco.MjvCamera:
        """Return the camera for the robot where it is now."""
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = self.lookat + _place(data, self.follows)
        camera.distance = self.distance
        camera.azimuth, camera.elevation = self.azimuth, self.elevation
        return camera


class Scene:
    """Makes pictures of a robot, by OpenGL if there is any and by drawing otherwise.

    The camera is placed once, such that it sees the robot in all of the given poses. It goes with
    a robot that roams. The model is not changed.

    Args:
        model: The robot.
        states: (poses, size) states of its simulation, mjSTATE_INTEGRATION.
        width: Pixels of the pictures.
        height: Likewise.
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
        except Exception as error:  # of any kind, as drivers have it: pictures are no necessity
            self._warn(error)

    def picture(self, data: mujoco.MjData) -> NDArray[np.uint8]:
        """Return a picture of the robot, (height, width, 3), whose bodies are where `data` says."""
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

    def close(self) -> None:
        """Give everything back."""
        self._painter.close()

    @classmethod
    def _warn(cls, error: Exception) -> None:
        """Say, once in a process, why pictures are drawn."""
        if cls._warned:
            return
        cls._warned = True
        reason = " ".join(str(error).split()) or type(error).__name__
        linux = "on Debian or Ubuntu: apt install libegl1 libgl1 (or libosmesa6)"
        remedy = linux if sys.platform == "linux" else "update the graphics driver"
        warnings.warn(
            f"no OpenGL ({shorten(reason, 120)}); robots are drawn in outline meanwhile; {remedy}",
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
    """Place a camera such that it sees a robot in all of some poses.

    A robot whose joints all turn about parallel axes is seen along these; others as the model's
    `visual/global` says, yet not from high above.

    Args:
        model: The robot.
        states: (poses, size) states of its simulation, mjSTATE_INTEGRATION.
        aspect: Width of the picture over its height.
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
    """The place on the ground above which a body is, with all that hangs on it."""
    return np.zeros(3) if body is None else data.subtree_com[body] * (1, 1, 0)


def _joints(model: mujoco.MjModel, root: int, *kinds: mujoco.mjtJoint) -> Indices:
    """The joints of some kinds in a root's tree of bodies."""
    ours = model.body_rootid[model.jnt_bodyid] == root
    return np.flatnonzero(ours & np.isin(model.jnt_type, [int(kind) for kind in kinds]))


def _roams(model: mujoco.MjModel, root: int) -> bool:
    """Whether a robot may leave the place where it starts."""
    slides = _joints(model, root, Joint.mjJNT_SLIDE)
    free = _joints(model, root, Joint.mjJNT_FREE)
    return bool(len(free) or not model.jnt_limited[slides].all())


def _framed(model: mujoco.MjModel, follows: int | None) -> Indices:
    """The geoms that are to be seen: of the robot, or of all that moves, or all there are."""
    bodies, shapes = model.geom_bodyid, model.geom_type
    solid = ~np.isin(shapes, [int(Geom.mjGEOM_PLANE), int(Geom.mjGEOM_HFIELD)])
    moves = model.body_weldid[bodies] != 0
    wanted = moves if follows is None else model.body_rootid[bodies] == follows
    return np.flatnonzero(solid & wanted if (solid & wanted).any() else solid)


def _corners(model: mujoco.MjModel, data: mujoco.MjData, geoms: Indices) -> Array:
    """The corners of boxes around geoms, (points, 3)."""
    middles, halves = np.split(model.geom_aabb[geoms].reshape(-1, 6), 2, axis=1)
    boxes = middles[:, None] + halves[:, None] * np.array(list(product((-1, 1), repeat=3)))
    turned = boxes @ data.geom_xmat[geoms].reshape(-1, 3, 3).transpose(0, 2, 1)
    return np.asarray(data.geom_xpos[geoms][:, None] + turned).reshape(-1, 3)


def _direction(model: mujoco.MjModel, data: mujoco.MjData, root: int) -> tuple[float, float]:
    """Azimuth and elevation in degrees."""
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
    """Metres from which a camera that looks at the origin sees points in a picture."""
    turn, tilt = np.radians((azimuth, elevation))
    forward = np.array((np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)))
    right = np.array((np.sin(turn), -np.cos(turn), 0))
    sideways, upwards = points @ right, points @ np.cross(right, forward)
    reach = FILLED * np.tan(np.radians(model.vis.global_.fovy) / 2)
    needed = np.maximum(np.abs(sideways) / aspect, np.abs(upwards)) / reach - points @ forward
    return float(max(needed.max(), model.stat.extent / 100))
