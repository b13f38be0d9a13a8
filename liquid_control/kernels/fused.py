"""The fused unroll: one call of the compiled kernels for a whole sequence."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd import forward_ad

from liquid_control.kernels import extension
from liquid_control.kernels.program import Program

IS_DOUBLE = {torch.float32: False, torch.float64: True}


class Unrollable(Protocol):
    """The interface of a circuit for `unroll`."""

    time_scale: float
    state_size: int

    @property
    def input_mapping(self) -> Callable[[Tensor], Tensor] | None:
        """The mapping of the inputs, if there is one."""

    def program(self) -> Program | None:
        """The circuit's program; None if the kernels do not support its neurons or solver."""


@dataclass(frozen=True)
class Compiled:
    """A program, its plan in C++ (with `forward` and `backward`), and the size of the state."""

    program: Program
    kernel: Any
    state_size: int


_compiled: WeakKeyDictionary[Unrollable, Compiled | None] = WeakKeyDictionary()


def unroll(
    circuit: Unrollable,
    inputs: Tensor,
    state: Tensor | None,
    elapsed_time: Tensor | None,
    episode_start: Tensor | None,
    first: int,
) -> tuple[Tensor, Tensor] | None:
    """Unroll a circuit in the compiled kernels, if possible.

    Args:
        circuit: the neurons. The other arguments must fit it.
        inputs: (time, batch, sensory).
        state: (batch, state_size), or None for zeros.
        elapsed_time: (time, batch) seconds, or None.
        episode_start: (time, batch), or None.
        first: the first neuron whose activity is returned.

    Returns:
        activity (time, batch, neurons from `first` on) and the last state; None where PyTorch is
        needed: for a circuit without a program, for other devices and dtypes, and for tracing.
    """
    if is_traced() or (compiled := compile_circuit(circuit)) is None:
        return None
    program = compiled.program
    if circuit.input_mapping is not None and not program.maps_inputs:
        inputs = circuit.input_mapping(inputs)
    dtype = inputs.dtype
    tensors = [inputs, state, elapsed_time, *program.parameters(circuit)]
    strided = False
    for tensor in tensors:
        if tensor is not None:
            if tensor.dtype is not dtype or not tensor.is_cpu:
                return None
            strided = strided or not tensor.is_contiguous()
    if dtype not in IS_DOUBLE:
        return None
    if strided:
        tensors = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    starts = episode_start
    if starts is not None:
        starts = (starts if starts.dtype is torch.bool else starts != 0).contiguous()
    call = (compiled, circuit.time_scale, first, starts)
    if torch.is_grad_enabled():
        outputs, last = _Unroll.apply(call, *tensors)  # type: ignore[no-untyped-call]
        return outputs, last
    return run_forward(call, tensors, None, False)


def compile_circuit(circuit: Unrollable) -> Compiled | None:
    """Return the circuit's compiled program, which is created at its first unroll."""
    try:
        return _compiled[circuit]
    except KeyError:
        module = extension.load()
        program = None if module is None else circuit.program()
        compiled = None
        if module is not None and program is not None:
            compiled = Compiled(program, program.compile(module), circuit.state_size)
        _compiled[circuit] = compiled
        return compiled


def is_traced() -> bool:
    """Whether tensors may have no values, or are recorded: what reads their memory must not run.

    So in torch.compile and torch.export, torch.jit.trace, torch.func and forward-mode AD.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


Call = tuple[Compiled, float, int, Tensor | None]
"""Compiled program, time scale, first returned neuron, episode starts: all without a gradient."""

Tensors = Sequence[Tensor | None]
"""Inputs, state, elapsed time and the program's parameters."""


def empty_results(call: Call, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return memory for the outputs and the last state of a call."""
    compiled, _, first, _ = call
    time, batch, _ = inputs.shape
    outputs = inputs.new_empty(time, batch, compiled.program.neurons - first)
    return outputs, inputs.new_empty(batch, compiled.state_size)


def run_forward(
    call: Call,
    tensors: Tensors,
    kept: Tensor | None,
    wants_time: bool,
    results: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return outputs and last state, and store values for the backward pass in `kept`.

    They are written to the memory `results`, or to new memory.
    """
    compiled, time_scale, first, starts = call
    inputs = tensors[0]
    assert inputs is not None
    time, batch, _ = inputs.shape
    outputs, last = results or empty_results(call, inputs)
    compiled.kernel.forward(
        IS_DOUBLE[inputs.dtype],
        time,
        batch,
        time_scale,
        first,
        wants_time,
        addresses(tensors),
        0 if starts is None else starts.data_ptr(),
        0 if kept is None else kept.data_ptr(),
        outputs.data_ptr(),
        last.data_ptr(),
        torch.get_num_threads(),
    )
    return outputs, last


def run_backward(
    call: Call,
    tensors: Tensors,
    kept: Tensor,
    d_outputs: Tensor | None,
    d_last: Tensor | None,
    gradients: Tensors,
) -> None:
    """Write the gradients of the tensors, given those of outputs and last state."""
    compiled, time_scale, first, starts = call
    inputs = tensors[0]
    assert inputs is not None
    time, batch, _ = inputs.shape
    d_outputs = None if d_outputs is None else d_outputs.contiguous()
    d_last = None if d_last is None else d_last.contiguous()
    compiled.kernel.backward(
        IS_DOUBLE[inputs.dtype],
        time,
        batch,
        time_scale,
        first,
        addresses(tensors),
        0 if starts is None else starts.data_ptr(),
        kept.data_ptr(),
        *addresses((d_outputs, d_last)),
        addresses(gradients),
        torch.get_num_threads(),
    )


def addresses(tensors: Tensors) -> list[int]:
    """Return the memory address of each tensor, zero for None."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


class _Unroll(torch.autograd.Function):
    """The unroll with its gradient."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        trajectory = None
        inputs = tensors[0]
        if inputs is not None and any(ctx.needs_input_grad):
            time, batch, _ = inputs.shape
            size = call[0].kernel.kept_size(IS_DOUBLE[inputs.dtype], time, batch)
            trajectory = Trajectory(size, inputs.dtype)
        ctx.call, ctx.trajectory = call, trajectory
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        wants_time = ctx.needs_input_grad[3]
        return run_forward(call, tensors, trajectory.memory if trajectory else None, wants_time)

    @staticmethod
    def backward(
        ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        is_asked = d_outputs is not None or d_last is not None
        if is_asked and torch.is_grad_enabled():  # with create_graph=True
            raise RuntimeError(
                "the compiled kernels have no second derivatives; set circuit.backend = 'pytorch'"
            )
        tensors = ctx.saved_tensors
        gradients = [
            torch.empty_like(tensor) if wanted else None
            for tensor, wanted in zip(tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        run_backward(ctx.call, tensors, ctx.trajectory.memory, d_outputs, d_last, gradients)
        return None, *gradients


class Trajectory:
    """Memory for the backward pass, reused by the next unroll of the same size.

    Allocating new memory takes longer than filling it. Spare memory is taken and returned by
    single operations of a deque, because other threads, and the garbage collector at any time in
    this one, do the same.
    """

    SPARES = 4

    _spares: ClassVar[deque[Tensor]] = deque(maxlen=SPARES)

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        spare = self._spare(size, dtype)
        self.memory = torch.empty(size, dtype=dtype) if spare is None else spare

    def __del__(self) -> None:
        self._spares.append(self.memory)

    @classmethod
    def _spare(cls, size: int, dtype: torch.dtype) -> Tensor | None:
        for _ in range(len(cls._spares)):
            try:
                spare = cls._spares.pop()
            except IndexError:
                return None
            if len(spare) == size and spare.dtype is dtype:
                return spare
            cls._spares.appendleft(spare)
        return None
