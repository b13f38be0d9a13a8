"""Figures of a circuit and of what it does, in one colour language; each is ready to be saved."""

from liquid_control.monitoring.figures.circuit import circuit_graph
from liquid_control.monitoring.figures.control_rate import confidence_band, rates
from liquid_control.monitoring.figures.episode import raster
from liquid_control.monitoring.figures.histograms import time_constants
from liquid_control.monitoring.figures.relations import listening_map

__all__ = [
    "circuit_graph",
    "confidence_band",
    "listening_map",
    "raster",
    "rates",
    "time_constants",
]
