"""LTC, CT-RNN and LRC against their differential equations, and the properties of their solvers."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch.nn.functional import softplus
from torch.testing import assert_close

from liquid_control.neurons import CTRNN, LRC, LTC, Circuit
from liquid_control.wiring import auto_ncp

WIRING = auto_ncp(3, 10, 2, sparsity=0.4, seed=3)
ORDERS = {"semi_implicit": 1, "euler": 1, "rk4": 4}
SECONDS = 0.8


def ltc_slope(circuit: LTC, x: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The LTC equation written out, one synapse at a time."""
    value = {name: parameter.detach().numpy() for name, parameter in circuit.named_parameters()}
    mapped_inputs = value["input_mapping.gain"] * inputs + value["input_mapping.offset"]
    positive = {
        name: softplus(parameter).detach().numpy() for name, parameter in circuit.named_parameters()
    }
    current = positive["leak"] * (value["leak_reversal"] - x)
    for kind, presynaptic in (("sensory", mapped_inputs), ("recurrent", x)):
        polarity = getattr(circuit.wiring, kind)
        for synapse, (source, target) in enumerate(np.argwhere(polarity)):
            steepness = value[f"{kind}.steepness"][synapse]
            midpoint = value[f"{kind}.midpoint"][synapse]
            opening = 1 / (1 + math.exp(-steepness * (presynaptic[source] - midpoint)))
            conductance = positive[f"{kind}.conductance"][synapse] * opening
            current[target] += conductance * (value[f"{kind}.reversal"][synapse] - x[target])
    return current / positive["capacitance"]


def ctrnn_slope(circuit: CTRNN, x: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The CT-RNN equation written out, with dense matrices."""
    value = {name: parameter.detach().numpy() for name, parameter in circuit.named_parameters()}
    target = value["bias"].copy()
    for kind, presynaptic in (("sensory", inputs), ("recurrent", x)):
        dense = np.zeros(getattr(circuit.wiring, kind).shape)
        dense[np.nonzero(getattr(circuit.wiring, kind))] = value[f"{kind}.weight"][0]
        target += presynaptic @ dense
    return (np.tanh(target) - x) / np.exp(value["log_tau"])


def lrc_slope(circuit: LRC, x: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The LRC equation written out, one synapse at a time."""
    value = {name: parameter.detach().numpy() for name, parameter in circuit.named_parameters()}
    drive, elastance = value["bias"].copy()
    forget = softplus(circuit.leak).detach().numpy().copy()
    for kind, presynaptic in (("sensory", inputs), ("recurrent", x)):
        conductances = softplus(getattr(circuit, kind).conductance).detach().numpy()
        of = {name: value[f"{kind}.{name}"] for name in ("steepness", "threshold", "drive")}
        for synapse, (source, target) in enumerate(np.argwhere(getattr(circuit.wiring, kind))):
            argument = of["steepness"][synapse] * presynaptic[source] + of["threshold"][synapse]
            opening = 1 / (1 + math.exp(-argument))
            drive[target] += of["drive"][synapse] * opening
            forget[target] += conductances[synapse] * opening
            elastance[target] += value[f"{kind}.elastance"][synapse] * presynaptic[source]
    pull = value["reversal"] * np.tanh(drive) - x / (1 + np.exp(-forget))
    return pull / (1 + np.exp(-elastance)) / np.exp(value["log_tau"])


def exact(circuit: Circuit, slope, state: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """State after SECONDS under a constant input, by an adaptive high-order solver."""
    solution = solve_ivp(
        lambda _, x: slope(circuit, x, inputs.numpy()),
        (0, SECONDS),
        state.numpy(),
        method="DOP853",
        rtol=1e-12,
        atol=1e-12,
    )
    return torch.as_tensor(solution.y[:, -1])


@cache
def solved(model, slope) -> tuple[Circuit, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A circuit, its inputs and state, and the state after SECONDS, for every solver the same."""
    torch.manual_seed(0)
    state = 0.5 * torch.randn(1, 10, dtype=torch.float64)
    inputs = torch.randn(1, 1, 3, dtype=torch.float64)
    reference = model(WIRING).double()
    return reference, inputs, state, exact(reference, slope, state[0], inputs[0, 0])


@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize(
    ("model", "slope"), [(LTC, ltc_slope), (CTRNN, ctrnn_slope), (LRC, lrc_slope)]
)
def test_error_falls_with_the_order_of_the_solver(model, slope, solver: str) -> None:
    reference, inputs, state, truth = solved(model, slope)
    elapsed = torch.full((1, 1), SECONDS, dtype=torch.float64)

    errors = []
    steps = (16, 32, 64) if solver == "rk4" else (64, 128, 256)
    for ode_steps in steps:
        circuit = model(WIRING, solver=solver, ode_steps=ode_steps).double()
        circuit.load_state_dict(reference.state_dict())
        with torch.no_grad():
            errors.append((circuit(inputs, state, elapsed)[1][0] - truth).abs().max().item())
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(ORDERS[solver], abs=0.25)


@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize("model", [LTC, CTRNN, LRC])
def test_zero_elapsed_time_leaves_the_state_unchanged(model, solver: str) -> None:
    state = torch.randn(4, 10)
    inputs = torch.randn(1, 4, 3)
    _, after = model(WIRING, solver=solver)(inputs, state, torch.zeros(1, 4))
    assert_close(after, state, rtol=0, atol=0)


@given(
    log_elapsed=st.floats(-6, 6),
    drive=st.floats(-100, 100),
    seed=st.integers(0, 1000),
    ode_steps=st.integers(1, 8),
)
@settings(max_examples=60, deadline=None)
def test_ltc_states_stay_within_their_reversal_potentials(
    log_elapsed: float, drive: float, seed: int, ode_steps: int
) -> None:
    torch.manual_seed(seed)
    circuit = LTC(WIRING, ode_steps=ode_steps)
    reversals = (circuit.sensory.reversal, circuit.recurrent.reversal, circuit.leak_reversal)
    bounds = torch.cat([reversal.detach() for reversal in reversals])
    low, high = bounds.min() - 1e-5, bounds.max() + 1e-5
    state = low + (high - low) * torch.rand(3, 10)
    elapsed = torch.full((5, 3), 10.0**log_elapsed)
    activity, after = circuit.activity(drive * torch.randn(5, 3, 3), state, elapsed)
    assert torch.isfinite(activity).all()
    assert ((activity >= low) & (activity <= high)).all()
    after.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in circuit.parameters() if p.grad is not None)


@pytest.mark.parametrize("model", [LTC, CTRNN, LRC])
def test_time_constants_start_near_the_time_scale_and_are_in_seconds(model) -> None:
    circuit, unit = model(WIRING, time_scale=0.05), model(WIRING)
    assert 0.05 / 10 < circuit.time_constants.median() < 0.05 * 4
    unit.load_state_dict(circuit.state_dict())
    assert_close(circuit.time_constants, 0.05 * unit.time_constants)


def test_leaky_neuron_without_input_decays_with_tau() -> None:
    """Exactly exp(-t / tau) for a neuron with neither synapse nor bias, up to RK4's error."""
    circuit = CTRNN(WIRING, solver="rk4", ode_steps=512).double()
    with torch.no_grad():
        circuit.sensory.weight.zero_()
        circuit.recurrent.weight.zero_()
    state = torch.ones(1, 10, dtype=torch.float64)
    elapsed = torch.full((1, 1), 0.7, dtype=torch.float64)
    _, after = circuit(torch.zeros(1, 1, 3, dtype=torch.float64), state, elapsed)
    assert_close(after[0], torch.exp(-0.7 / circuit.time_constants), rtol=1e-8, atol=1e-10)
