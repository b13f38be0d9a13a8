"""The kernels take tensors of any layout, dtype and device, or leave them to PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from liquid_control.neurons import NEURONS, Circuit
from tests.kernels.cases import (
    WIRING,
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
)

pytestmark = pytest.mark.usefixtures("kernels")


def strided(tensor: Tensor) -> Tensor:
    """Every second number of a larger tensor that is NaN in between."""
    larger = torch.full((*tensor.shape, 2), torch.nan, dtype=tensor.dtype)
    larger[..., 0] = tensor
    return larger[..., 0]


def transposed(tensor: Tensor) -> Tensor:
    """The same numbers, with the axes reversed in memory."""
    axes = list(range(tensor.dim()))[::-1]
    return tensor.permute(axes).contiguous().permute(axes)


def expanded(tensor: Tensor) -> Tensor:
    """The first sample of the batch instead of each, stored once."""
    axis = tensor.dim() - 2 if tensor.dim() == 3 else 0
    return tensor.narrow(axis, 0, 1).expand(tensor.shape)


@each_kind
@pytest.mark.parametrize("layout", [strided, transposed, expanded], ids=lambda each: each.__name__)
def test_a_layout_is_only_a_layout(kind: str, layout: Callable[[Tensor], Tensor]) -> None:
    circuit = build(kind)
    case = Sequence(*(layout(tensor) for tensor in sequence(circuit, 6, 5)))
    plain = Sequence(*(tensor.contiguous().clone() for tensor in case))
    assert_equal(values(circuit, case), values(circuit, plain))
    assert_equal(gradients(circuit, case), gradients(circuit, plain))


@each_kind
@pytest.mark.parametrize("layout", [strided, transposed, expanded], ids=lambda each: each.__name__)
def test_a_gradient_from_upstream_may_have_any_layout(
    kind: str, layout: Callable[[Tensor], Tensor]
) -> None:
    circuit = build(kind, output_mapping=None)
    case = sequence(circuit, 6, 5)
    results = circuit(*case)
    upstream = [layout(torch.randn_like(result)) for result in results]
    found = torch.autograd.grad(results, list(circuit.parameters()), upstream, retain_graph=True)
    plain = [each.contiguous().clone() for each in upstream]
    expected = torch.autograd.grad(results, list(circuit.parameters()), plain)
    assert all(map(torch.equal, found, expected))


@each_kind
def test_a_slice_of_a_rollout_is_read_where_it_lies(kind: str) -> None:
    """Numbers beside the slice are neither read nor written."""
    circuit = build(kind)
    rollout = sequence(circuit, 12, 8)
    before = Sequence(*(tensor.clone() for tensor in rollout))
    steps, samples = slice(3, 9), slice(2, 7)
    inputs, state, elapsed, starts = rollout
    part = Sequence(
        inputs[steps, samples], state[samples], elapsed[steps, samples], starts[steps, samples]
    )
    with reference(circuit):
        expected = values(circuit, part) | gradients(circuit, part)
    found = values(circuit, part) | gradients(circuit, part)
    assert_agree(found, expected, relative=1e-12, absolute=1e-12)
    assert all(map(torch.equal, rollout, before))


@each_kind
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_episode_starts_may_be_of_any_type(kind: str, dtype: torch.dtype) -> None:
    circuit = build(kind)
    case = sequence(circuit, 6, 5)
    cast = case._replace(episode_start=case.episode_start.to(dtype))
    assert is_fused(circuit, cast)
    assert_equal(values(circuit, cast), values(circuit, case))


@each_kind
def test_without_gradient_the_numbers_are_the_same(kind: str) -> None:
    circuit = build(kind)
    case = sequence(circuit, 40, 5)
    outputs, last = circuit(*case)
    expected = {"outputs": outputs.detach(), "last state": last.detach()}
    assert outputs.requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = dict(zip(expected, circuit(*case), strict=True))
        assert not found["outputs"].requires_grad
        assert_equal(found, expected)
    circuit.requires_grad_(False)
    frozen = circuit(*case)
    assert not frozen[0].requires_grad
    assert_equal(dict(zip(expected, frozen, strict=True)), expected)


@each_kind
@pytest.mark.parametrize("part", ["inputs", "state", "elapsed_time"])
def test_a_tensor_of_another_type_meets_what_the_reference_says(kind: str, part: str) -> None:
    circuit = build(kind, input_mapping=None)
    case = sequence(circuit, 3, 2)
    case = case._replace(**{part: getattr(case, part).float()})
    assert not is_fused(circuit, case)
    with reference(circuit):
        expected = outcome(circuit, case)
    assert outcome(circuit, case) == expected


def outcome(circuit: Circuit, case: Sequence) -> str:
    """The numbers, or the error."""
    try:
        return str([value.tolist() for value in values(circuit, case).values()])
    except RuntimeError as error:
        return str(error)


@each_kind
def test_types_without_kernels_are_left_to_pytorch(kind: str) -> None:
    circuit = build(kind).to(torch.bfloat16)
    case = sequence(circuit, 3, 2).to(torch.bfloat16)
    with reference(circuit):
        expected = values(circuit, case)
    assert_equal(values(circuit, case), expected)


@pytest.mark.parametrize("model", NEURONS.values())
def test_other_devices_are_left_to_pytorch(model: type[Circuit]) -> None:
    circuit = model(WIRING).to("meta")
    outputs, last = circuit(torch.empty(4, 3, 3, device="meta"))
    assert outputs.shape == (4, 3, 2)
    assert last.device.type == "meta"


@each_kind
def test_wrong_shapes_never_reach_the_kernels(kind: str) -> None:
    circuit = build(kind)
    case = sequence(circuit, 4, 3)
    for name, tensor in case._asdict().items():
        with pytest.raises(ValueError, match=name):
            circuit(*case._replace(**{name: tensor[:, 1:] if name == "state" else tensor[:0]}))


@pytest.mark.parametrize(
    "kind",
    [
        "cfc-default",
        "ltc",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("ctrnn", "lrc", "lstm", "gru")),
    ],
)
def test_an_exported_step_runs_without_the_kernels(kind: str) -> None:
    circuit = build(kind).eval()
    case = sequence(circuit, 6, 4)
    program = torch.export.export(circuit, tuple(case)).module()
    with torch.no_grad():
        found = dict(zip(("outputs", "last state"), program(*case), strict=True))
    assert_agree(values(circuit, case), found, relative=1e-12, absolute=1e-12)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("with_gradients", [False, True])
@each_kind
def test_a_trace_holds_for_other_numbers_and_episodes(kind: str, with_gradients: bool) -> None:
    circuit = build(kind).eval()
    case, other = sequence(circuit, 6, 5), sequence(circuit, 6, 5, seed=1)
    with torch.set_grad_enabled(with_gradients):
        traced = torch.jit.trace(circuit, tuple(case), check_trace=False)
        found = dict(zip(("outputs", "last state"), traced(*other), strict=True))
    assert_agree(values(circuit, other), found, relative=1e-12, absolute=1e-12)


@each_kind
def test_transforms_of_functions_see_through_the_reference(kind: str) -> None:
    """Gradients sample by sample."""
    circuit = build(kind)
    inputs = sequence(circuit, 3, 4).inputs

    def loss(inputs: Tensor) -> Tensor:
        return circuit(inputs.unsqueeze(1))[0].sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=1, out_dims=1)(inputs)
    inputs.requires_grad_()
    (expected,) = torch.autograd.grad(circuit(inputs)[0].sum(), inputs)
    torch.testing.assert_close(found, expected)
