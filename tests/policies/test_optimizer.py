"""Adam that shortens the steps of what carries the past."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from liquid_control.neurons import NEURONS
from liquid_control.policies.optimizer import RecurrentAdam
from liquid_control.wiring import ncp


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
