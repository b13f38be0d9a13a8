"""Random circuits and sequences, and a circuit's results with and without the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from liquid_control import kernels
from liquid_control.neurons import CTRNN, GRU, LRC, LSTM, LTC, CfC, Circuit
from liquid_control.wiring import Wiring, auto_ncp, dense, ncp, sparse_random, tap_withdrawal

KINDS: dict[str, Callable[..., Circuit]] = {
    "cfc-default": CfC,
    "cfc-no_gate": lambda wiring, **options: CfC(wiring, mode="no_gate", **options),
    "cfc-pure": lambda wiring, **options: CfC(wiring, mode="pure", **options),
    "cfc-default-memory": lambda wiring, **options: CfC(wiring, memory="lstm", **options),
    "cfc-no_gate-memory": lambda wiring, **options: CfC(
        wiring, mode="no_gate", memory="lstm", **options
    ),
    "cfc-pure-memory": lambda wiring, **options: CfC(wiring, mode="pure", memory="lstm", **options),
    "ltc": LTC,
    "ctrnn": CTRNN,
    "lrc": LRC,
    "lstm": LSTM,
    "gru": GRU,
}
# In quick tests each mode, and memory with one of them.
SLOW = {"cfc-no_gate-memory", "cfc-pure-memory"}
each_kind = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in KINDS]
)
WIRING = auto_ncp(3, 12, 2, sparsity=0.4, seed=3)


class Sequence(NamedTuple):
    """The arguments of one unroll."""

    inputs: Tensor
    state: Tensor | None = None
    elapsed_time: Tensor | None = None
    episode_start: Tensor | None = None

    def __repr__(self) -> str:
        shapes = (each if each is None else tuple(each.shape) for each in self)
        return f"Sequence({', '.join(map('{}={}'.format, self._fields, shapes))})"

    def to(self, dtype: torch.dtype) -> Sequence:
        return Sequence(*(None if tensor is None else tensor.to(dtype) for tensor in self))

    def detached(self) -> Sequence:
        """New leaves of the autograd graph."""
        return Sequence(*(None if tensor is None else tensor.detach().clone() for tensor in self))

    def sample(self, index: int) -> Sequence:
        """One sample of the batch, as a batch of its own."""
        one = slice(index, index + 1)
        state = None if self.state is None else self.state[one]
        inputs, _, elapsed, starts = (None if each is None else each[:, one] for each in self)
        return Sequence(inputs, state, elapsed, starts)


def build(kind: str, wiring: Wiring = WIRING, seed: int = 0, **options: object) -> Circuit:
    """A circuit in float64 whose parameters are all away from their special starting values."""
    torch.manual_seed(seed)
    circuit = KINDS[kind](wiring, **options).double()
    with torch.no_grad():
        for parameter in circuit.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return circuit


def sequence(circuit: Circuit, steps: int, batch: int, seed: int = 0) -> Sequence:
    """Inputs, a state, elapsed times of 0.2 to 2 time scales and sparse resets, in float64."""
    torch.manual_seed(seed)
    like = {"dtype": torch.float64}
    return Sequence(
        torch.randn(steps, batch, circuit.wiring.sensory_count, **like),
        0.5 * torch.randn(batch, circuit.state_size, **like),
        (0.2 + 1.8 * torch.rand(steps, batch, **like)) * circuit.time_scale,
        (torch.rand(steps, batch) < 0.1).double(),
    )


@contextmanager
def reference(circuit: Circuit) -> Iterator[None]:
    """Leave a circuit to PyTorch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(circuit, "backend", "pytorch")
        yield


def is_fused(circuit: Circuit, case: Sequence) -> bool:
    """Whether the kernels take this unroll."""
    return kernels.unroll(circuit, *case, 0) is not None


def values(circuit: Circuit, case: Sequence, *, whole: bool = False) -> dict[str, Tensor]:
    """Outputs and last state, of every neuron if `whole`."""
    with torch.no_grad():
        outputs, last = (circuit.activity if whole else circuit)(*case)
    return {"outputs": outputs, "last state": last}


def trainable(circuit: Circuit, case: Sequence) -> dict[str, Tensor]:
    """Everything that has a gradient: the tensors of `case` themselves, and parameters."""
    tensors = dict(zip(Sequence._fields[:3], case, strict=False)) | dict(circuit.named_parameters())
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def gradients(circuit: Circuit, case: Sequence, *, whole: bool = False) -> dict[str, Tensor]:
    """The gradients of a random weighing of outputs and last state; zeros where there is none."""
    case = case.detached()
    leaves = trainable(circuit, case)
    for leaf in leaves.values():
        leaf.requires_grad_()
    results = (circuit.activity if whole else circuit)(*case)
    found = torch.autograd.grad(
        weighed(*results), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, found, strict=True))


def weighed(*tensors: Tensor) -> Tensor:
    """The sum of all numbers, each times a random one that depends on the shapes only."""
    generator = torch.Generator().manual_seed(0)
    return sum(
        (torch.randn(each.shape, generator=generator, dtype=torch.float64).to(each) * each).sum()
        for each in tensors
    )


def double(circuit: Circuit) -> Circuit:
    """The same circuit in float64."""
    return deepcopy(circuit).double()


def errors(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The largest error in each tensor."""
    assert actual.keys() == expected.keys()
    found = {}
    for name, truth in expected.items():
        assert actual[name].shape == truth.shape, name
        error = (actual[name].to(truth) - truth).abs()
        found[name] = error.max().item() if error.numel() else 0.0
    return found


def assert_agree(
    actual: dict[str, Tensor],
    expected: dict[str, Tensor],
    *,
    relative: float,
    absolute: float,
    rounded: dict[str, Tensor] | None = None,
) -> None:
    """Every tensor within `absolute`, or `relative` of its largest number, of the expected one.

    The rare circuit is chaotic or saturated and magnifies rounding errors: ten times the error that
    PyTorch makes, in `rounded`, is allowed as well.
    """
    noise = {} if rounded is None else errors(rounded, expected)
    for name, error in errors(actual, expected).items():
        size = expected[name].abs().max().item() if expected[name].numel() else 0.0
        bound = absolute + relative * size + 10 * noise.get(name, 0.0)
        assert error <= bound, f"{name}: off by {error:.3g}, {bound:.3g} allowed"


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Every tensor the same, bit for bit."""
    assert actual.keys() == expected.keys()
    for name, truth in expected.items():
        assert torch.equal(actual[name], truth), name


@st.composite
def any_wirings(draw: st.DrawFn) -> Wiring:
    """Any wiring: synapses back to earlier layers, neurons without a synapse, no synapse at all."""
    inputs, sizes = draw(st.integers(1, 4)), draw(st.lists(st.integers(1, 6), max_size=3))
    motor = draw(st.integers(1, 4))
    neurons = sum(sizes) + motor
    polarities = st.sampled_from((-1, 0, 1))
    return Wiring(
        sensory=draw(arrays.arrays(np.int8, (inputs, neurons), elements=polarities)),
        recurrent=draw(arrays.arrays(np.int8, (neurons, neurons), elements=polarities)),
        motor_count=motor,
        layers=(*((f"layer_{i}", size) for i, size in enumerate(sizes)), ("motor", motor)),
    )


@st.composite
def ncps(draw: st.DrawFn) -> Wiring:
    inter, command, motor = (draw(st.integers(1, most)) for most in (16, 12, 4))
    return ncp(
        draw(st.integers(1, 8)),
        inter,
        command,
        motor,
        sensory_fanout=draw(st.integers(1, inter)),
        inter_fanout=draw(st.integers(1, command)),
        recurrent_command_synapses=draw(st.integers(0, command**2)),
        motor_fanin=draw(st.integers(1, command)),
        seed=draw(st.integers(0, 99)),
    )


WIRINGS: st.SearchStrategy[Wiring] = st.one_of(
    any_wirings(),
    ncps(),
    st.builds(
        auto_ncp,
        st.integers(1, 8),
        st.integers(6, 40),
        st.integers(1, 4),
        sparsity=st.sampled_from((0.0, 0.3, 0.5, 0.9)),
        seed=st.integers(0, 99),
    ),
    st.builds(dense, st.integers(1, 5), st.integers(4, 20), st.integers(1, 4)),
    st.builds(
        sparse_random,
        st.integers(1, 5),
        st.integers(8, 20),
        st.integers(1, 4),
        sparsity=st.sampled_from((0.3, 0.6, 0.8)),
        seed=st.integers(0, 99),
    ),
    st.just(tap_withdrawal()),
)

MAPPINGS = st.sampled_from((None, "linear", "affine"))
# Full and partial vectors of every width, and more samples than one tile holds.
BATCHES = st.sampled_from((0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 64, 70))
# Chunks are some 32 vectors: sequences end before, at and behind their borders, of two chunks too.
# Most are short, because the reference takes its time for each step.
STEPS = st.sampled_from((*range(1, 35), 63, 64, 65))


@st.composite
def circuits(draw: st.DrawFn, kind: str) -> Circuit:
    """A circuit of some kind with any wiring and options."""
    options = {
        "time_scale": draw(st.sampled_from((1.0, 0.05))),
        "input_mapping": draw(MAPPINGS),
        "output_mapping": draw(MAPPINGS),
    }
    if kind in ("ltc", "ctrnn", "lrc"):
        options["ode_steps"] = draw(st.sampled_from((1, 2, 3, 6)))
    return build(kind, draw(WIRINGS), draw(st.integers(0, 999)), **options)


@st.composite
def sequences(
    draw: st.DrawFn,
    circuit: Circuit,
    *,
    steps: st.SearchStrategy[int] = STEPS,
    batches: st.SearchStrategy[int] = BATCHES,
    extremes: bool = True,
) -> Sequence:
    """Any sequence: with or without state, elapsed times and resets.

    With `extremes`, some elapsed times may be 0 and some 1e12 seconds. Not much in between: a time
    gate that such a time leaves half open makes rounding errors as large as its argument.
    """
    case = sequence(circuit, draw(steps), draw(batches), draw(st.integers(0, 999)))
    usual = case.elapsed_time
    chance = torch.rand_like(usual)
    extreme = torch.where(chance < 0.1, 0.0, torch.where(chance < 0.2, 1e12, usual))
    elapsed = (None, usual, extreme) if extremes else (None, usual)
    return Sequence(
        case.inputs,
        draw(st.sampled_from((None, case.state))),
        draw(st.sampled_from(elapsed)),
        draw(st.sampled_from((None, case.episode_start))),
    )
