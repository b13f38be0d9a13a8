"""Adam that shortens the steps of what carries the past."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from liquid_control.kernels.learning import Norms
from liquid_control.neurons import NEURONS
from liquid_control.neurons.ltc import STEP_LENGTH
from liquid_control.policies.optimizer import RecurrentAdam
from liquid_control.wiring import ncp
from tests.policies.conftest import make_policy


@pytest.fixture
def weights() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))


def walk(weights: nn.Parameter, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    for step in range(3):
        optimizer.zero_grad()
        (weights - step).square().sum().backward()
        optimizer.step()
    return weights.detach()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_step_is_a_share_of_adams(weights: nn.Parameter, share: float) -> None:
    before = weights.detach().clone()
    optimizer = RecurrentAdam([weights], [(weights, torch.tensor([0, 2]))], lr=0.1)
    optimizer.recurrent_share = share
    weights.sum().backward()
    optimizer.step()
    moved = weights.detach() - before
    torch.testing.assert_close(moved[:, 1], torch.full((2,), -0.1))
    torch.testing.assert_close(moved[:, [0, 2]], torch.full((2, 2), -0.1 * share))


def test_with_a_share_of_one_it_is_adam(weights: nn.Parameter) -> None:
    other = nn.Parameter(weights.detach().clone())
    ours = RecurrentAdam([weights], [(weights, torch.tensor([1]))], lr=0.1)
    assert torch.equal(walk(weights, ours), walk(other, torch.optim.Adam([other], lr=0.1)))


@pytest.mark.parametrize("clipped", [False, True])
def test_parameters_may_have_longer_steps(weights: nn.Parameter, clipped: bool) -> None:
    """A length and a share multiply; three steps, of which the kernels make the last two."""
    before = weights.detach().clone()
    entries = (weights, torch.tensor([0]))
    optimizer = RecurrentAdam([weights], [entries], [(weights, 3.0)], lr=0.1)
    optimizer.recurrent_share = 0.5
    for _ in range(3):
        optimizer.zero_grad()
        weights.sum().backward()
        if clipped:
            optimizer.clipped_step(1e9)
        else:
            optimizer.step()
    moved = weights.detach() - before
    torch.testing.assert_close(moved[:, 0], torch.full((2,), -0.1 * 3 * 3 * 0.5))
    torch.testing.assert_close(moved[:, 1:], torch.full((2, 2), -0.1 * 3 * 3))


def test_ltc_and_lrc_ask_for_longer_steps_of_large_parameters_and_others_for_none() -> None:
    for name, neurons in NEURONS.items():
        circuit = neurons(ncp(5, 6, 4, 3, 2, 2, 7, 2))
        names = {id(parameter): name for name, parameter in circuit.named_parameters()}
        found = {names[id(parameter)]: length for parameter, length in circuit.step_lengths()}
        kinds = ("conductance", "steepness") if name in ("ltc", "lrc") else ()
        assert found == {
            f"{group}.{kind}": STEP_LENGTH for group in ("sensory", "recurrent") for kind in kinds
        }


@pytest.mark.parametrize("neurons", NEURONS)
def test_heads_behind_ltc_make_longer_steps(neurons: str) -> None:
    policy = make_policy(neurons=neurons)
    head = policy.action_net.weight
    before = head.detach().clone()
    head.grad = torch.ones_like(head)
    policy.optimizer.step()
    length = policy.optimizer.param_groups[0]["lr"] * (STEP_LENGTH if neurons == "ltc" else 1)
    torch.testing.assert_close(before - head, torch.full_like(head, length))


def clipped_walk(
    weights: nn.Parameter, optimizer: RecurrentAdam, largest: float, steps: int = 5
) -> list[Norms]:
    norms = []
    for step in range(steps):
        optimizer.zero_grad()
        (weights - step).square().sum().backward()
        norms.append(optimizer.clipped_step(largest))
    return norms


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "fused": {"fused": True, "eps": 1e-5},
    "weight decay": {"weight_decay": 0.1},
    "amsgrad": {"amsgrad": True},
}


@pytest.mark.parametrize("largest", [0.1, 1e9])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_clipped_step_is_clipping_and_a_step(
    monkeypatch: pytest.MonkeyPatch, weights: nn.Parameter, options: dict[str, Any], largest: float
) -> None:
    def run() -> tuple[torch.Tensor, list[Norms], dict[str, Any], torch.Tensor]:
        own = nn.Parameter(weights.detach().clone())
        optimizer = RecurrentAdam([own], [(own, torch.tensor([0, 2]))], lr=0.1, **options)
        optimizer.recurrent_share = 0.25
        norms = clipped_walk(own, optimizer, largest)
        assert own.grad is not None
        return own.detach(), norms, optimizer.state_dict()["state"][0], own.grad

    found, norms, state, gradient = run()
    monkeypatch.setattr(RecurrentAdam, "memory", lambda self: None)
    expected, expected_norms, expected_state, clipped = run()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, clipped)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-6)
    assert state.keys() == expected_state.keys()
    for name, each in state.items():
        torch.testing.assert_close(each, expected_state[name], msg=name)


def test_hooks_of_an_optimizer_are_called_at_every_step(weights: nn.Parameter) -> None:
    optimizer, calls = RecurrentAdam([weights], [], lr=0.1), []
    assert optimizer.why_not_fused() is None
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    assert optimizer.why_not_fused() == "its optimizer has hooks"
    clipped_walk(weights, optimizer, 1.0)
    assert len(calls) >= 5  # PyTorch calls them for a class and for its base


def test_a_step_count_in_double_precision_counts() -> None:
    weight = nn.Parameter(torch.ones(3))
    torch.set_default_dtype(torch.float64)
    try:
        optimizer = RecurrentAdam([weight], [], lr=0.1, fused=False)
        clipped_walk(weight, optimizer, 1e9, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert optimizer.state[weight]["step"] == 4


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("earlier", [0, 2])
def test_a_gradient_that_is_not_finite_changes_nothing(
    weights: nn.Parameter, earlier: int, value: float
) -> None:
    optimizer = RecurrentAdam([weights], [], lr=0.1)
    clipped_walk(weights, optimizer, 1.0, earlier)
    before, state = weights.detach().clone(), deepcopy(optimizer.state_dict())
    weights.grad = torch.full_like(weights, value)
    assert not math.isfinite(optimizer.clipped_step(1.0).gradient)
    assert torch.equal(weights, before)
    assert str(optimizer.state_dict()) == str(state)


def test_steps_go_on_after_loading_and_copying(weights: nn.Parameter) -> None:
    def optimizer_of(parameter: nn.Parameter) -> RecurrentAdam:
        optimizer = RecurrentAdam([parameter], [(parameter, torch.tensor([0]))], lr=0.1)
        optimizer.recurrent_share = 0.5
        return optimizer

    optimizer = optimizer_of(weights)
    clipped_walk(weights, optimizer, 1.0)
    other = nn.Parameter(weights.detach().clone())
    loaded = optimizer_of(other)
    loaded.load_state_dict(deepcopy(optimizer.state_dict()))
    copied, copy = deepcopy((weights, optimizer))
    for each, its in ((weights, optimizer), (other, loaded), (copied, copy)):
        clipped_walk(each, its, 1.0)
    assert torch.equal(weights, other)
    assert torch.equal(weights, copied)


def test_a_parameter_in_another_precision_or_memory_is_still_the_one_that_learns(
    weights: nn.Parameter,
) -> None:
    optimizer = RecurrentAdam([weights], [(weights, torch.tensor([0]))], lr=0.1)
    optimizer.recurrent_share = 0.5
    clipped_walk(weights, optimizer, 1.0)
    for change in (torch.clone, torch.Tensor.double, lambda each: each.t().contiguous().t()):
        weights.data = change(weights.data)
        optimizer.load_state_dict(optimizer.state_dict())  # moments in the precision of now
        before = weights.detach().clone()
        clipped_walk(weights, optimizer, 1.0, 1)
        assert not torch.isclose(weights, before).any()


def replaced_gradient(weights: nn.Parameter, optimizer: RecurrentAdam) -> None:
    weights.grad = torch.full_like(weights, 2.0)


def replaced_moment(weights: nn.Parameter, optimizer: RecurrentAdam) -> None:
    optimizer.state[weights]["exp_avg"] = torch.ones_like(weights)


def replaced_state(weights: nn.Parameter, optimizer: RecurrentAdam) -> None:
    optimizer.state[weights] = {name: each + 1 for name, each in optimizer.state[weights].items()}


def loaded_state(weights: nn.Parameter, optimizer: RecurrentAdam) -> None:
    state = optimizer.state_dict()
    state["state"][0] = {name: each + 1 for name, each in state["state"][0].items()}
    optimizer.load_state_dict(state)


def other_share(weights: nn.Parameter, optimizer: RecurrentAdam) -> None:
    optimizer.recurrent_share = 0.5


def moved(weights: nn.Parameter, optimizer: RecurrentAdam) -> None:
    weights.data = 2 * weights.data


def transposed(weights: nn.Parameter, optimizer: RecurrentAdam) -> None:
    weights.data = weights.data.t()


def no_state(weights: nn.Parameter, optimizer: RecurrentAdam) -> None:
    optimizer.state.clear()


@pytest.mark.parametrize(
    "change",
    [
        replaced_gradient,
        replaced_moment,
        replaced_state,
        loaded_state,
        other_share,
        moved,
        transposed,
        no_state,
    ],
    ids=lambda each: each.__name__,
)
def test_a_step_uses_the_tensors_of_now(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[nn.Parameter, RecurrentAdam], None]
) -> None:
    """The tensors stay the same for some steps, until one of them is replaced or moved."""

    def walk_with_a_change() -> torch.Tensor:
        weights = nn.Parameter(torch.arange(9.0).view(3, 3))
        optimizer = RecurrentAdam([weights], [(weights, torch.tensor([0]))], lr=0.1)
        weights.grad = torch.arange(9.0).view(3, 3) - 3
        for step in range(6):
            if step == 3:
                change(weights, optimizer)
            optimizer.clipped_step(1e9)
        return weights.detach()

    found = walk_with_a_change()
    monkeypatch.setattr(RecurrentAdam, "memory", lambda self: None)
    torch.testing.assert_close(found, walk_with_a_change())


@pytest.mark.parametrize("neurons", NEURONS)
def test_circuits_name_the_synapses_that_carry_the_past(neurons: str) -> None:
    wiring = ncp(5, 6, 4, 3, 2, 2, 7, 2)
    circuit = NEURONS[neurons](wiring)
    found = dict(circuit.memory_synapses())
    assert set(found) == set(circuit.recurrent.parameters())
    command = wiring.layer_slices["command"]
    for entries in found.values():
        assert len(entries) == 7  # the recurrent synapses among command neurons, and no others
        for ends in (circuit.recurrent.sources, circuit.recurrent.targets):
            assert ((ends[entries] >= command.start) & (ends[entries] < command.stop)).all()
