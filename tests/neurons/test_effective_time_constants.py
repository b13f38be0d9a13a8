"""Laws of the effective time constants: a circuit's activity must follow from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from liquid_control.neurons import CTRNN, GRU, LRC, LSTM, LTC, CfC, Circuit
from liquid_control.neurons.circuit import SLOWEST
from liquid_control.neurons.lesion import at_rest
from liquid_control.neurons.memory import lstm_update
from liquid_control.neurons.synapses import Synapses
from liquid_control.wiring import Wiring
from tests.neurons.conftest import NEURONS, SENSORY

SECOND = 0.05
STEPS, BATCH = 6, 3
Sequences = Callable[..., tuple[Tensor, Tensor, Tensor]]


def build(model: type[Circuit], wiring: Wiring, **options: Any) -> Circuit:
    circuit = model(wiring, time_scale=SECOND, **options).double()
    with torch.no_grad():
        for parameter in circuit.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return circuit


@pytest.mark.parametrize("memory", [None, "lstm"])
def test_leaky_neurons_have_the_time_constants_they_were_given(
    wiring: Wiring, sequence: Sequences, memory: str | None
) -> None:
    circuit = build(CTRNN, wiring, memory=memory)
    inputs, elapsed, starts = sequence(STEPS, BATCH)
    activity, _ = circuit.activity(inputs, None, SECOND * elapsed, starts)
    taus = circuit.effective_time_constants(inputs, activity, starts)
    assert_close(taus, (circuit.log_tau.exp() * SECOND).detach().expand(STEPS, BATCH, -1))


@pytest.mark.parametrize("memory", [None, "lstm"])
@pytest.mark.parametrize("model", [LTC, LRC])
def test_liquid_time_constants_are_those_of_the_solver_steps(
    wiring: Wiring, sequence: Sequences, memory: str | None, model: type[Circuit]
) -> None:
    """A semi-implicit step of length h goes from x to y = (x + h drive) / (1 + h decay).

    Three lengths of the same step, one of them zero, determine x, drive and decay.
    """
    circuit = build(model, wiring, memory=memory, ode_steps=1)
    inputs, elapsed, starts = sequence(STEPS, BATCH)
    activity, _ = circuit.activity(inputs, None, SECOND * elapsed, starts)
    taus = circuit.effective_time_constants(inputs, activity, starts)
    assert taus is not None

    state = circuit.initial_state(BATCH)
    short, long = 0.3, 2.0
    for t in range(STEPS):

        def after(scales: float, now: int = t, state: Tensor = state) -> Tensor:
            held = torch.full((1, BATCH), scales * SECOND).double()
            step = slice(now, now + 1)
            return circuit.activity(inputs[step], state, held, starts[step])[0][0]

        x, y, z = after(0.0), after(short), after(long)
        decay = ((y - x) / short - (z - x) / long) / (z - y)
        assert_close(taus[t], (SECOND / decay).detach(), rtol=1e-6, atol=0)
        now = slice(t, t + 1)
        _, state = circuit(inputs[now], state, SECOND * elapsed[now], starts[now])


@pytest.mark.parametrize("memory", [None, "lstm"])
@pytest.mark.parametrize("mode", ["default", "no_gate", "pure"])
def test_closed_form_time_constants_are_those_of_the_time_gate(
    wiring: Wiring, sequence: Sequences, mode: str, memory: str | None
) -> None:
    """Neuron by neuron: its inputs determine both its activity and its time constant."""
    circuit = build(CfC, wiring, mode=mode, memory=memory, input_mapping="affine")
    assert isinstance(circuit, CfC)
    inputs, elapsed, starts = sequence(STEPS, BATCH)
    activity, _ = circuit.activity(inputs, None, SECOND * elapsed, starts)
    taus = circuit.effective_time_constants(inputs, activity, starts)
    assert taus is not None
    assert circuit.input_mapping is not None

    past = cell = torch.zeros(BATCH, NEURONS).double()
    for t in range(STEPS):
        alive = (starts[t] == 0).double()[:, None]
        past, cell, mapped = past * alive, cell * alive, circuit.input_mapping(inputs[t])
        if circuit.memory is not None:
            gates = _sums(circuit.memory, circuit.memory.bias, mapped, past, past, wiring)
            past, cell = lstm_update(gates.flatten(1), cell)
        sums = _sums(circuit, circuit.bias, mapped, activity[t], past, wiring).unbind(1)
        time = elapsed[t][:, None]
        if mode == "pure":
            rate = circuit.leak.abs() + sums[0].abs()
            moved = circuit.reversal * (1 - sums[0] * torch.exp(-time * rate))
        else:
            g, h, a, b = sums
            rate, gate = a.abs(), torch.sigmoid(a * time + b)
            fading = 1.0 if mode == "no_gate" else 1 - gate
            moved = fading * g.tanh() + gate * h.tanh()
        assert_close(activity[t], moved)
        assert_close(taus[t], (SECOND / rate).detach())
        past = activity[t]


def _sums(
    owner: Any, bias: Tensor, mapped: Tensor, now: Tensor, past: Tensor, wiring: Wiring
) -> Tensor:
    """The gates (batch, gates, neurons), synapse by synapse."""
    layer = [rank for rank, (_, size) in enumerate(wiring.layers) for _ in range(size)]
    sums = bias.expand(len(mapped), -1, -1).clone()

    def add(synapses: Synapses, presynaptic: Callable[[int, int], Tensor]) -> None:
        ends = zip(synapses.sources.tolist(), synapses.targets.tolist(), strict=True)
        for number, (source, target) in enumerate(ends):
            sums[:, :, target] += presynaptic(source, target)[:, None] * synapses.weight[:, number]

    add(owner.sensory, lambda source, target: mapped[:, source])
    add(
        owner.recurrent,
        lambda source, target: (now if layer[source] < layer[target] else past)[:, source],
    )
    return sums


def test_inputs_change_the_time_constant_of_liquid_neurons_alone(wiring: Wiring) -> None:
    inputs = torch.randn(4, 1, SENSORY).double()
    for model, liquid in ((LTC, True), (LRC, True), (CfC, True), (CTRNN, False)):
        circuit = build(model, wiring)
        taus = circuit.effective_time_constants(inputs, circuit.activity(inputs)[0])
        assert taus is not None
        assert bool((taus.std(dim=0) > 1e-6 * SECOND).any()) is liquid


def test_a_neuron_that_time_does_not_move_is_slowest(wiring: Wiring) -> None:
    circuit = build(CfC, wiring)
    inputs = torch.randn(4, 2, SENSORY).double()
    with at_rest(circuit, 2):
        taus = circuit.effective_time_constants(inputs, circuit.activity(inputs)[0])
    assert taus is not None
    assert_close(taus[..., 2], torch.full((4, 2), SLOWEST * SECOND).double())
    assert (taus[..., 3:] < SLOWEST * SECOND).all()
    assert not taus.requires_grad


@pytest.mark.parametrize("model", [LSTM, GRU])
def test_discrete_time_neurons_have_no_time_constant(model: type[Circuit], wiring: Wiring) -> None:
    inputs = torch.randn(4, 2, SENSORY)
    circuit = model(wiring)
    assert circuit.effective_time_constants(inputs, circuit.activity(inputs)[0]) is None


def test_activity_must_be_of_all_neurons(wiring: Wiring) -> None:
    circuit = CfC(wiring)
    inputs = torch.randn(4, 2, SENSORY)
    with pytest.raises(ValueError, match=r"activity must be .* \(4, 2, 10\), got \(4, 2, 2\)"):
        circuit.effective_time_constants(inputs, circuit(inputs)[0])
