"""Forward and backward passes without autograd, which takes longer than small networks.

A pass is for a loop of updates: parameters may change their values, but stay the same tensors. Each
call of `backward` belongs to the `forward` before it. It sets the gradients of parameters that
require one and have none yet.

All results, and the gradients, are in memory that the next call of the same pass reuses: allocating
them takes as long as small networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from liquid_control.kernels.fused import (
    IS_DOUBLE,
    Call,
    Compiled,
    Tensors,
    addresses,
    empty_results,
    run_backward,
    run_forward,
)
from liquid_control.kernels.learner import NetworkMemory

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
        self._is_double = IS_DOUBLE[parameters[0].dtype]
        self._parameters = parameters
        self._gradients = _gradients_of(parameters)
        self._outputs = parameters[0].new_empty(0, len(parameters[-1]))
        self._kept = self._d_part = self._nothing = parameters[0].new_empty(0)
        self._parts: Sequence[Tensor] = ()
        self._layout: list[tuple[int, int, int]] = []

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Map the concatenation of parts (samples, width) to (samples, outputs)."""
        samples = parts[0].shape[0]
        if samples != self._outputs.shape[0]:
            self._reserve(samples)
        self._parts = parts
        self._layout = [(part.data_ptr(), part.shape[1], part.stride(0)) for part in parts]
        self._network.forward(
            self._is_double,
            samples,
            self._layout,
            addresses(self._parameters),
            self._kept.data_ptr(),
            self._outputs.data_ptr(),
            torch.get_num_threads(),
        )
        return self._outputs

    def backward(self, d_outputs: Tensor, wanted: int | None = None) -> Tensor:
        """Return the gradient of the part with index `wanted`; None: an empty tensor."""
        d_parts = [0] * len(self._parts)
        if wanted is not None:
            if self._d_part.shape != self._parts[wanted].shape:
                self._d_part = self._nothing.new_empty(self._parts[wanted].shape)
            d_parts[wanted] = self._d_part.data_ptr()
        self._network.backward(
            self._is_double,
            d_outputs.shape[0],
            self._layout,
            addresses(self._parameters),
            self._kept.data_ptr(),
            d_outputs.data_ptr(),
            [*d_parts, *addresses(self._gradients)],
            torch.get_num_threads(),
        )
        self.hold_gradients()
        return self._nothing if wanted is None else self._d_part

    def hold_gradients(self) -> None:
        """Let the parameters have their gradients in the memory of this pass."""
        _hold(self._gradients, self._parameters)

    def memory(self) -> NetworkMemory:
        """Return the network, and where its parameters and their gradients are."""
        return self._network, addresses(self._parameters), addresses(self._gradients)

    def has_gradients(self) -> bool:
        """Whether the gradients of the parameters are in the memory of this pass."""
        return _are_gradients(self._gradients, self._parameters)

    def _reserve(self, samples: int) -> None:
        self._kept = self._kept.new_empty(self._network.kept_size(self._is_double, samples))
        self._outputs = self._outputs.new_empty(samples, self._outputs.shape[1])


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
        self._parameters = compiled.program.parameters(circuit)
        self.is_derived = any(
            each is not None and not isinstance(each, nn.Parameter) for each in self._parameters
        )
        self._gradients = _gradients_of(self._parameters)
        self._kept = self._d_inputs = torch.empty(0)
        self._results = self._kept, self._kept
        self._call: Call = (compiled, circuit.time_scale, 0, None)
        self._tensors: Tensors = ()

    def forward(
        self, inputs: Tensor, state: Tensor, elapsed_time: Tensor, episode_start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Like `Circuit.activity`."""
        self._call = (*self._call[:3], episode_start)
        if self._d_inputs.shape != inputs.shape:
            self._reserve(inputs)
        if self.is_derived:
            self._parameters = self._compiled.program.parameters(self._circuit)
        self._tensors = [inputs, state, elapsed_time, *self._parameters]
        return run_forward(self._call, self._tensors, self._kept, False, self._results)

    def backward(self, d_activity: Tensor, first: int = 0) -> Tensor:
        """Return the gradient of the inputs, given that of the neurons from `first` on."""
        compiled, time_scale, _, starts = self._call
        call = compiled, time_scale, first, starts
        wanted = [self._d_inputs, None, None, *self._gradients]
        run_backward(call, self._tensors, self._kept, d_activity, None, wanted)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            if parameter is not None and parameter.grad_fn is not None:
                parameter.backward(gradient)
            elif parameter is not None:
                parameter.grad = gradient
        return self._d_inputs

    def hold_gradients(self) -> None:
        """Let parameters that are the circuit's own have gradients in the memory of this pass."""
        if not self.is_derived:
            _hold(self._gradients, self._parameters)

    def memory(self) -> tuple[Any, float, list[int], list[int]]:
        """Return the circuit, its time scale, and where parameters and gradients are."""
        own = addresses(self._parameters), addresses(self._gradients)
        return self._compiled.kernel, self._call[1], *own

    def has_gradients(self) -> bool:
        """Whether all parameters are the circuit's own, with gradients in memory of this pass."""
        return not self.is_derived and _are_gradients(self._gradients, self._parameters)

    def _reserve(self, inputs: Tensor) -> None:
        time, batch, _ = inputs.shape
        size = self._compiled.kernel.kept_size(IS_DOUBLE[inputs.dtype], time, batch)
        self._kept, self._d_inputs = inputs.new_empty(size), torch.empty_like(inputs)
        self._results = empty_results(self._call, inputs)


def _gradients_of(parameters: Tensors) -> list[Tensor | None]:
    """Return memory for the required gradients: that of earlier ones where possible."""
    return [
        None if each is None or not each.requires_grad else gradient_of(each) for each in parameters
    ]


def _hold(gradients: Tensors, parameters: Tensors) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter is not None:
            parameter.grad = gradient


def _are_gradients(gradients: Tensors, parameters: Tensors) -> bool:
    return all(
        parameter is None or parameter.grad is gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    )


def gradient_of(parameter: Tensor) -> Tensor:
    """Return memory for the gradient of a parameter: that of an earlier one where possible."""
    before = parameter.grad if parameter.is_leaf else None
    if before is None or before.requires_grad or not before.is_contiguous():
        return torch.empty_like(parameter.detach())
    return before
