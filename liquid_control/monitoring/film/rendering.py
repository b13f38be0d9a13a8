"""Frames of a film: the robot in real time, next to the activity of its neurons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TypeAlias

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from liquid_control.monitoring.film.activity_strip import INK, ActivityStrip, font
from liquid_control.monitoring.film.scene import Scene
from liquid_control.monitoring.recording import Recording, Simulation

Picture: TypeAlias = NDArray[np.uint8]

FILM_RATE = 25.0  # pictures per second

SMALLEST = (320, 160)  # pixels
ROOM = (8.6, 4.8, 8.2, 6.0)  # of facts, from right to left, relative to the size of letters
BESIDE, ABOVE = 0.44, 0.38  # share of the width or height that the robot takes
STACKED = 1.2  # width, relative to the height, below which the robot is above its signals
ROUNDING = 1e-3  # tolerance of times, as a share of a step
INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION


def frames(
    recording: Recording,
    *,
    fps: float = FILM_RATE,
    width: int = 800,
    height: int = 320,
    seconds: float | None = None,
    title: str = "",
) -> Iterator[Picture]:
    """Yield the pictures of a film, (height, width, 3) each, at times 0, 1 / fps, 2 / fps, ...

    The pose of the robot is exact at any control rate: each picture repeats the simulation from
    the last control step before it. An episode without a simulation shows only its signals. The
    robot is next to its signals, or above them if the film is not much wider than high.

    Args:
        recording: The episode.
        fps: Pictures per second of physical time.
        width: Width in pixels, an even number.
        height: Height in pixels, an even number.
        seconds: Physical time at which the film ends; None shows the whole episode.
        title: The title, such as the name of the task.

    Raises:
        ValueError: If a size is odd or too small, or `fps` or `seconds` is not positive.
    """
    if width % 2 or height % 2 or width < SMALLEST[0] or height < SMALLEST[1]:
        raise ValueError(
            f"a film of {width} x {height} pixels; give even sizes, at least "
            f"{SMALLEST[0]} x {SMALLEST[1]}"
        )
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}; None shows the whole episode")
    duration = recording.duration if seconds is None else min(seconds, recording.duration)
    return _frames(recording, fps, width, height, duration, title)


def replay(
    simulation: Simulation, times: NDArray[np.float64], time: float, data: mujoco.MjData
) -> None:
    """Restore the simulation at some time, exact to one physics step.

    Args:
        simulation: The physics of an episode.
        times: (T+1,) seconds at which control steps begin, and at which the last ends.
        time: Seconds since the reset.
        data: Set to the simulation at that time, with updated body positions.
    """
    step = _step(times, time)
    mujoco.mj_setState(simulation.model, data, simulation.states[step], INTEGRATION)
    data.ctrl[:] = simulation.controls[step]
    within = min(time, times[step + 1]) - times[step]
    mujoco.mj_step(simulation.model, data, int(within / simulation.model.opt.timestep + ROUNDING))
    mujoco.mj_fwdPosition(simulation.model, data)


def _frames(
    recording: Recording, fps: float, width: int, height: int, duration: float, title: str
) -> Iterator[Picture]:
    simulation, times = recording.simulation, recording.times
    caption = _Caption(title, width, height)
    top = caption.height
    robot, signals = _places(width, height, top, shown=simulation is not None)
    strip = ActivityStrip(recording, *_size(signals), duration)
    canvas = np.full((height, width, 3), 255, np.uint8)
    with ExitStack() as stack:
        if simulation:
            data = mujoco.MjData(simulation.model)
            across, down = _size(robot)
            scene = Scene(simulation.model, simulation.states, width=across, height=down)
            stack.enter_context(scene)
            places: list[NDArray[np.float64]] = []
        returns = np.concatenate([[0.0], np.cumsum(recording.rewards)])
        for frame in range(max(round(duration * fps), 1)):
            time = frame / fps
            step = _step(times, time)
            facts = [f"control {1 / (times[step + 1] - times[step]):.3g} Hz", f"{time:.2f} s"]
            if recording.is_rewarded:
                facts.append(f"return {returns[step]:,.4g}")
            canvas[signals] = strip.picture(time)
            if simulation:
                replay(simulation, times, time, data)
                canvas[robot] = scene.picture(data)
                places.append(scene.place(data))
                earlier = max(frame - round(fps), 0)  # a second ago
                if scene.follows and frame:
                    distance = float(np.linalg.norm(places[frame] - places[earlier]))
                    facts.append(f"{distance * fps / (frame - earlier):.1f} m/s")
            canvas[:top] = caption.picture(facts)
            yield canvas.copy()


Place: TypeAlias = tuple[slice, slice]  # rows and columns of a picture


def _places(width: int, height: int, top: int, *, shown: bool) -> tuple[Place, Place]:
    """Return the places of the robot, if shown, and of its signals, below `top`."""
    across, down = slice(0, width), slice(top, height)
    if not shown:
        return (slice(0, 0), across), (down, across)
    if width < STACKED * height:
        middle = top + round(ABOVE * (height - top))
        return (slice(top, middle), across), (slice(middle, height), across)
    middle = round(BESIDE * width)
    return (down, slice(0, middle)), (down, slice(middle, width))


def _size(place: Place) -> tuple[int, int]:
    """Return width and height."""
    down, across = place
    return across.stop - across.start, down.stop - down.start


def _step(times: NDArray[np.float64], time: float) -> int:
    """Return the index of the control step at some time, at most the last one."""
    step = np.searchsorted(times, time + ROUNDING * np.diff(times).min(), "right") - 1
    return int(np.clip(step, 0, len(times) - 2))


class _Caption:
    """The lines above a film: title and facts, in a single line if there is room."""

    def __init__(self, title: str, width: int, height: int) -> None:
        narrow = min(height, round(0.6 * width))
        self._letters, bold = font(narrow), font(narrow, bold=True)
        self._line = round(1.8 * self._letters.size)
        taken = bold.getlength(title) + (2 + sum(ROOM)) * self._letters.size
        lines = 1 if taken < width else 2
        self.height = lines * self._line
        self._title = Image.new("RGB", (width, self.height), "white")
        draw = ImageDraw.Draw(self._title)
        draw.text((self._letters.size // 2, self._line / 2), title, INK, bold, "lm")

    def picture(self, facts: Sequence[str]) -> Picture:
        """Return the picture (height, width, 3) with facts, from right to left."""
        image = self._title.copy()
        draw = ImageDraw.Draw(image)
        right, middle = image.width - self._letters.size / 2, self.height - self._line / 2
        for fact, room in zip(facts, ROOM, strict=False):
            draw.text((right, middle), fact, INK, self._letters, "rm")
            right -= room * self._letters.size
        return np.asarray(image)
