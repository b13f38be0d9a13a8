"""NaN and infinity stay in their sample, reach its outputs, and end with a reset."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from liquid_control.wiring import dense
from tests.kernels.cases import Sequence, build, each_kind, reference, sequence, values

pytestmark = pytest.mark.usefixtures("kernels")

BROKEN, BATCH, STEPS = 4, 21, 7  # the broken sample is in the middle of a vector
PARTS = ("inputs", "state", "elapsed_time")

each_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
each_part = pytest.mark.parametrize("part", PARTS)


def spoilt(case: Sequence, part: str, value: float) -> Sequence:
    """The sequence with `value` everywhere in one sample's inputs, state or first elapsed time."""
    tensor = getattr(case, part).clone()
    if part == "state":
        tensor[BROKEN] = value
    else:
        tensor[1, BROKEN] = value
    return case._replace(**{part: tensor})


def of_others(tensor: Tensor) -> Tensor:
    """All samples but the broken one; samples are the last axis but one."""
    return tensor[..., torch.arange(BATCH) != BROKEN, :]


@each_kind
@each_precision
@pytest.mark.parametrize(
    ("part", "value"),
    [
        *((part, value) for part in PARTS for value in (torch.nan, torch.inf)),
        *((part, -torch.inf) for part in PARTS if part != "elapsed_time"),
    ],
)
def test_nan_comes_out_where_the_reference_has_it_and_nowhere_else(
    kind: str, dtype: torch.dtype, part: str, value: float
) -> None:
    """With a dense wiring, as the reference multiplies by zero where there is no synapse."""
    circuit = build(kind, dense(3, 6, 2)).to(dtype)
    good = sequence(circuit, STEPS, BATCH)._replace(episode_start=None).to(dtype)
    bad = spoilt(good, part, value)
    clean, found = values(circuit, good), values(circuit, bad)
    with reference(circuit):
        expected = values(circuit, bad)
    if value != value:
        assert expected["outputs"][-1, BROKEN].isnan().all()
    for name in found:
        assert torch.equal(of_others(found[name]), of_others(clean[name])), name
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-5, equal_nan=True)


@each_kind
@each_precision
@each_part
def test_a_reset_ends_it(kind: str, dtype: torch.dtype, part: str) -> None:
    circuit = build(kind).to(dtype)
    starts = torch.zeros(STEPS, BATCH)
    starts[3] = 1
    good = sequence(circuit, STEPS, BATCH)._replace(episode_start=starts).to(dtype)
    clean, found = values(circuit, good), values(circuit, spoilt(good, part, torch.nan))
    assert torch.equal(found["outputs"][3:], clean["outputs"][3:])
    assert torch.equal(found["last state"], clean["last state"])


@each_kind
def test_a_reset_at_the_first_step_ends_it_as_well(kind: str) -> None:
    circuit = build(kind)
    starts = torch.zeros(STEPS, BATCH)
    starts[0] = 1
    case = sequence(circuit, STEPS, BATCH)._replace(episode_start=starts)
    broken = case._replace(state=torch.full_like(case.state, torch.nan).requires_grad_())
    outputs, last = circuit(*broken)
    assert torch.equal(outputs, values(circuit, case)["outputs"])
    (gradient,) = torch.autograd.grad(outputs.sum() + last.sum(), broken.state)
    assert (gradient == 0).all()


@each_kind
def test_gradients_of_other_samples_stay_as_they_are(kind: str) -> None:
    circuit = build(kind)
    good = sequence(circuit, STEPS, BATCH)
    found = []
    for case in (good, spoilt(good, "inputs", torch.nan)):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in case[:3]]
        outputs, last = circuit(*leaves, case.episode_start)
        (outputs.sum() + last.sum()).backward()
        found.append([leaf.grad for leaf in leaves[:2]] + [leaves[2].grad.unsqueeze(-1)])
    for clean, broken in zip(*found, strict=True):
        assert torch.equal(of_others(broken), of_others(clean))


@each_kind
def test_nan_in_any_parameter_comes_out(kind: str) -> None:
    for name, _ in build(kind).named_parameters():
        circuit = build(kind, dense(3, 6, 2))
        with torch.no_grad():
            circuit.get_parameter(name).fill_(torch.nan)
        outputs = values(circuit, sequence(circuit, STEPS, BATCH))["outputs"]
        assert outputs.isnan().all(), name
