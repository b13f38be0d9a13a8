"""Rendering of MuJoCo scenes without OpenGL: outlines of bodies, drawn from far to near."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, TypeAlias

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array: TypeAlias = NDArray[np.float64]
Colour: TypeAlias = tuple[int, int, int]

SKY = (233, 238, 244)
GROUND = (216, 221, 226)
LINE = (186, 193, 201)
SHADOW = (176, 183, 190)

FINER = 2  # supersampling in each direction, for smooth edges
TILES = 12  # of the ground, on each side of the bodies
NEAREST = 1e-2  # metres; geoms closer to the camera are not drawn

Geom = mujoco.mjtGeom
ROUND = (Geom.mjGEOM_SPHERE, Geom.mjGEOM_CAPSULE, Geom.mjGEOM_ELLIPSOID)

_angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_circle = np.stack((np.cos(_angles), np.sin(_angles)), axis=1)
_heights = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 9))
_BALL = np.array([(*np.sqrt(1 - z * z) * ring, z) for z in _heights for ring in _circle])
_CAN = np.array([(*ring, z) for z in (-1, 1) for ring in _circle])
_BOX = np.array(list(product((-1, 1), repeat=3)))


class SoftwareRenderer:
    """Draws scenes in plain colours, with the projection of OpenGL.

    Args:
        model: The robot.
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._model = model
        self._tile = 10.0 ** np.round(np.log10(model.stat.extent / 8))  # metres
        self._size = FINER * width, FINER * height

    def paint(self, scene: mujoco.MjvScene) -> NDArray[np.uint8]:
        """Return a picture, (height, width, 3)."""
        image = Image.new("RGB", self._size, SKY)
        canvas = ImageDraw.Draw(image)
        view = _View(scene, *self._size)
        geoms = list(scene.geoms[: scene.ngeom])
        planes = [each for each in geoms if each.type == Geom.mjGEOM_PLANE]
        bodies = [(each, cloud) for each in geoms if len(cloud := self._cloud(each))]
        middle = np.mean([each.pos for each, _ in bodies], axis=0) if bodies else view.position
        for plane in planes:
            _draw_ground(canvas, view, plane, middle, self._tile)
            for _, cloud in bodies:
                _fill(canvas, view, _dropped(cloud, plane), SHADOW)
        for geom, cloud in sorted(bodies, key=lambda body: -view.depth(body[0].pos)):
            _fill(canvas, view, cloud, _tint(geom.rgba, 1.0), edge=_tint(geom.rgba, 0.5))
            if geom.type in ROUND:
                lit = self._cloud(geom, 0.45) + np.array((0, 0, 0.4 * geom.size[0]))
                _fill(canvas, view, lit, _tint(geom.rgba, 1.2))
        return np.asarray(image.reduce(FINER))

    def close(self) -> None:
        """Do nothing; there are no resources to free."""

    def _cloud(self, geom: Any, thickness: float = 1.0) -> Array:
        """Return points on a geom's hull, (points, 3) metres; none for planes, arrows, labels."""
        size = np.array(geom.size, np.float64) * thickness
        if geom.type == Geom.mjGEOM_MESH:
            mesh = geom.dataid // 2  # MuJoCo numbers each mesh and its hull
            first = self._model.mesh_vertadr[mesh]
            points = self._model.mesh_vert[first : first + self._model.mesh_vertnum[mesh]]
        elif geom.type == Geom.mjGEOM_CAPSULE:
            ends = np.sign(_BALL[:, 2:]) * (0, 0, geom.size[2])
            points = _BALL * size[0] + ends
        elif geom.type in ROUND:
            points = _BALL * size
        elif geom.type == Geom.mjGEOM_CYLINDER:
            points = _CAN * size
        elif geom.type == Geom.mjGEOM_BOX:
            points = _BOX * size
        else:
            points = np.empty((0, 3))
        return np.asarray(geom.pos + points @ np.reshape(geom.mat, (3, 3)).T)


class _View:
    """The camera of a scene and its projection."""

    def __init__(self, scene: mujoco.MjvScene, width: int, height: int) -> None:
        eye = mujoco.mjv_averageCamera(*scene.camera)
        self.position, self.forward, self.up = (
            np.array(each, np.float64) for each in (eye.pos, eye.forward, eye.up)
        )
        self._axes = np.stack((np.cross(self.forward, self.up), -self.up, self.forward), axis=1)
        self.centre = np.array((width / 2, height / 2))
        self.scale = height / 2 * eye.frustum_near / eye.frustum_top

    def depth(self, point: Array) -> float:
        """Return the distance in front of the camera in metres."""
        return float((point - self.position) @ self.forward)

    def project(self, points: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return positions in pixels, (..., 2), and whether points are in front of the camera."""
        seen = (points - self.position) @ self._axes
        depth = seen[..., 2:]
        places = self.centre + self.scale * seen[..., :2] / np.maximum(depth, NEAREST)
        return places, depth[..., 0] > NEAREST

    @property
    def horizon(self) -> float:
        """The row of the horizon in pixels; far above the picture if the camera looks down."""
        level = np.hypot(*self.forward[:2])
        return float(self.centre[1] + self.scale * self.forward[2] / max(level, NEAREST))


def _fill(
    canvas: ImageDraw.ImageDraw,
    view: _View,
    cloud: Array,
    colour: Colour,
    edge: Colour | None = None,
) -> None:
    """Fill the convex outline of points, approximated by their extremes in some directions."""
    places, visible = view.project(cloud)
    if visible.all():
        outline = places[np.argmax(places @ _circle.T, axis=0)]
        canvas.polygon(outline.ravel().tolist(), colour, edge, FINER)


def _draw_ground(
    canvas: ImageDraw.ImageDraw, view: _View, plane: Any, middle: Array, tile: float
) -> None:
    """Fill a plane and draw its tiles, around the bodies if it is infinite."""
    centre, around = plane.pos @ plane.mat, middle @ plane.mat  # in the plane's own frame
    half = np.where(plane.size[:2] > 0, plane.size[:2], np.inf)
    low = np.maximum(centre[:2] - half, around[:2] - TILES * tile)
    high = np.minimum(centre[:2] + half, around[:2] + TILES * tile)
    width, height = 2 * view.centre
    if max(half) < TILES * tile:
        corners = [(x, y, centre[2]) for x in (low[0], high[0]) for y in (low[1], high[1])]
        _fill(canvas, view, np.array(corners) @ plane.mat.T, GROUND)
    else:  # infinite, or large enough to treat as infinite
        canvas.rectangle((0, min(view.horizon, height), width, height), GROUND)
    for axis in (0, 1):
        across = np.arange(np.ceil(low[axis] / tile), np.floor(high[axis] / tile) + 1) * tile
        along = np.linspace(low[1 - axis], high[1 - axis], 2 * TILES + 1)
        lines = np.empty((len(across), len(along), 3))
        lines[..., axis], lines[..., 1 - axis], lines[..., 2] = across[:, None], along, centre[2]
        lines = lines @ plane.mat.T
        places, visible = view.project(lines)
        visible &= (np.abs(places - view.centre) < 2 * view.centre).all(axis=-1)
        clear = np.minimum(np.linalg.norm(lines - middle, axis=-1) / (TILES * tile), 1)
        segments = np.concatenate((places[:, :-1], places[:, 1:]), axis=-1)
        seen = visible[:, :-1] & visible[:, 1:]
        for ends, share in zip(segments[seen].tolist(), clear[:, :-1][seen].tolist(), strict=True):
            canvas.line(ends, _mix(LINE, GROUND, share), FINER)


def _dropped(cloud: Array, plane: Any) -> Array:
    """Return the orthogonal projection of points onto a plane, used as a shadow."""
    normal = plane.mat[:, 2]
    return cloud - np.outer((cloud - plane.pos) @ normal, normal)


def _tint(rgba: Array, brightness: float) -> Colour:
    """Return a geom's colour with adjusted brightness, mixed with the sky if transparent."""
    colour = np.clip(255 * rgba[:3] * brightness, 0, 255)
    return _mix(SKY, tuple(colour), rgba[3])


def _mix(first: Sequence[float], second: Sequence[float], share: float) -> Colour:
    """Return a mixture of two colours."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
