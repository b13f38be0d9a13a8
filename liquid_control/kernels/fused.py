"""The fused unroll: a circuit's whole sequence in one call of the compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from liquid_control.kernels import extension
from liquid_control.kernels.programs import Program, compile_circuit
from liquid_control.neurons import Circuit

IS_DOUBLE = {torch.float32: False, torch.float64: True}

_programs: WeakKeyDictionary[Circuit, Program | None] = WeakKeyDictionary()


def plug_in() -> None:
    """Let every circuit ask the kernels first; PyTorch does what they do not know."""
    Circuit.fused = staticmethod(unroll)


def unroll(
    circuit: Circuit,
    inputs: Tensor,
    state: Tensor | None,
    elapsed_time: Tensor | None,
    episode_start: Tensor | None,
    first: int,
) -> tuple[Tensor, Tensor] | None:
    """Unroll a circuit by the compiled kernels, if they can; arguments as `Circuit` checked them.

    Args:
        circuit: the neurons.
        inputs: (time, batch, sensory).
        state: (batch, state_size), or None for zeros.
        elapsed_time: (time, batch) seconds, or None.
        episode_start: (time, batch), or None.
        first: the first neuron whose activity is wanted.

    Returns:
        activity (time, batch, neurons from `first` on) and the last state; None where it takes
        PyTorch: other devices and types of number, other neurons and solvers, tracing.
    """
    program = _program(circuit)
    if program is None or torch.compiler.is_compiling():
        return None
    if circuit.input_mapping is not None and not program.maps_inputs:
        inputs = circuit.input_mapping(inputs)
    dtype = inputs.dtype
    tensors = [inputs, state, elapsed_time, *program.parameters()]
    for i, tensor in enumerate(tensors):
        if tensor is None:
            continue
        if tensor.dtype is not dtype or dtype not in IS_DOUBLE or not tensor.is_cpu:
            return None
        if not tensor.is_contiguous():
            tensors[i] = tensor.contiguous()
    starts = None if episode_start is None else (episode_start != 0).contiguous()
    call = _Call(program.kernel, circuit.time_scale, circuit.state_size, first, starts)
    if torch.is_grad_enabled():
        outputs, last = _Unroll.apply(call, *tensors)  # type: ignore[no-untyped-call]
        return outputs, last
    return call.forward(None, False, tensors)


def _program(circuit: Circuit) -> Program | None:
    """The circuit's program, compiled when it is first asked for."""
    try:
        return _programs[circuit]
    except KeyError:
        module = extension.load()
        program = None if module is None else compile_circuit(circuit, module)
        _programs[circuit] = program
        return program


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


class _Call:
    """One unroll: all of it that no gradient is taken by."""

    __slots__ = ("first", "kernel", "starts", "state_size", "time_scale")

    def __init__(
        self, kernel: Any, time_scale: float, state_size: int, first: int, starts: Tensor | None
    ) -> None:
        self.kernel = kernel
        self.time_scale = time_scale
        self.state_size = state_size
        self.first = first
        self.starts = starts

    def forward(
        self, kept: Tensor | None, wants_time: bool, tensors: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Outputs and the last state; what going backward needs goes into `kept`."""
        inputs, state, elapsed_time, *parameters = tensors
        assert inputs is not None
        time, batch, _ = inputs.shape
        outputs = inputs.new_empty(time, batch, self.kernel.visible - self.first)
        last = inputs.new_empty(batch, self.state_size)
        self.kernel.forward(
            IS_DOUBLE[inputs.dtype],
            time,
            batch,
            self.time_scale,
            self.first,
            wants_time,
            [_address(parameter) for parameter in parameters],
            inputs.data_ptr(),
            _address(state),
            _address(elapsed_time),
            _address(self.starts),
            _address(kept),
            outputs.data_ptr(),
            last.data_ptr(),
            torch.get_num_threads(),
        )
        return outputs, last

    def backward(
        self,
        kept: Tensor,
        tensors: Sequence[Tensor | None],
        d_outputs: Tensor | None,
        d_last: Tensor | None,
        gradients: Sequence[Tensor | None],
    ) -> None:
        """Fill `gradients`, in the order of `tensors`; None for one that is not wanted."""
        inputs, _, elapsed_time, *parameters = tensors
        d_inputs, d_state, d_elapsed_time, *d_parameters = gradients
        assert inputs is not None
        time, batch, _ = inputs.shape
        self.kernel.backward(
            IS_DOUBLE[inputs.dtype],
            time,
            batch,
            self.time_scale,
            self.first,
            d_elapsed_time is not None,
            [_address(parameter) for parameter in parameters],
            inputs.data_ptr(),
            _address(elapsed_time),
            _address(self.starts),
            kept.data_ptr(),
            _address(d_outputs),
            _address(d_last),
            [_address(gradient) for gradient in d_parameters],
            _address(d_inputs),
            _address(d_state),
            _address(d_elapsed_time),
            torch.get_num_threads(),
        )


class _Unroll(torch.autograd.Function):
    """The unroll with its gradient."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        trajectory = None
        inputs = tensors[0]
        if inputs is not None and any(ctx.needs_input_grad):
            time, batch, _ = inputs.shape
            size = call.kernel.kept_size(IS_DOUBLE[inputs.dtype], time, batch)
            trajectory = Trajectory(size, inputs.dtype)
        ctx.call, ctx.trajectory = call, trajectory
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        wants_time = ctx.needs_input_grad[3]
        return call.forward(trajectory.memory if trajectory else None, wants_time, tensors)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        gradients = [
            torch.empty_like(tensor) if wanted else None
            for tensor, wanted in zip(tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        ctx.call.backward(
            ctx.trajectory.memory,
            tensors,
            None if d_outputs is None else d_outputs.contiguous(),
            None if d_last is None else d_last.contiguous(),
            gradients,
        )
        return None, *gradients


class Trajectory:
    """Memory for what going backward needs, which the next unroll of the same size uses again.

    Memory fresh from the system costs more time than the kernels take to fill it.
    """

    SPARES = 4

    _spares: ClassVar[list[Tensor]] = []

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        for index, spare in enumerate(self._spares):
            if len(spare) == size and spare.dtype is dtype:
                self.memory = self._spares.pop(index)
                return
        self.memory = torch.empty(size, dtype=dtype)

    def __del__(self) -> None:
        self._spares.insert(0, self.memory)
        del self._spares[self.SPARES :]
