"""Recordings, films, figures and reports of robots and their neurons."""

from liquid_control.monitoring.analysis import lesions, listening, saturated_share, smoothness
from liquid_control.monitoring.film import watch
from liquid_control.monitoring.recording import Recording, circuit_of, record
from liquid_control.monitoring.report import report_on
from liquid_control.monitoring.tensorboard import (
    EpisodeCallback,
    HParamsCallback,
    RatesCallback,
    ScalarsCallback,
    evaluation_tag,
    leaves,
    log_evaluations,
)

__all__ = [
    "EpisodeCallback",
    "HParamsCallback",
    "RatesCallback",
    "Recording",
    "ScalarsCallback",
    "circuit_of",
    "evaluation_tag",
    "leaves",
    "lesions",
    "listening",
    "log_evaluations",
    "record",
    "report_on",
    "saturated_share",
    "smoothness",
    "watch",
]
