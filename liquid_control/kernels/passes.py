"""Forward and backward passes without autograd, which takes longer than small networks.

A pass is for a loop of updates: parameters may change their values, but stay the same tensors. Each
call of `backward` belongs to the `forward` before it. It sets the gradients of parameters that
require one and have none yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from liquid_control.kernels.fused import (
    IS_DOUBLE,
    Call,
    Compiled,
    Tensors,
    addresses,
    run_backward,
    run_forward,
)

WIDEST = 512  # PyTorch multiplies larger matrices faster

Layer = tuple[Tensor, Tensor, str]
"""Weight (outputs, inputs), bias (outputs,), and activation: "tanh", "relu" or "identity"."""


class NetworkPass:
    """Linear layers with an activation after each.

    Args:
        module: the compiled kernels.
        layers: of the network, at least one; none is wider than `WIDEST`.
    """

    def __init__(self, module: ModuleType, layers: Sequence[Layer]) -> None:
        parameters = [each for weight, bias, _ in layers for each in (weight, bias)]
        self._network = network_of(module, layers)
        self._outputs = len(parameters[-1])
        self._is_double = IS_DOUBLE[parameters[0].dtype]
        self._parameters = parameters
        self._kept = parameters[0].new_empty(0)
        self._parts: Sequence[Tensor] = ()

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Map the concatenation of parts (samples, width) to (samples, outputs)."""
        samples = len(parts[0])
        size = self._network.kept_size(self._is_double, samples)
        if len(self._kept) < size:
            self._kept = self._kept.new_empty(size)
        outputs = parts[0].new_empty(samples, self._outputs)
        self._parts = parts
        self._network.forward(
            self._is_double,
            samples,
            self._layout(),
            addresses(self._parameters),
            self._kept.data_ptr(),
            outputs.data_ptr(),
            torch.get_num_threads(),
        )
        return outputs

    def backward(self, d_outputs: Tensor, wanted: int | None = None) -> Tensor:
        """Return the gradient of the part with index `wanted`; None: an empty tensor."""
        d_part = d_outputs.new_empty(() if wanted is None else self._parts[wanted].shape)
        d_parts = [0] * len(self._parts)
        if wanted is not None:
            d_parts[wanted] = d_part.data_ptr()
        gradients = _empty_like(self._parameters)
        self._network.backward(
            self._is_double,
            len(d_outputs),
            self._layout(),
            addresses(self._parameters),
            self._kept.data_ptr(),
            d_outputs.data_ptr(),
            [*d_parts, *addresses(gradients)],
            torch.get_num_threads(),
        )
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return d_part

    def _layout(self) -> list[tuple[int, int, int]]:
        return [(part.data_ptr(), part.shape[1], part.stride(0)) for part in self._parts]


def network_of(module: ModuleType, layers: Sequence[Layer]) -> Any:
    """Return the network in C++, shared by all networks with such layers."""
    sizes = (layers[0][0].shape[1], *(len(bias) for _, bias, _ in layers))
    return _network(module, sizes, tuple(activation for *_, activation in layers))


@cache
def _network(module: Any, sizes: tuple[int, ...], activations: tuple[str, ...]) -> Any:
    return module.Network(sizes, activations)


class CircuitPass:
    """A circuit over sequences, from a state without a gradient to the activity of all neurons."""

    def __init__(self, circuit: Any, compiled: Compiled) -> None:
        self._circuit, self._compiled = circuit, compiled
        self._kept = torch.empty(0)
        self._call: Call = (compiled, circuit.time_scale, 0, None)
        self._tensors: Tensors = ()

    def forward(
        self, inputs: Tensor, state: Tensor, elapsed_time: Tensor, episode_start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Like `Circuit.activity`."""
        time, batch, _ = inputs.shape
        size = self._compiled.kernel.kept_size(IS_DOUBLE[inputs.dtype], time, batch)
        if len(self._kept) < size:
            self._kept = inputs.new_empty(size)
        self._call = (*self._call[:3], episode_start)
        parameters = self._compiled.program.parameters(self._circuit)
        self._tensors = [inputs, state, elapsed_time, *parameters]
        return run_forward(self._call, self._tensors, self._kept, False)

    def backward(self, d_activity: Tensor) -> Tensor:
        """Return the gradient of the inputs."""
        inputs, _, _, *parameters = self._tensors
        assert inputs is not None
        d_inputs = torch.empty_like(inputs)
        gradients = _empty_like(parameters)
        wanted = [d_inputs, None, None, *gradients]
        run_backward(self._call, self._tensors, self._kept, d_activity, None, wanted)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter is not None and parameter.grad_fn is not None:
                parameter.backward(gradient)
            elif parameter is not None:
                parameter.grad = gradient
        return d_inputs


def _empty_like(parameters: Tensors) -> list[Tensor | None]:
    """Return memory for the required gradients."""
    return [
        None if each is None or not each.requires_grad else torch.empty_like(each)
        for each in parameters
    ]
