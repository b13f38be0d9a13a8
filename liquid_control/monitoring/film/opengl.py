"""Pictures of a MuJoCo scene by OpenGL, off screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from liquid_control.monitoring.film.software_renderer import SKY

Given = ParamSpec("Given")
Result = TypeVar("Result")

PLATFORMS = ("egl", "osmesa", "glfw", "cgl")  # each a module of MuJoCo
COSTLY = [mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX]
AMBIENT = 0.3  # at least so much light falls on every side of a body
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
OFF = ("0", "off", "false", "disable", "disabled")


class OpenGL:
    """Paints scenes by OpenGL, in a thread of its own.

    OpenGL's current context belongs to a thread, and MuJoCo's classes take it away from whoever
    has it. Gymnasium's renderers depend on theirs, and keep it in this way.

    Args:
        model: The robot. Its settings of quality are changed; give a copy.
        width: Pixels of the pictures.
        height: Likewise.

    Raises:
        Exception: Of any kind, as drivers have it, if there is no OpenGL that works.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._thread = ThreadPoolExecutor(1, "opengl")
        self._context: Any = None
        self._renderer: Any = None
        try:
            self._within(self._open, model, width, height)
        except BaseException:
            self.close()
            raise

    def paint(self, scene: mujoco.MjvScene) -> NDArray[np.uint8]:
        """Return a picture, (height, width, 3)."""
        return self._within(self._paint, scene)

    def close(self) -> None:
        """Give everything back."""
        try:
            self._within(self._free)
        finally:
            self._thread.shutdown()

    def _within(
        self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs
    ) -> Result:
        return self._thread.submit(work, *given, **named).result()

    def _open(self, model: mujoco.MjModel, width: int, height: int) -> None:
        # Shadows and samples cost most of a picture's time where no graphics card draws it.
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        model.vis.headlight.ambient[:] = np.maximum(model.vis.headlight.ambient, AMBIENT)
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._context = _context(width, height)
        self._context.make_current()
        self._renderer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._renderer)
        self._window = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._depth = np.empty((height, width), np.float32)

    def _paint(self, scene: mujoco.MjvScene) -> NDArray[np.uint8]:
        for costly in COSTLY:
            scene.flags[costly] = False
        mujoco.mjr_render(self._window, scene, self._renderer)
        mujoco.mjr_readPixels(self._pixels, self._depth, self._window, self._renderer)
        image = Image.fromarray(self._pixels)
        image.paste(SKY, mask=Image.fromarray(self._depth == 1))  # nothing is that far
        return np.asarray(image)[::-1]

    def _free(self) -> None:
        if self._renderer is not None:
            self._renderer.free()
        if self._context is not None:
            self._context.free()
        self._renderer = self._context = None


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def platforms() -> Iterator[str]:
    """What may provide OpenGL here, the best first: `MUJOCO_GL` if it is set, or what is found.

    A library is looked for before its module is imported: the first one decides for all, as
    PyOpenGL loads once.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen in OFF:
        return
    if chosen in PLATFORMS:
        usual = [chosen]
    elif sys.platform == "linux":
        usual = [name for name, library in LIBRARIES.items() if find_library(library)] + ["glfw"]
    else:
        usual = ["cgl"] if sys.platform == "darwin" else ["glfw"]
    yield from (name for name in usual if name != "glfw" or has_display())


def _context(width: int, height: int) -> Any:
    faults = []
    for name in platforms():
        try:
            return import_module(f"mujoco.{name}").GLContext(width, height)
        except Exception as error:  # of any kind, as a broken driver has it
            faults.append(f"{name}: {error or type(error).__name__}")
    raise RuntimeError("; ".join(faults) or "no library of it was found")
