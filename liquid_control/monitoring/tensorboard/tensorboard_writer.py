"""A writer of images, animations, figures and histograms to TensorBoard's event files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

RGB = 3
DPI = 200  # twice the resolution of a card


class TensorBoardWriter:
    """Writes images, figures and histograms, which SB3's logger does not support.

    Args:
        writer: A writer of TensorBoard's event files.
    """

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    @classmethod
    def of(cls, logger: Logger) -> TensorBoardWriter | None:
        """Return the writer of a logger, or None if it does not write to TensorBoard."""
        for output in logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                return cls(output.writer)
        return None

    @classmethod
    def in_folder(cls, folder: Path) -> TensorBoardWriter:
        """Return a writer with its own event files in a folder."""
        return cls(SummaryWriter(str(folder)))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Write a scalar."""
        self._writer.add_scalar(tag, value, step)

    def histogram(self, tag: str, values: ArrayLike, step: int) -> None:
        """Write a histogram of values."""
        self._writer.add_histogram(tag, values, step)

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """Write a figure as PNG; its resolution becomes that of cards."""
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]  # once; `savefig` draws a layout twice
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        file = BytesIO()
        Image.fromarray(pixels[..., :RGB]).save(file, "png", compress_level=1)
        self.image(tag, file.getvalue(), step)

    def image(self, tag: str, image: bytes, step: int) -> None:
        """Write an encoded image, such as PNG or an animated GIF, unchanged."""
        with Image.open(BytesIO(image)) as header:
            width, height = header.size
        # torch's writer re-encodes images, which would remove the animation of a GIF.
        encoded = Summary.Image(
            width=width, height=height, colorspace=RGB, encoded_image_string=image
        )
        writer = self._writer.file_writer
        if writer is None:
            raise RuntimeError("the logger is closed; cannot write to TensorBoard")
        writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=encoded)]), step)

    def flush(self) -> None:
        """Write buffered events to disk."""
        self._writer.flush()
