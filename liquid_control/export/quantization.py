"""Quantization of weights to small whole numbers, with a scale for each target and gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from liquid_control.export.description import (
    Dense,
    Description,
    ExportError,
    Repeat,
    Statement,
    Sum,
    as_floats,
)
from liquid_control.export.expressions import Floats

BITS = {"int8": 8, "int4": 4}
"""Bits of one weight, by the name of the kind."""


def quantized(description: Description, weights: str) -> Description:
    """Round the weights of synapses and layers; biases and the state stay in single precision.

    A weight becomes a whole number, at most 127 for "int8" and 7 for "int4", times the scale of its
    target neuron and gate, the smallest that fits the largest weight there.

    Raises:
        ExportError: there is no such kind of weights, or the weights are rounded already.
    """
    if weights not in BITS:
        raise ExportError(f"weights can be {' or '.join(BITS)}, got {weights!r}")
    if description.weights != "float32":
        raise ExportError(f"the weights are {description.weights} already")
    most = (1 << (BITS[weights] - 1)) - 1
    statements = tuple(_rounded(description.statements, most))
    return replace(description, statements=statements, weights=weights)


def codes(each: Sum | Dense) -> NDArray[np.int8]:
    """Return the whole numbers of rounded weights, in the shape of the weights."""
    assert each.scales is not None
    found: NDArray[np.int8]
    if isinstance(each, Dense):
        found = np.rint(each.weight / each.scales[:, None]).astype(np.int8)
    else:
        scales = np.repeat(each.scales, np.diff(each.starts), axis=1)
        found = np.rint(each.parameters / scales).astype(np.int8)
    return found


def without_scales(description: Description) -> Description:
    """Return the same numbers as plain weights, for comparison with files."""
    return replace(description, statements=tuple(_plain(description.statements)))


def _rounded(statements: Sequence[Statement], most: int) -> Iterator[Statement]:
    for each in statements:
        if isinstance(each, Repeat):
            yield replace(each, body=tuple(_rounded(each.body, most)))
        elif isinstance(each, Dense):
            scales = _scales(np.abs(each.weight).max(axis=1), most)
            weight = as_floats(np.rint(each.weight / scales[:, None])) * scales[:, None]
            yield replace(each, weight=weight, scales=scales)
        elif isinstance(each, Sum):
            counts = np.diff(each.starts)
            largest = np.zeros((len(each.parameters), len(counts)), np.float32)
            has = counts > 0  # `reduceat` also returns values for empty parts
            firsts = each.starts[:-1][has]
            largest[:, has] = np.maximum.reduceat(np.abs(each.parameters), firsts, axis=1)
            scales = _scales(largest, most)
            spread = np.repeat(scales, counts, axis=1)
            parameters = as_floats(np.rint(each.parameters / spread)) * spread
            yield replace(each, parameters=parameters, scales=scales)
        else:
            yield each


def _scales(largest: Floats, most: int) -> Floats:
    """Return a scale for each row, given its largest weight; arbitrary for (almost) zeros."""
    scales = as_floats(largest / most)
    return np.where(scales > 0, scales, np.float32(1.0))


def _plain(statements: Sequence[Statement]) -> Iterator[Statement]:
    for each in statements:
        if isinstance(each, Repeat):
            yield replace(each, body=tuple(_plain(each.body)))
        elif isinstance(each, Sum | Dense):
            yield replace(each, scales=None)
        else:
            yield each
