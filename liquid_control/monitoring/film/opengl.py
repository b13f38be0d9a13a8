"""Offscreen rendering of MuJoCo scenes by OpenGL."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from functools import cache
from importlib import import_module
from threading import local
from typing import ParamSpec, TypeVar

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from liquid_control.monitoring.film.software_renderer import SKY

Given = ParamSpec("Given")
Result = TypeVar("Result")

PLATFORMS = ("egl", "osmesa", "glfw", "cgl")  # modules of MuJoCo
COSTLY = [mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX]
AMBIENT = 0.3  # least ambient light
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
OFF = ("0", "off", "false", "disable", "disabled")
ANY_SIZE = (64, 64)  # pixels of a context: scenes are drawn into their own buffers
SLICES, STACKS = 16, 8  # of a round geom; the processor draws them twice as fast as MuJoCo's 28, 16

_CONTEXTS = local()  # `name` and `context` of the thread: it ends before Python does, and frees it


class OpenGL:
    """Renders scenes by OpenGL in a shared thread.

    OpenGL's current context belongs to a thread, and MuJoCo's classes replace it. In a separate
    thread, they do not affect Gymnasium's renderers. All scenes of the process share its context,
    because the first scene of a context takes 0.3 s to start without a graphics card.

    Args:
        model: The robot. Its rendering settings are changed; pass a copy.
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.

    Raises:
        Exception: Of any type, depending on the driver, if OpenGL does not work.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._renderer: mujoco.MjrContext | None = None
        self._within(self._open, model, width, height)

    def paint(self, scene: mujoco.MjvScene) -> NDArray[np.uint8]:
        """Return a picture, (height, width, 3)."""
        return self._within(self._paint, scene)

    def close(self) -> None:
        """Free the resources of the scene."""
        self._within(self._free)

    def _within(
        self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs
    ) -> Result:
        thread, process = _thread()
        if process != os.getpid():  # drivers wait for threads that a forked process does not have
            raise RuntimeError("this process is a fork of one that has used OpenGL")
        return thread.submit(work, *given, **named).result()

    def _open(self, model: mujoco.MjModel, width: int, height: int) -> None:
        # Without a graphics card, shadows and multisampling take most of the time.
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        model.vis.quality.numslices, model.vis.quality.numstacks = SLICES, STACKS
        model.vis.headlight.ambient[:] = np.maximum(model.vis.headlight.ambient, AMBIENT)
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        _make_current()
        self._renderer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._window = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._depth = np.empty((height, width), np.float32)

    def _paint(self, scene: mujoco.MjvScene) -> NDArray[np.uint8]:
        for costly in COSTLY:
            scene.flags[costly] = False
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._renderer)
        mujoco.mjr_render(self._window, scene, self._renderer)
        mujoco.mjr_readPixels(self._pixels, self._depth, self._window, self._renderer)
        image = Image.fromarray(self._pixels)
        image.paste(SKY, mask=Image.fromarray(self._depth == 1))  # the background
        return np.asarray(image)[::-1]

    def _free(self) -> None:
        if self._renderer is not None:
            self._renderer.free()
        self._renderer = None


@cache
def _thread() -> tuple[ThreadPoolExecutor, int]:
    """Return the thread of all scenes, and its process."""
    return ThreadPoolExecutor(1, "opengl"), os.getpid()


def has_display() -> bool:
    """Return whether there is a display."""
    return sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def platforms() -> Iterator[str]:
    """Yield the platforms that may provide OpenGL, best first: `MUJOCO_GL`, or those installed.

    Libraries are searched before a module is imported, because PyOpenGL loads only once, for the
    first platform.
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


def _make_current() -> None:
    """Make the thread's context current; create it first, or again if `MUJOCO_GL` has changed."""
    faults = []
    for name in platforms():
        try:
            if getattr(_CONTEXTS, "name", None) != name:
                _CONTEXTS.context = import_module(f"mujoco.{name}").GLContext(*ANY_SIZE)
                _CONTEXTS.name = name
            _CONTEXTS.context.make_current()
        except Exception as error:  # drivers raise errors of any type
            faults.append(f"{name}: {error or type(error).__name__}")
        else:
            return
    raise RuntimeError("; ".join(faults) or "no OpenGL library was found")
