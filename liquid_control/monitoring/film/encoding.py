"""Encoding of films as animated GIF and as MP4."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, cast

import imageio_ffmpeg
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from liquid_control.checkpoints.durable import replacing
from liquid_control.monitoring.colours import LANGUAGE
from liquid_control.monitoring.film.rendering import Picture

GIF_RATE = 12.5  # frames per second; supported by GIF, and half the size of 25

COLOURS = 128  # of a GIF
SAMPLES = 8  # frames used for its palette, and of each a quarter of its pixels


def to_gif(frames: Iterable[Picture], fps: float) -> bytes:
    """Return an animated GIF that loops forever.

    Args:
        frames: Pictures of equal size, (height, width, 3).
        fps: 100 divided by a whole number, such as 12.5 or 20, as GIF delays are hundredths of a
            second.

    Raises:
        ValueError: If GIF does not support `fps`, or there are no frames.
    """
    delay = round(100 / fps)
    if delay < 1 or not np.isclose(delay * fps, 100):
        raise ValueError(
            f"a GIF cannot show {fps:g} pictures per second; give 100 divided by a whole number, "
            f"such as {100 / max(delay, 2):g}"
        )
    pictures = list(frames)
    if not pictures:
        raise ValueError("no frames to make a GIF of")
    palette, numbers = _palette(pictures)
    images = []
    for picture in pictures:
        red, green, blue = np.moveaxis(picture >> 3, -1, 0).astype(np.uint16)
        image = Image.fromarray(numbers[red << 10 | green << 5 | blue])
        image.putpalette(palette)
        images.append(image)
    file = BytesIO()
    images[0].save(
        file, "GIF", save_all=True, append_images=images[1:], duration=10 * delay, loop=0
    )
    return file.getvalue()


def to_mp4(frames: Iterable[Picture], path: str | Path, fps: float) -> None:
    """Write an MP4 video with H.264, which browsers and phones can play, atomically.

    Args:
        frames: Pictures of equal size, (height, width, 3), with even height and width.
        path: The file, which is replaced if it exists; its folder is created.
        fps: Pictures per second.

    Raises:
        ValueError: If there are no frames.
        OSError: If FFmpeg is missing or fails, such as on a full disk.
    """
    pictures, path = iter(frames), Path(path)
    try:
        with replacing(path) as partial:
            if reason := _encode(pictures, partial, fps):
                raise OSError(f"FFmpeg could not write {path}: {reason}")
    finally:
        if isinstance(pictures, Generator):
            # The error would keep it alive, and garbage collection cannot free its renderer.
            pictures.close()


def _encode(pictures: Iterator[Picture], path: Path, fps: float) -> str:
    """Write a video; return FFmpeg's reason if it fails."""
    command = [_ffmpeg(), "-y", "-v", "error"]
    first = next(pictures, None)
    if first is None:
        raise ValueError("no frames to make a video of")
    height, width, _ = first.shape
    command += [
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}"),
        *("-i", "-", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20"),
        *("-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path.absolute())),
    ]
    with tempfile.TemporaryFile() as errors:
        # FFmpeg's message is more informative than the broken pipe.
        with suppress(BrokenPipeError), Popen(command, stdin=PIPE, stderr=errors) as process:
            pipe = cast("IO[bytes]", process.stdin)
            for each in chain((first,), pictures):
                pipe.write(each.tobytes())
        errors.seek(0)
        reason = errors.readline().decode(errors="replace").strip()
        return (reason or f"exit code {process.returncode}") if process.returncode else ""


def _ffmpeg() -> str:
    """Return the path of FFmpeg."""
    with suppress(RuntimeError):
        path: str | None = shutil.which(imageio_ffmpeg.get_ffmpeg_exe())
        if path is not None:
            return path
    raise OSError("FFmpeg is missing; install it, or set IMAGEIO_FFMPEG_EXE to its path")


def _palette(pictures: Sequence[Picture]) -> tuple[list[int], NDArray[np.uint8]]:
    """Return a palette for all pictures, and the nearest entry of each 15-bit colour.

    The palette contains all colours with a meaning, however rare.
    """
    chosen = [each[::2, ::2] for each in pictures[:: max(len(pictures) // SAMPLES, 1)]]
    meaningful = [round(255 * part) for colour in LANGUAGE for part in to_rgb(colour)]
    frequent = Image.fromarray(np.concatenate(chosen)).quantize(COLOURS - len(LANGUAGE))
    colours = Image.new("P", (1, 1))
    colours.putpalette((frequent.getpalette() or []) + meaningful)
    coarse = np.arange(2**15)
    levels = np.stack((coarse >> 10, coarse >> 5 & 31, coarse & 31), axis=-1) * 255 // 31
    every = Image.fromarray(levels.astype(np.uint8)[None])
    nearest = every.quantize(palette=colours, dither=Image.Dither.NONE)
    return colours.getpalette() or [], np.asarray(nearest)[0]
