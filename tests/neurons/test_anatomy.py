"""Owners of parameters, strengths of synapses, and ranges of activity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian
from torch.nn.functional import softplus
from torch.testing import assert_close

from liquid_control.neurons import CTRNN, GRU, LRC, LSTM, LTC, CfC, Circuit
from liquid_control.wiring import Wiring, dense
from tests.neurons.conftest import BUILDERS, NEURONS, SENSORY, WIRINGS


def test_each_parameter_of_the_neurons_has_its_owners_once(circuit: Circuit) -> None:
    owned = dict(circuit.owners())
    mapped = {
        parameter
        for mapping in (circuit.input_mapping, circuit.output_mapping)
        if mapping is not None
        for parameter in mapping.parameters()
    }
    assert len(list(circuit.owners())) == len(owned)
    assert owned.keys() == set(circuit.parameters()) - mapped
    for parameter, owners in owned.items():
        assert owners.shape == parameter.shape[-1:]


def test_parameters_move_their_owner_and_only_those_it_leads_to(
    circuit: Circuit, sequence: Callable[..., tuple[torch.Tensor, ...]]
) -> None:
    synapses = circuit.wiring.recurrent != 0
    leads = np.linalg.matrix_power((synapses | np.eye(NEURONS, dtype=bool)).astype(int), NEURONS)
    activity, _ = circuit.activity(*_from_anywhere(circuit, sequence))

    owned = list(circuit.owners())
    # A memory without a synapse to a neuron, its own included, moves none.
    memory = set() if circuit.memory is None else set(circuit.memory.parameters())
    for neuron in range(NEURONS):
        slopes = torch.autograd.grad(
            activity[..., neuron].sum(), [each for each, _ in owned], retain_graph=True
        )
        for slope, (parameter, owners) in zip(slopes, owned, strict=True):
            assert parameter in memory or (slope[..., owners == neuron] != 0).all()
            assert (slope[..., leads[owners.numpy(), neuron] == 0] == 0).all()


def _from_anywhere(circuit: Circuit, sequence: Callable[..., tuple[torch.Tensor, ...]]) -> tuple:
    inputs, elapsed, _ = sequence(4, 2)
    return inputs, torch.randn(2, circuit.state_size).double(), elapsed


SLOPES = {  # of a neuron at rest by its strength, in one time scale
    "cfc-default": (CfC, 1.0),
    "cfc-no_gate": (BUILDERS["cfc-no_gate"], 1.0),
    "cfc-pure": (BUILDERS["cfc-pure"], 1.0),
    "lstm": (LSTM, 0.25),
    "gru": (GRU, 0.5),
    "ctrnn": (lambda wiring: CTRNN(wiring, solver="euler", ode_steps=1), 1.0),
    "lrc": (lambda wiring: LRC(wiring, solver="euler", ode_steps=1), 0.5),
}


@pytest.mark.parametrize("model", SLOPES)
def test_strength_is_the_slope_of_a_neuron_at_rest(model: str) -> None:
    """In a single layer each synapse acts on its own, as one step follows no path of two."""
    build, slope = SLOPES[model]
    circuit = build(WIRINGS["dense"]).double()
    with torch.no_grad():
        if model == "cfc-pure":
            circuit.reversal.copy_(torch.randn(NEURONS))
        if model == "ctrnn":
            circuit.log_tau.zero_()
        if model == "lrc":  # with half open synapses and elastance, and without a drive
            circuit.log_tau.zero_()
            for synapses in (circuit.sensory, circuit.recurrent):
                synapses.threshold.zero_()
            drives = (each.resting()[0] for each in (circuit.sensory, circuit.recurrent))
            circuit.bias[0] = -sum(drives)

    def step(inputs: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return circuit.activity(inputs[None, None], state[None])[0][0, 0]

    rest = (torch.zeros(SENSORY).double(), torch.zeros(circuit.state_size).double())
    from_inputs, from_state = jacobian(step, rest)
    sensory, recurrent = circuit.synapse_strengths()
    assert_close(from_inputs.T, slope * sensory)
    if model not in ("lstm", "gru", "lrc"):  # which also keep the neuron's own state
        assert_close(from_state.T, slope * recurrent)


def test_strength_of_a_chemical_synapse_is_conductance_times_reversal(wiring: Wiring) -> None:
    circuit = LTC(wiring)
    with torch.no_grad():
        circuit.recurrent.reversal.normal_()
    for synapses, strengths in zip(
        (circuit.sensory, circuit.recurrent), circuit.synapse_strengths(), strict=True
    ):
        pulls = softplus(synapses.conductance) * synapses.reversal
        for source, target, pull in zip(synapses.sources, synapses.targets, pulls, strict=True):
            assert strengths[source, target] == pull


def test_strengths_are_where_the_wiring_has_synapses(circuit: Circuit) -> None:
    polarities = (circuit.wiring.sensory, circuit.wiring.recurrent)
    for polarity, strengths in zip(polarities, circuit.synapse_strengths(), strict=True):
        assert not strengths.requires_grad
        assert torch.equal(strengths != 0, torch.tensor(polarity != 0))


@pytest.mark.parametrize(
    "model", ["cfc-default", "cfc-no_gate", "cfc-memory", "ltc", "ctrnn", "lrc"]
)
def test_strengths_start_with_the_polarity_of_the_wiring(model: str, wiring: Wiring) -> None:
    polarities = (wiring.sensory, wiring.recurrent)
    found = BUILDERS[model](wiring).synapse_strengths()
    for polarity, strengths in zip(polarities, found, strict=True):
        assert torch.equal(strengths.sign(), torch.tensor(polarity).float())


def test_activity_stays_in_its_range(circuit: Circuit) -> None:
    """Under inputs that saturate most neurons, for long steps, and for short ones with memory.

    Explicit solvers are exempt from long steps.
    """
    explicit = getattr(circuit, "solver", "semi_implicit") != "semi_implicit"
    inputs = 10 * torch.randn(50, 16, SENSORY).double()
    elapsed = torch.where(torch.rand(50, 16) < 0.5, 0.01, 0.2 if explicit else 5.0).double()
    activity, _ = circuit.activity(inputs, None, elapsed)
    low, high = circuit.activity_range()
    assert low.shape == high.shape == (NEURONS,)
    rounding = 1e-12
    assert (activity >= low - rounding).all()
    assert (activity <= high + rounding).all()


@pytest.mark.parametrize(
    ("model", "bound"), [("cfc-default", 1), ("cfc-no_gate", 2), ("ctrnn", 1), ("ltc", None)]
)
def test_activity_gets_to_the_ends_of_its_range(model: str, bound: float | None) -> None:
    """Neurons without synapses among them, driven to both saturations."""
    polarity = np.ones((1, 4), dtype=np.int8)
    free = np.zeros((4, 4), dtype=np.int8)
    circuit = BUILDERS[model](Wiring(polarity, free, motor_count=4, layers=(("motor", 4),)))
    with torch.no_grad():
        if bound is None:
            circuit.leak.fill_(-40.0)  # the pull to its own reversal is smaller than rounding
            circuit.sensory.reversal.copy_(torch.tensor([0.5, 3.0, -0.5, -3.0]))
    ends = [circuit.activity(torch.full((50, 1, 1), x))[0][-1, 0] for x in (-1e3, 1e3)]
    low, high = circuit.activity_range()
    if bound is None:
        reached = ends[1]
        assert_close(reached, torch.tensor([0.5, 3.0, -0.5, -3.0]), rtol=1e-3, atol=1e-3)
        assert_close(torch.where(reached > 0, high, low), reached, rtol=1e-3, atol=1e-3)
    else:
        assert torch.equal(high, torch.full((4,), float(bound)))
        assert torch.equal(low, -high)
        assert (torch.stack(ends).abs().amax(dim=0) > 0.99 * bound).all()


def test_range_of_an_activity_without_bound_is_infinite() -> None:
    low, high = CfC(dense(SENSORY, NEURONS, 2), mode="pure").activity_range()
    assert (low == -torch.inf).all()
    assert (high == torch.inf).all()
