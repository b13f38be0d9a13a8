"""Before any training, a circuit passes signals and gradients on from sensors to motor neurons."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from liquid_control.neurons import NEURONS, CfC, Circuit
from liquid_control.neurons.blocks import feedforward
from liquid_control.neurons.synapses import MEMORY
from liquid_control.wiring import Wiring, auto_ncp, ncp

# Weights do not depend on how circuits are unrolled, and PyTorch would take much longer.
pytestmark = pytest.mark.parametrize("_path", ["fused"], indirect=True)

STEPS, BATCH, SENSORY = 30, 64, 48

WIRINGS = {
    "ncp": lambda: ncp(SENSORY, 24, 34, 32, 12, 17, 578, 17),
    "auto_ncp": lambda: auto_ncp(SENSORY, neurons=96, motor=32),
    "sparse auto_ncp": lambda: auto_ncp(SENSORY, neurons=96, motor=32, sparsity=0.8),
    "large ncp": lambda: ncp(SENSORY, 128, 96, 64, 64, 48, 4000, 48),
}


@pytest.fixture(params=WIRINGS)
def wiring(request: pytest.FixtureRequest) -> Wiring:
    return WIRINGS[request.param]()


# LTC neurons start with the weights of Lechner et al. 2020, and learn more with those than with
# weights that keep signals; see docs/results/why.md.
@pytest.fixture(params=[name for name in NEURONS if name != "ltc"])
def untrained(request: pytest.FixtureRequest, wiring: Wiring) -> Circuit:
    torch.manual_seed(0)
    return NEURONS[request.param](wiring)


def deviations(circuit: Circuit) -> tuple[Tensor, Tensor]:
    """Deviation over a batch of the first layer and of the motor neurons, white inputs."""
    activity, _ = circuit.activity(torch.randn(STEPS, BATCH, SENSORY))
    first, *_, last = circuit.wiring.layer_slices.values()
    late = activity[STEPS // 2 :].detach()
    return late[..., first].std((0, 1)).mean(), late[..., last].std((0, 1)).mean()


def test_layers_pass_signals_on(untrained: Circuit) -> None:
    first, motor = deviations(untrained)
    assert first > 0.2
    assert 0.5 < motor / first < 2


def test_motor_neurons_react_in_the_step_in_which_inputs_change(untrained: Circuit) -> None:
    inputs = torch.randn(STEPS, BATCH, SENSORY, requires_grad=True)
    activity, _ = untrained.activity(inputs)
    motor = activity[-1, :, list(untrained.wiring.layer_slices.values())[-1]]
    direction = torch.randn_like(motor)
    (gradient,) = torch.autograd.grad((motor * direction).sum(), inputs)
    # A linear layer that keeps deviations would have a ratio of about one.
    assert 0.1 < gradient[-1].norm() / direction.norm() < 3


@pytest.mark.parametrize("neurons", ["cfc", "ctrnn", "lstm", "gru"])
def test_the_past_weighs_less_than_the_present(neurons: str, wiring: Wiring) -> None:
    """A neuron's synapses that carry the past have `MEMORY` of the strength of its others."""
    weights = NEURONS[neurons](wiring).recurrent.matrix().detach().square().mean(1)
    within_step = torch.as_tensor(feedforward(wiring))
    direct, past = ((weights * mask).sum(0) for mask in (within_step, ~within_step))
    both = (direct > 0) & (past > 0)
    assert both.any()
    assert past[both].mean() / direct[both].mean() == pytest.approx(MEMORY**2, rel=0.4)


def test_polarity_is_the_wirings(wiring: Wiring) -> None:
    circuit = CfC(wiring)
    sources, targets = circuit.recurrent.sources, circuit.recurrent.targets
    polarity = torch.tensor(wiring.recurrent)[sources, targets]
    assert torch.equal(circuit.recurrent.weight[:2].sign(), polarity.float().expand(2, -1))


@pytest.mark.parametrize("neurons", ["cfc", "ctrnn", "lstm", "gru"])
@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_memory_starts_as_strong_as_it_is_asked_to(
    neurons: str, gain: float, wiring: Wiring
) -> None:
    circuits = []
    for options in ({}, {"memory_gain": gain}):
        torch.manual_seed(0)
        circuits.append(NEURONS[neurons](wiring, **options))
    usual, chosen = circuits
    for (ours, entries), (theirs, _) in zip(
        chosen.memory_synapses(), usual.memory_synapses(), strict=True
    ):
        expected = theirs.detach().clone()
        expected[..., entries] *= gain / MEMORY
        torch.testing.assert_close(ours, expected)
    for name, weight in usual.named_parameters():
        if name != "recurrent.weight":
            assert weight.equal(chosen.get_parameter(name))


def test_memory_that_starts_at_zero_is_learned(wiring: Wiring) -> None:
    circuit = CfC(wiring, memory_gain=0.0)
    outputs, _ = circuit(torch.randn(STEPS, BATCH, SENSORY))
    outputs.square().sum().backward()
    ((weight, entries),) = circuit.memory_synapses()
    assert weight.grad is not None
    assert (weight.grad[..., entries] != 0).float().mean() > 0.9


@pytest.mark.parametrize("gain", [-0.1, float("nan"), float("inf"), "1e-1", None])
def test_impossible_strengths_of_memory_are_refused(gain: Any, wiring: Wiring) -> None:
    with pytest.raises(ValueError, match="memory_gain must be 0 or more"):
        CfC(wiring, memory_gain=gain)
