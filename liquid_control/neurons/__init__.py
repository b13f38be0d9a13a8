"""Neuron models: how the state of a wired circuit changes over time.

Every model is an `nn.Module` with the same interface,
`outputs, state = circuit(inputs, state, elapsed_time, episode_start)`; see `Circuit`.
"""

from liquid_control.neurons.baselines import GRU, LSTM
from liquid_control.neurons.cfc import CfC
from liquid_control.neurons.circuit import Circuit
from liquid_control.neurons.ctrnn import CTRNN
from liquid_control.neurons.lrc import LRC
from liquid_control.neurons.ltc import LTC

NEURONS: dict[str, type[Circuit]] = {
    "cfc": CfC,
    "ltc": LTC,
    "ctrnn": CTRNN,
    "lrc": LRC,
    "lstm": LSTM,
    "gru": GRU,
}

__all__ = ["CTRNN", "GRU", "LRC", "LSTM", "LTC", "NEURONS", "CfC", "Circuit"]
