"""Wirings: frozen, seeded descriptions of neurons and the synapses between them."""

from __future__ import annotations

from liquid_control.wiring.layered import auto_ncp, ncp
from liquid_control.wiring.registry import make_wiring
from liquid_control.wiring.single_layer import dense, sparse_random
from liquid_control.wiring.wiring import Wiring
from liquid_control.wiring.worm import tap_withdrawal

__all__ = [
    "Wiring",
    "auto_ncp",
    "dense",
    "make_wiring",
    "ncp",
    "sparse_random",
    "tap_withdrawal",
]
