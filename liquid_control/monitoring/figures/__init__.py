"""Matplotlib figures of a circuit, its activity and its evaluations, with common colours."""

from liquid_control.monitoring.figures.circuit import circuit_graph
from liquid_control.monitoring.figures.control_rate import confidence_band, rates
from liquid_control.monitoring.figures.episode import compared_actions, raster
from liquid_control.monitoring.figures.learning_curve import learning_curve
from liquid_control.monitoring.figures.neurons import listening_map, time_constants
from liquid_control.monitoring.figures.plot_helpers import CARD, PAGE, Layout

__all__ = [
    "CARD",
    "PAGE",
    "Layout",
    "circuit_graph",
    "compared_actions",
    "confidence_band",
    "learning_curve",
    "listening_map",
    "raster",
    "rates",
    "time_constants",
]
