"""The kernels agree with the reference in PyTorch, forward and backward."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from liquid_control.kernels import extension
from liquid_control.wiring import auto_ncp
from tests.kernels.cases import (
    BATCHES,
    assert_agree,
    build,
    circuits,
    double,
    each_kind,
    gradients,
    is_fused,
    reference,
    sequence,
    sequences,
    trainable,
    values,
    weighed,
)

pytestmark = pytest.mark.usefixtures("kernels")

# The reference has no gradient of an empty batch.
SOME = BATCHES.filter(bool)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernels_take_every_kind(kind: str, dtype: torch.dtype) -> None:
    """Otherwise the other tests would compare the reference with itself."""
    circuit = build(kind)
    assert is_fused(circuit.to(dtype), sequence(circuit, 3, 2).to(dtype))


@each_kind
@settings(max_examples=10)
@given(st.data())
def test_forward_in_double_precision(kind: str, data: st.DataObject) -> None:
    circuit = data.draw(circuits(kind))
    case = data.draw(sequences(circuit))
    whole = data.draw(st.booleans())
    with reference(circuit):
        expected = values(circuit, case, whole=whole)
    assert_agree(values(circuit, case, whole=whole), expected, relative=1e-12, absolute=1e-12)


@each_kind
@settings(max_examples=10)
@given(st.data())
def test_forward_in_single_precision(kind: str, data: st.DataObject) -> None:
    circuit = data.draw(circuits(kind)).float()
    case = data.draw(sequences(circuit)).to(torch.float32)
    with reference(circuit):
        rounded = values(circuit, case)
        truth = values(double(circuit), case.to(torch.float64))
    found = values(circuit, case)
    assert_agree(found, truth, relative=0, absolute=1e-5, rounded=rounded)


@each_kind
@settings(max_examples=8)
@given(st.data())
def test_gradients_in_double_precision(kind: str, data: st.DataObject) -> None:
    circuit = data.draw(circuits(kind))
    case = data.draw(sequences(circuit, batches=SOME))
    whole = data.draw(st.booleans())
    with reference(circuit):
        expected = gradients(circuit, case, whole=whole)
    assert_agree(gradients(circuit, case, whole=whole), expected, relative=1e-9, absolute=1e-9)


@each_kind
@settings(max_examples=8)
@given(st.data())
def test_gradients_in_single_precision(kind: str, data: st.DataObject) -> None:
    circuit = data.draw(circuits(kind)).float()
    case = data.draw(sequences(circuit, batches=SOME, extremes=False)).to(torch.float32)
    with reference(circuit):
        rounded = gradients(circuit, case)
        truth = gradients(double(circuit), case.to(torch.float64))
    found = gradients(circuit, case)
    assert_agree(found, truth, relative=1e-4, absolute=1e-6, rounded=rounded)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@settings(max_examples=6)
@given(st.data())
def test_one_step_of_one_sample(kind: str, dtype: torch.dtype, data: st.DataObject) -> None:
    """The step of a policy that acts in one environment."""
    circuit = data.draw(circuits(kind)).to(dtype)
    case = data.draw(sequences(circuit, steps=st.just(1), batches=st.just(1))).to(dtype)
    whole = data.draw(st.booleans())
    with reference(circuit):
        expected = values(circuit, case, whole=whole)
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    assert_agree(
        values(circuit, case, whole=whole), expected, relative=tolerance, absolute=tolerance
    )


@pytest.mark.parametrize("kind", ["ltc", "ctrnn", "lrc"])
def test_more_solver_steps_than_vectors_in_a_chunk(kind: str) -> None:
    circuit = build(kind, ode_steps=70)
    case = sequence(circuit, 5, 3)
    with reference(circuit):
        expected = values(circuit, case) | gradients(circuit, case)
    assert_agree(
        values(circuit, case) | gradients(circuit, case), expected, relative=1e-9, absolute=1e-12
    )


@each_kind
def test_gradcheck(kind: str) -> None:
    """Against finite differences, not only against the gradient of the reference."""
    small = auto_ncp(2, 7, 2, sparsity=0.4, seed=3)
    circuit = build(kind, small, input_mapping="affine", output_mapping="affine")
    inputs, state, elapsed, starts = sequence(circuit, 4, 3)
    assert elapsed is not None
    assert state is not None
    tensors = (inputs, state, elapsed)
    for tensor in tensors:
        tensor.requires_grad_()

    def run(*_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return circuit(inputs, state, elapsed, starts)

    assert torch.autograd.gradcheck(run, (*tensors, *circuit.parameters()))


@pytest.mark.parametrize("name", extension.INSTRUCTION_SETS)
@each_kind
@settings(max_examples=3)
@given(st.data())
def test_every_instruction_set(name: str, kind: str, data: st.DataObject) -> None:
    choice = extension.choose()
    if name not in choice.built or name not in choice.supported:
        pytest.skip(f"no {name} here")
    module = import_module(f"liquid_control.kernels._{name}")
    circuit = data.draw(circuits(kind))
    case = data.draw(sequences(circuit, batches=SOME, extremes=False))
    with reference(circuit):
        expected = values(circuit, case) | gradients(circuit, case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extension, "load", lambda: module)
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
            copy, cast = double(circuit).to(dtype), case.to(dtype)
            actual = values(copy, cast) | gradients(copy, cast)
            assert_agree(actual, expected, relative=tolerance, absolute=1e-6)


@each_kind
@settings(max_examples=8)
@given(st.data())
def test_any_choice_of_gradients_gives_the_same_numbers(kind: str, data: st.DataObject) -> None:
    """Frozen parameters, inputs without gradient, a loss of the last state alone: any of it."""
    circuit = build(kind, output_mapping=None)
    case = sequence(circuit, 5, 5)
    leaves = trainable(circuit, case)
    wanted = data.draw(st.sets(st.sampled_from(sorted(leaves)), min_size=1))
    used = data.draw(st.sampled_from(([0], [1], [0, 1])))  # outputs, last state or both
    for name, leaf in leaves.items():
        leaf.requires_grad_(name in wanted)

    def backward() -> dict[str, torch.Tensor | None]:
        for leaf in leaves.values():
            leaf.grad = None
        results = circuit(*case)
        weighed(*(results[index] for index in used)).backward()
        return {name: leaf.grad for name, leaf in leaves.items()}

    with reference(circuit):
        expected = backward()
    for name, gradient in backward().items():
        assert (gradient is not None) == (name in wanted), name
        if gradient is not None:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


@each_kind
def test_a_reservoir_trains_its_readout_alone(kind: str) -> None:
    circuit = build(kind, plasticity="readout", output_mapping="affine")
    case = sequence(circuit, 7, 3)
    outputs, _ = circuit(*case)
    with reference(circuit):
        truth, _ = circuit(*case)
    weighed(outputs).backward()
    for name, parameter in circuit.named_parameters():
        assert (parameter.grad is not None) == name.startswith("output_mapping"), name
    (expected,) = torch.autograd.grad(weighed(truth), circuit.output_mapping.gain)
    torch.testing.assert_close(circuit.output_mapping.gain.grad, expected)


@each_kind
def test_an_empty_batch_has_gradients_of_zero(kind: str) -> None:
    circuit = build(kind)
    found = gradients(circuit, sequence(circuit, 3, 0))
    assert found["inputs"].shape == (3, 0, 3)
    assert all((gradient == 0).all() for gradient in found.values())
