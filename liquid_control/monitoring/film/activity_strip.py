"""A strip of an agent's signals that scrolls with time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from liquid_control.monitoring.colours import (
    ACTION,
    ELAPSED_TIME,
    GREY,
    NEUTRAL,
    layer_colours,
    signed_colours,
)
from liquid_control.monitoring.recording import Recording

Array: TypeAlias = NDArray[np.floating]
Picture: TypeAlias = NDArray[np.uint8]

SECONDS = 3.0  # visible duration
PAST = 0.8  # share of it before the current time
FADED = 0.4  # contrast of the future
READABLE = 8  # least height in pixels of a row of bars
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between numbers

INK = "#222222"


@dataclass(frozen=True)
class Track:
    """A signal of the strip.

    Attributes:
        name: The label.
        scale: The value of the strongest colour or the highest bar, as text.
        colour: The colour of its mark.
        picture: (height, T, 3), a column for each control step.
        rows: Names of its rows, shown instead of its own; empty if there is no room for them.
    """

    name: str
    scale: str
    colour: str
    picture: Picture
    rows: tuple[str, ...] = ()


class ActivityStrip:
    """Activity by layer, actions and elapsed time of an episode, around any time.

    Args:
        recording: The episode.
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.
        seconds: The latest time of a picture, in seconds.
    """

    def __init__(self, recording: Recording, width: int, height: int, seconds: float) -> None:
        letters = font(height)
        line = round(1.3 * letters.size)
        self._ground = height - line
        gap = max(height // 100, 2)
        tracks = list(_tracks(recording, self._ground, gap, line))
        tops = list(accumulate((len(each.picture) + gap for each in tracks[:-1]), initial=0))
        self._left, self._labels = _labels(tracks, tops, width, height, letters)
        self._past = round(PAST * (width - self._left))  # pixels
        self._pace = (width - self._left) / SECONDS  # pixels per second
        columns = np.arange(width - self._left + round(seconds * self._pace))
        steps = np.searchsorted(recording.times, (columns + 0.5 - self._past) / self._pace, "right")
        steps -= 1
        recorded = (steps >= 0) & (steps < recording.steps)
        strip = np.full((height, len(columns), 3), 255, np.uint8)
        for track, top in zip(tracks, tops, strict=True):
            strip[top : top + len(track.picture), recorded] = track.picture[:, steps[recorded]]
        self._strip = _with_times(strip, self._ground, self._past, self._pace, letters)
        self._faded = (255 - FADED * (255 - self._strip.astype(np.float32))).astype(np.uint8)

    def picture(self, time: float) -> Picture:
        """Return the picture (height, width, 3) at a time in seconds since the reset."""
        picture = self._labels.copy()
        first = round(time * self._pace)
        now, last = first + self._past, first + picture.shape[1] - self._left
        line = self._left + self._past
        picture[:, self._left : line] = self._strip[:, first:now]
        picture[:, line:] = self._faded[:, now:last]
        picture[: self._ground, line - 1 : line + 1] = rgb(INK)
        return picture


@cache
def font(height: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font for a picture of this height in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(mpl.get_data_path(), "fonts", "ttf", name)
    return ImageFont.truetype(str(path), max(12, round(height / 27)))


def rgb(colour: str) -> Picture:
    """Return a colour as three bytes."""
    return np.array(np.round(np.multiply(to_rgb(colour), 255)), np.uint8)


def _tracks(recording: Recording, height: int, gap: int, least: int) -> Iterator[Track]:
    """Yield all signals, in pictures that fill the height with gaps between them."""
    layers = {"sensory": recording.sensory} | {
        name: recording.activity[:, where] for name, where in recording.wiring.layer_slices.items()
    }
    colours = layer_colours(layers)
    height -= gap * (len(layers) + 1)
    for_actions, for_time = round(0.25 * height), round(0.13 * height)
    sizes = np.sqrt([values.shape[1] for values in layers.values()])
    heights = _shared(height - for_actions - for_time, sizes, least)
    for (name, values), pixels in zip(layers.items(), heights, strict=True):
        limit = float(np.quantile(np.abs(values), 0.99)) or 1.0
        yield Track(name, f"±{limit:.2g}", colours[name], _heat(values / limit, pixels))
    actions = np.asarray(recording.actions, np.float64)
    limit = float(np.abs(actions).max()) or 1.0
    names = recording.action_names if for_actions >= READABLE * actions.shape[1] else ()
    paint = _bars if names else _heat
    picture = paint(actions / limit, for_actions)
    yield Track("actions", f"±{limit:.2g}", ACTION, picture, names)
    longest = float(recording.elapsed_time.max())
    area = _area(recording.elapsed_time / longest, for_time)
    yield Track("elapsed time", f"≤ {1000 * longest:.3g} ms", ELAPSED_TIME, area)


def _shared(height: int, weights: Array, least: int) -> list[int]:
    """Split a height by weights, with at least `least` for each part if possible."""
    least = min(least, height // len(weights))
    spare = height - least * len(weights)
    ends = np.round(spare * np.cumsum(weights) / weights.sum()).astype(int)
    return [int(each) for each in least + np.diff(ends, prepend=0)]


def _heat(values: Array, height: int) -> Picture:
    """Draw each column of values (T, rows) as a row of colours, averaged if there are too many."""
    colours = signed_colours(values.T)  # (rows, T, 3)
    rows, steps, _ = colours.shape
    if rows <= height:
        return np.repeat(colours, np.diff(np.arange(rows + 1) * height // rows), axis=0)
    return np.asarray(Image.fromarray(colours).resize((steps, height), Image.Resampling.BOX))


def _bars(values: Array, height: int) -> Picture:
    """Draw each column of values (T, rows) as a row of bars, up or down from its middle."""
    places = (np.arange(height) + 0.5) * values.shape[1] / height
    levels = 1.15 * (1 - 2 * (places % 1))[:, None]  # 0 at the middle of a row, above 1 at edges
    shown = values.T[places.astype(int)]
    filled = (levels * shown > 0) & (np.abs(levels) <= np.abs(shown))
    return signed_colours(np.where(filled, np.sign(levels), 0))


def _area(values: Array, height: int) -> Picture:
    """Draw values (T,) as an area."""
    filled = (height - np.arange(height) - 0.5)[:, None] <= height * values
    return np.where(filled[..., None], rgb(ELAPSED_TIME), rgb(NEUTRAL))


def _labels(
    tracks: Sequence[Track],
    tops: Sequence[int],
    width: int,
    height: int,
    letters: ImageFont.FreeTypeFont,
) -> tuple[int, Picture]:
    """Return the width of the labels in pixels, and a picture of them, empty on the right."""
    line, mark = round(1.3 * letters.size), max(height // 80, 3)
    texts = [_lines(each, line) for each in tracks]
    widest = max(letters.getlength(text) for lines in texts for text, _ in lines)
    taken = round(widest) + 5 * mark
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for track, lines, top in zip(tracks, texts, tops, strict=True):
        bottom = top + len(track.picture)
        draw.rectangle((taken - 2 * mark, top, taken - mark - 1, bottom - 1), track.colour)
        pitch = len(track.picture) / len(lines) if track.rows else line
        middle = (top + bottom) / 2 - pitch * (len(lines) - 1) / 2
        fitting = letters.font_variant(size=min(letters.size, pitch))
        for row, (text, colour) in enumerate(lines):
            place = (taken - 3 * mark, middle + row * pitch)
            draw.text(place, text, colour, fitting, "rm")
    draw.text((taken - 3 * mark, height - line / 2), "time", INK, letters, "rm")
    return taken, np.asarray(image)


def _lines(track: Track, line: int) -> list[tuple[str, str]]:
    """Return the lines of a track's label with their colours; one of them gives the scale."""
    if track.rows:
        first, *others = track.rows
        return [(f"{track.scale} {first}", INK), *((name, INK) for name in others)]
    if len(track.picture) >= 2 * line:
        return [(track.name, INK), (track.scale, GREY)]
    return [(f"{track.name} {track.scale}", INK)]


def _with_times(
    strip: Picture, top: int, zero: int, pace: float, letters: ImageFont.FreeTypeFont
) -> Picture:
    """Add a time axis to a strip; `zero` is the column of the reset, `pace` pixels per second."""
    image = Image.fromarray(strip)
    draw = ImageDraw.Draw(image)
    room = 5 * letters.size
    tick = next((each for each in TICKS if each * pace >= room), TICKS[-1])
    for index in range(int((strip.shape[1] - zero) / pace / tick) + 1):
        column = zero + index * tick * pace
        draw.line((column, top, column, top + letters.size // 4), GREY)
        place = (column, (top + strip.shape[0]) / 2 + 1)
        draw.text(place, f"{index * tick:g} s", INK, letters, "mm")
    return np.asarray(image)
