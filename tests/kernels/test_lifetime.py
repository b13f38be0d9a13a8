"""Programs use the current parameters of their circuit, and unrolls own their memory."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch import nn

from liquid_control.kernels.fused import Trajectory
from liquid_control.neurons import Circuit
from liquid_control.neurons.circuit import BACKENDS
from tests.kernels.cases import (
    KINDS,
    Sequence,
    assert_agree,
    assert_equal,
    build,
    each_kind,
    gradients,
    is_fused,
    reference,
    sequence,
    values,
    weighed,
)

pytestmark = pytest.mark.usefixtures("kernels")


def in_place(circuit: Circuit) -> Circuit:
    with torch.no_grad():
        for parameter in circuit.parameters():
            parameter.mul_(1.1).add_(0.1)
    return circuit


def through_data(circuit: Circuit) -> Circuit:
    for parameter in circuit.parameters():
        parameter.data = 1.1 * parameter.data
    return circuit


def replaced(circuit: Circuit) -> Circuit:
    for module in circuit.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach() + 0.1))
    return circuit


def loaded(circuit: Circuit) -> Circuit:
    circuit.load_state_dict({name: 0.9 * value for name, value in circuit.state_dict().items()})
    return circuit


def trained(circuit: Circuit) -> Circuit:
    optimizer = torch.optim.Adam(circuit.parameters(), lr=0.1)
    weighed(*circuit(*sequence(circuit, 3, 2))).backward()
    optimizer.step()
    return circuit


def deep_copy(circuit: Circuit) -> Circuit:
    return in_place(copy.deepcopy(circuit))


def unpickled(circuit: Circuit) -> Circuit:
    return in_place(pickle.loads(pickle.dumps(circuit)))


@each_kind
@pytest.mark.parametrize(
    "change",
    [in_place, through_data, replaced, loaded, trained, deep_copy, unpickled],
    ids=lambda change: change.__name__,
)
def test_the_next_call_uses_what_is_there(kind: str, change: Callable[[Circuit], Circuit]) -> None:
    circuit = build(kind)
    case = sequence(circuit, 6, 5)
    before = values(circuit, case)
    circuit = change(circuit)
    with reference(circuit):
        expected = values(circuit, case) | gradients(circuit, case)
    assert not torch.allclose(expected["outputs"], before["outputs"])
    assert_agree(
        values(circuit, case) | gradients(circuit, case), expected, relative=1e-9, absolute=1e-12
    )


@each_kind
def test_a_copy_leaves_the_original_alone(kind: str) -> None:
    circuit = build(kind)
    case = sequence(circuit, 6, 5)
    expected = values(circuit, case)
    for twin in (copy.deepcopy(circuit), pickle.loads(pickle.dumps(circuit))):
        assert_equal(values(in_place(twin), case), values(twin, case))
        assert_equal(values(circuit, case), expected)


@each_kind
def test_the_precision_can_change_after_first_use(kind: str) -> None:
    circuit = build(kind)
    case = sequence(circuit, 6, 5)
    precise = values(circuit, case)
    single = values(circuit.float(), case.to(torch.float32))
    assert single["outputs"].dtype is torch.float32
    assert_agree(single, precise, relative=0, absolute=1e-5)
    double = values(circuit.double(), case)
    assert double["outputs"].dtype is torch.float64
    with reference(circuit):
        assert_agree(double, values(circuit, case), relative=0, absolute=1e-12)


@each_kind
@pytest.mark.parametrize("backend", BACKENDS)
def test_functional_calls_use_the_parameters_they_are_given(kind: str, backend: str) -> None:
    """Also in the backward pass, when the circuit has its own parameters again."""
    circuit, twin = build(kind, backend=backend), in_place(build(kind, backend=backend))
    case = sequence(circuit, 6, 5)
    own, others = values(circuit, case), dict(twin.named_parameters())
    expected = torch.autograd.grad(weighed(*twin(*case)), list(others.values()))
    results = torch.func.functional_call(circuit, others, tuple(case))
    found = torch.autograd.grad(weighed(*results), list(others.values()))
    assert all(map(torch.equal, found, expected))
    assert_equal(values(circuit, case), own)


@each_kind
def test_a_second_backward_pass_gives_the_same_gradients(kind: str) -> None:
    circuit = build(kind)
    outputs, last = circuit(*sequence(circuit, 40, 5))
    loss, parameters = weighed(outputs, last), list(circuit.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    again = torch.autograd.grad(loss, parameters)
    assert all(map(torch.equal, first, again))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, parameters)


@each_kind
@pytest.mark.parametrize("part", ["inputs", "state", "elapsed_time"])
def test_a_tensor_changed_before_the_backward_pass_is_an_error(kind: str, part: str) -> None:
    circuit = build(kind, input_mapping=None)
    case = sequence(circuit, 6, 5)
    outputs, _ = circuit(*case)
    getattr(case, part).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


@each_kind
def test_unrolls_alive_at_once_do_not_share_their_memory(kind: str) -> None:
    """Backward in any order, with unrolls of the same size in between."""
    circuit = build(kind)
    cases = [sequence(circuit, 40, 5, seed) for seed in range(6)]
    parameters = list(circuit.parameters())
    expected = [torch.autograd.grad(weighed(*circuit(*case)), parameters) for case in cases]
    losses = [weighed(*circuit(*case)) for case in cases]
    for index in (3, 0, 5, 1, 4, 2):
        found = torch.autograd.grad(losses[index], parameters)
        losses.append(weighed(*circuit(*cases[index])))
        assert all(map(torch.equal, found, expected[index]))


@each_kind
def test_an_unroll_may_continue_another(kind: str) -> None:
    """The gradient passes through the state from one call to the call before."""
    circuit = build(kind)
    inputs, state, elapsed, starts = sequence(circuit, 60, 5)
    expected = gradients(circuit, Sequence(inputs, state, elapsed, starts))
    leaf = state.clone().requires_grad_()
    parts, carried = [], leaf
    for first, end in pairwise((0, 1, 18, 60)):
        now = slice(first, end)
        outputs, carried = circuit(inputs[now], carried, elapsed[now], starts[now])
        parts.append(outputs)
    found = torch.autograd.grad(weighed(torch.cat(parts), carried), [leaf, *circuit.parameters()])
    names = ["state", *(name for name, _ in circuit.named_parameters())]
    wanted = {name: expected[name] for name in names}
    assert_agree(dict(zip(names, found, strict=True)), wanted, relative=1e-9, absolute=1e-12)


def test_memory_does_not_grow_with_the_number_of_unrolls() -> None:
    circuit = build("cfc-default")
    for steps in range(1, 40):
        weighed(*circuit(*sequence(circuit, steps, 5))).backward()
    alive = [weighed(*circuit(*sequence(circuit, 7, 5))) for _ in range(20)]
    del alive
    gc.collect()
    assert len(Trajectory._spares) <= Trajectory.SPARES


def test_memory_has_the_size_that_was_asked_for_in_any_thread() -> None:
    interval = sys.getswitchinterval()

    def sizes(_: int) -> list[int]:
        return [len(Trajectory(size, torch.float32).memory) for size in (10, 20, 30) * 500]

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(sizes, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert found == [[10, 20, 30] * 500] * 4


def test_circuits_that_are_gone_leave_nothing_behind() -> None:
    gone = {}
    for kind in KINDS:
        circuit = build(kind)
        assert is_fused(circuit, sequence(circuit, 3, 2))
        gone[kind] = weakref.ref(circuit)
    del circuit
    gc.collect()
    assert [kind for kind, circuit in gone.items() if circuit() is not None] == []


@each_kind
def test_second_derivatives_are_refused_rather_than_left_out(kind: str) -> None:
    circuit = build(kind)
    shape, weight = (4, 2, circuit.wiring.sensory_count), next(circuit.parameters())
    inputs = torch.randn(shape, dtype=weight.dtype, requires_grad=True)
    outputs, _ = circuit(inputs)
    torch.autograd.grad(outputs.sum(), inputs, retain_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivatives; set circuit\.backend"):
        torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
