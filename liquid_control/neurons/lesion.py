"""Lesions: hold one neuron at rest, to measure its contribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import index

import torch

from liquid_control.neurons.circuit import Circuit


@contextmanager
def at_rest(circuit: Circuit, neuron: int) -> Iterator[None]:
    """Hold a neuron's activity at zero, from the initial state on.

    A neuron of any model stays at rest if its parameters and incoming synapses are all zero. They
    are zero inside the context, and are restored bit for bit after it.

    Args:
        circuit: its parameters must not be changed inside the context.
        neuron: index of the neuron in the wiring.

    Raises:
        TypeError: If `neuron` is not a whole number.
        ValueError: If the circuit has no such neuron.
    """
    neuron = index(neuron)
    count = circuit.wiring.neuron_count
    if not 0 <= neuron < count:
        raise ValueError(f"neuron must be from 0 to {count - 1}, got {neuron}")
    owned = [(parameter, owners == neuron) for parameter, owners in circuit.owners()]
    kept = [parameter.detach()[..., own] for parameter, own in owned]
    try:
        with torch.no_grad():
            for parameter, own in owned:
                parameter[..., own] = 0
        yield
    finally:
        with torch.no_grad():
            for (parameter, own), values in zip(owned, kept, strict=True):
                parameter[..., own] = values
