"""Frames of a film: the robot in real time, beside the activity of its neurons."""

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

SMALLEST = (400, 160)  # pixels
ROBOT = 0.44  # share of the width
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
    the last control step before it. An episode without a simulation shows only its signals.

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
    left, top = round(ROBOT * width) if simulation else 0, caption.height
    strip = ActivityStrip(recording, width - left, height - top, duration)
    canvas = np.full((height, width, 3), 255, np.uint8)
    with ExitStack() as stack:
        if simulation:
            data = mujoco.MjData(simulation.model)
            scene = Scene(simulation.model, simulation.states, width=left, height=height - top)
            stack.enter_context(scene)
            places: list[NDArray[np.float64]] = []
        returns = np.concatenate([[0.0], np.cumsum(recording.rewards)])
        for frame in range(max(round(duration * fps), 1)):
            time = frame / fps
            step = _step(times, time)
            facts = [f"control {1 / (times[step + 1] - times[step]):.3g} Hz", f"{time:.2f} s"]
            if recording.is_rewarded:
                facts.append(f"return {returns[step]:,.4g}")
            canvas[top:, left:] = strip.picture(time)
            if simulation:
                replay(simulation, times, time, data)
                canvas[top:, :left] = scene.picture(data)
                places.append(scene.place(data))
                earlier = max(frame - round(fps), 0)  # a second ago
                if scene.follows and frame:
                    distance = float(np.linalg.norm(places[frame] - places[earlier]))
                    facts.append(f"{distance * fps / (frame - earlier):.1f} m/s")
            canvas[:top] = caption.picture(facts)
            yield canvas.copy()


def _step(times: NDArray[np.float64], time: float) -> int:
    """Return the index of the control step at some time, at most the last one."""
    step = np.searchsorted(times, time + ROUNDING * np.diff(times).min(), "right") - 1
    return int(np.clip(step, 0, len(times) - 2))


class _Caption:
    """The line above a film: title and facts."""

    def __init__(self, title: str, width: int, height: int) -> None:
        self._letters = font(height)
        self.height = round(1.8 * self._letters.size)
        self._title = Image.new("RGB", (width, self.height), "white")
        draw = ImageDraw.Draw(self._title)
        place = (self._letters.size // 2, self.height / 2)
        draw.text(place, title, INK, font(height, bold=True), "lm")

    def picture(self, facts: Sequence[str]) -> Picture:
        """Return the picture (height, width, 3) with facts, from right to left."""
        image = self._title.copy()
        draw = ImageDraw.Draw(image)
        right, middle = image.width - self._letters.size // 2, self.height / 2
        column = round(9 * self._letters.size)  # wide enough for any fact, so that none moves
        draw.rectangle((right - len(facts) * column, 0, image.width, self.height), "white")
        for index, fact in enumerate(facts):
            draw.text((right - index * column, middle), fact, INK, self._letters, "rm")
        return np.asarray(image)
