"""Callbacks that log a training to TensorBoard, and a writer of images and histograms."""

from liquid_control.monitoring.tensorboard.callbacks import (
    EpisodeCallback,
    HParamsCallback,
    RatesCallback,
    evaluation_tag,
    leaves,
    log_evaluations,
)
from liquid_control.monitoring.tensorboard.scalars import ScalarsCallback
from liquid_control.monitoring.tensorboard.tensorboard_writer import TensorBoardWriter

__all__ = [
    "EpisodeCallback",
    "HParamsCallback",
    "RatesCallback",
    "ScalarsCallback",
    "TensorBoardWriter",
    "evaluation_tag",
    "leaves",
    "log_evaluations",
]
