"""Circuits of every kind, and random sequences for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from liquid_control.kernels import extension
from liquid_control.neurons import CTRNN, GRU, LRC, LSTM, LTC, CfC, Circuit
from liquid_control.wiring import Wiring, auto_ncp, dense

SENSORY, NEURONS, MOTOR = 3, 10, 2

BUILDERS: dict[str, Callable[[Wiring], Circuit]] = {
    "cfc-default": CfC,
    "cfc-pure": lambda wiring: CfC(wiring, mode="pure"),
    "cfc-no_gate": lambda wiring: CfC(wiring, mode="no_gate"),
    "cfc-memory": lambda wiring: CfC(wiring, memory="lstm"),
    "cfc-pure-memory": lambda wiring: CfC(wiring, mode="pure", memory="lstm"),
    "cfc-affine": lambda wiring: CfC(wiring, input_mapping="affine", output_mapping="linear"),
    "ltc": LTC,
    "ltc-rk4": lambda wiring: LTC(wiring, solver="rk4", ode_steps=3),
    "ltc-memory": lambda wiring: LTC(wiring, memory="lstm", ode_steps=2),
    "ctrnn": CTRNN,
    "ctrnn-euler": lambda wiring: CTRNN(wiring, solver="euler", ode_steps=3),
    "ctrnn-memory": lambda wiring: CTRNN(wiring, memory="lstm", ode_steps=2),
    "lrc": LRC,
    "lrc-memory": lambda wiring: LRC(wiring, memory="lstm", ode_steps=2),
    "lstm": LSTM,
    "gru": GRU,
}
# Kinds that the kernels leave to PyTorch.
UNFUSED = {"ltc-rk4", "ltc-memory", "ctrnn-euler", "ctrnn-memory", "lrc-memory"}
WIRINGS: dict[str, Wiring] = {
    "ncp": auto_ncp(SENSORY, NEURONS, MOTOR, sparsity=0.4, seed=3),
    "dense": dense(SENSORY, NEURONS, MOTOR, seed=3),
}
PATHS = ("fused", "reference")
# Every kind with layers, each neuron model also without, and both ways of unrolling where it has
# both.
CASES = [
    (path, kind, wiring)
    for path in PATHS
    for kind in BUILDERS
    for wiring in WIRINGS
    if path == "reference" or kind not in UNFUSED
    if wiring == "ncp" or kind in ("cfc-default", "ltc", "ctrnn", "lrc", "lstm", "gru")
]
# Quick tests leave out what differs from another case in the wiring or the neurons alone.
SLOW = {"cfc-memory", "ltc-memory", "ctrnn-memory"}


def is_slow(path: str, kind: str, wiring: str) -> bool:
    twice = {"cfc-default", "ltc"} if path == "fused" else {"cfc-default"}
    return kind in SLOW or (wiring == "dense" and kind not in twice)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test every law with the compiled kernels, if there are any, and with PyTorch alone."""
    if request.param == "reference":
        monkeypatch.setattr(extension, "load", lambda: None)


@pytest.fixture(params=WIRINGS)
def wiring(request: pytest.FixtureRequest) -> Wiring:
    return WIRINGS[request.param]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Test a law of circuits in each of the cases, and any other in both ways of unrolling.

    Unless it is marked with its own ways.
    """
    marks = metafunc.definition.iter_markers("parametrize")
    if any(mark.args[0] == "_path" for mark in marks):
        return
    if "circuit" in metafunc.fixturenames:
        cases = [
            pytest.param(
                path,
                (kind, wiring),
                id=f"{path}-{kind}-{wiring}",
                marks=pytest.mark.slow if is_slow(path, kind, wiring) else (),
            )
            for path, kind, wiring in CASES
        ]
        metafunc.parametrize(("_path", "circuit"), cases, indirect=True)
    else:
        metafunc.parametrize("_path", PATHS, indirect=True)


@pytest.fixture
def circuit(request: pytest.FixtureRequest) -> Circuit:
    """A circuit in float64 whose parameters are all away from their special starting values."""
    kind, wiring = request.param
    made = BUILDERS[kind](WIRINGS[wiring]).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.fixture
def sequence() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Inputs, elapsed times from 0.2 to 2 and sparse resets for so many steps and samples."""

    def make(steps: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        inputs = torch.randn(steps, batch, SENSORY, dtype=torch.float64)
        elapsed = 0.2 + 1.8 * torch.rand(steps, batch, dtype=torch.float64)
        return inputs, elapsed, (torch.rand(steps, batch) < 0.2).double()

    return make
