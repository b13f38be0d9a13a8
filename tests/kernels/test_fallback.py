"""PyTorch unrolls what the kernels do not, with the same results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from liquid_control import kernels
from liquid_control.kernels import extension
from liquid_control.neurons import CTRNN, LRC, LTC, CfC, Circuit
from liquid_control.wiring import Wiring
from tests.kernels.cases import (
    KINDS,
    WIRING,
    assert_agree,
    assert_equal,
    build,
    gradients,
    is_fused,
    reference,
    sequence,
    values,
)


class Doubled(CfC):
    """A subclass that changes one equation."""

    def update(
        self, gates: Tensor, own: Sequence[Tensor], elapsed: Tensor, neurons: slice
    ) -> tuple[Tensor, ...]:
        return tuple(2 * part for part in super().update(gates, own, elapsed, neurons))


UNKNOWN: dict[str, Callable[[Wiring], Circuit]] = {
    "ltc-euler": lambda wiring: LTC(wiring, solver="euler"),
    "ltc-rk4": lambda wiring: LTC(wiring, solver="rk4"),
    "ltc-memory": lambda wiring: LTC(wiring, memory="lstm"),
    "ctrnn-euler": lambda wiring: CTRNN(wiring, solver="euler"),
    "ctrnn-rk4": lambda wiring: CTRNN(wiring, solver="rk4"),
    "ctrnn-memory": lambda wiring: CTRNN(wiring, memory="lstm"),
    "lrc-euler": lambda wiring: LRC(wiring, solver="euler"),
    "lrc-memory": lambda wiring: LRC(wiring, memory="lstm"),
    "subclass": Doubled,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_neurons_and_solvers_are_left_to_pytorch(name: str) -> None:
    torch.manual_seed(0)
    circuit = UNKNOWN[name](WIRING).double()
    case = sequence(circuit, 5, 4)
    assert not is_fused(circuit, case)
    with reference(circuit):
        expected = values(circuit, case) | gradients(circuit, case)
    assert_equal(values(circuit, case) | gradients(circuit, case), expected)


def test_a_subclass_computes_its_own_equations() -> None:
    plain, doubled = CfC(WIRING).double(), Doubled(WIRING).double()
    doubled.load_state_dict(plain.state_dict())
    case = sequence(plain, 1, 4)
    inter = slice(0, WIRING.layer_slices["inter"].stop)
    expected, _ = plain.activity(*case)
    found, _ = doubled.activity(*case)
    torch.testing.assert_close(found[..., inter], 2 * expected[..., inter])


@pytest.mark.usefixtures("kernels")
def test_a_circuit_can_be_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction or later, and no other circuit with it."""
    asked: list[Circuit] = []
    unroll = kernels.unroll
    monkeypatch.setattr(
        kernels, "unroll", lambda circuit, *case: asked.append(circuit) or unroll(circuit, *case)
    )
    fused, left = build("cfc-default"), build("cfc-default", backend="pytorch")
    case = sequence(fused, 3, 2)
    for circuit in (fused, left):
        circuit(*case)
    fused.backend = "pytorch"
    fused(*case)
    left.backend = "auto"
    left(*case)
    assert asked == [fused, left]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'pytorch', got 'fused'"):
        CfC(WIRING, backend="fused")


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_extension_nothing_else_changes(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "load", lambda: None)
    circuit = build(kind)
    case = sequence(circuit, 6, 5)
    assert not is_fused(circuit, case)
    without = values(circuit, case, whole=True) | gradients(circuit, case)
    monkeypatch.undo()
    twin = build(kind)
    with_them = values(twin, case, whole=True) | gradients(twin, case)
    assert_agree(with_them, without, relative=1e-9, absolute=1e-12)


@pytest.mark.usefixtures("kernels")
def test_the_extension_is_asked_once_for_each_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acting, one step at a time, must not load it at each step."""
    load, asked = extension.load, []
    monkeypatch.setattr(extension, "load", lambda: asked.append(1) or load())
    circuit = build("cfc-default")
    case = sequence(circuit, 1, 1)
    for _ in range(3):
        circuit(*case)
    assert len(asked) == 1
