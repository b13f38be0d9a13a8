"""Laws of the generators: degrees, layers, reach, sparsity, seeds and invalid arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ncps.wirings import AutoNCP

from liquid_control.wiring import Wiring, auto_ncp, dense, ncp, sparse_random

counts = st.integers(1, 12)
seeds = st.integers(0, 2**32)


@st.composite
def ncp_requests(draw: st.DrawFn) -> dict[str, int]:
    inter, command = draw(counts), draw(counts)
    return {
        "sensory": draw(counts),
        "inter": inter,
        "command": command,
        "motor": draw(counts),
        "sensory_fanout": draw(st.integers(1, inter)),
        "inter_fanout": draw(st.integers(1, command)),
        "recurrent_command_synapses": draw(st.integers(0, command**2)),
        "motor_fanin": draw(st.integers(1, command)),
        "seed": draw(seeds),
    }


def assert_projection(synapses: np.ndarray[Any, Any], fanout: int) -> None:
    """Each row has `fanout` synapses, plus those that rescue columns no row had chosen."""
    sources, targets = synapses.shape
    present = synapses != 0
    extra = present.sum() - sources * fanout
    rescue = max(sources * fanout // targets, 1)
    assert extra % rescue == 0
    assert (present.sum(axis=1) >= fanout).all()
    assert present.any(axis=0).all()
    if fanout == targets or (present.sum(axis=0) != rescue).all():
        # No column has a rescued column's in-degree, so none was rescued: fan-outs are exact.
        assert (present.sum(axis=1) == fanout).all()


@given(ncp_requests())
def test_ncp_has_the_requested_degrees_and_leaves_no_neuron_out(request: dict[str, int]) -> None:
    wiring = ncp(**request)
    inter, command, motor = wiring.layer_slices.values()
    assert_projection(wiring.sensory[:, inter], request["sensory_fanout"])
    assert_projection(wiring.recurrent[inter, command], request["inter_fanout"])
    assert_projection(wiring.recurrent[command, motor].T, request["motor_fanin"])
    recurrent = np.count_nonzero(wiring.recurrent[command, command])
    assert recurrent == request["recurrent_command_synapses"]


@given(ncp_requests())
def test_ncp_synapses_neither_skip_a_layer_nor_run_back(request: dict[str, int]) -> None:
    wiring = ncp(**request)
    inter, command, motor = wiring.layer_slices.values()
    stripped = wiring.recurrent.copy()
    stripped[inter, command] = stripped[command, command] = stripped[command, motor] = 0
    assert not stripped.any()
    assert not wiring.sensory[:, command.start :].any()
    assert wiring.motor_count == request["motor"] == motor.stop - motor.start


def test_ncp_fanout_is_exact_where_no_neuron_needs_rescue() -> None:
    wiring = ncp(40, 6, 5, 30, 3, 2, 7, 2, seed=1)
    inter, command, motor = wiring.layer_slices.values()
    assert (np.count_nonzero(wiring.sensory[:, inter], axis=1) == 3).all()
    assert (np.count_nonzero(wiring.recurrent[command, motor], axis=0) == 2).all()


@given(
    sensory=counts,
    neurons=st.integers(5, 80),
    motor=counts,
    sparsity=st.floats(0.1, 0.9),
    seed=seeds,
)
def test_auto_ncp_has_the_sizes_of_ncps(
    sensory: int, neurons: int, motor: int, sparsity: float, seed: int
) -> None:
    assume(motor < neurons - 2)
    wiring = auto_ncp(sensory, neurons, motor, sparsity, seed)
    reference = AutoNCP(neurons, motor, sparsity_level=sparsity)
    assert wiring.layers == (
        ("inter", reference._num_inter_neurons),
        ("command", reference._num_command_neurons),
        ("motor", motor),
    )
    inter, command, motor_layer = wiring.layer_slices.values()
    assert_projection(wiring.sensory[:, inter], reference._sensory_fanout)
    assert_projection(wiring.recurrent[inter, command], reference._inter_fanout)
    assert_projection(wiring.recurrent[command, motor_layer].T, reference._motor_fanin)
    pairs = reference._num_command_neurons**2
    assert np.count_nonzero(wiring.recurrent[command, command]) == min(
        reference._recurrent_command_synapses, pairs
    )


@given(sensory=counts, neurons=counts, seed=seeds, data=st.data())
def test_dense_has_every_synapse(
    sensory: int, neurons: int, seed: int, data: st.DataObject
) -> None:
    motor = data.draw(st.integers(1, neurons))
    wiring = dense(sensory, neurons, motor, seed)
    assert wiring.synapse_count == (sensory + neurons) * neurons
    assert wiring.layers == (("command", neurons),)
    assert wiring.motor_count == motor


@given(
    sensory=counts,
    neurons=st.integers(2, 12),
    sparsity=st.floats(0, 1, exclude_max=True),
    seed=seeds,
    data=st.data(),
)
def test_sparse_random_has_its_sparsity_or_raises(
    sensory: int, neurons: int, sparsity: float, seed: int, data: st.DataObject
) -> None:
    motor = data.draw(st.integers(1, neurons))
    possible = (sensory + neurons) * neurons
    kept = round((1 - sparsity) * possible)
    if kept < sensory + motor:
        with pytest.raises(ValueError, match="lower sparsity to at most"):
            sparse_random(sensory, neurons, motor, sparsity, seed)
        return
    wiring = sparse_random(sensory, neurons, motor, sparsity, seed)
    assert wiring.synapse_count == kept
    assert wiring.sensory.any(axis=1).all()
    inputs_of_motors = np.vstack((wiring.sensory, wiring.recurrent))[:, -motor:]
    assert inputs_of_motors.any(axis=0).all()


def test_the_sparsity_that_an_error_proposes_works() -> None:
    with pytest.raises(ValueError, match="lower sparsity") as raised:
        sparse_random(10, 20, 5, sparsity=0.999)
    proposed = float(str(raised.value).rsplit(" ", 1)[1])
    assert sparse_random(10, 20, 5, sparsity=proposed).synapse_count == 15


def test_every_pair_of_neurons_and_both_polarities_are_drawn_equally_often() -> None:
    drawn = np.stack([sparse_random(2, 3, 1, 0.5, seed).recurrent for seed in range(2000)])
    present, excites = drawn != 0, drawn == 1
    # Column 2 is the motor neuron, whose guaranteed input makes its synapses a little likelier.
    share = present[:, :, :2].mean(axis=0)
    np.testing.assert_allclose(share, share.mean(), atol=0.05)
    assert excites.sum() / present.sum() == pytest.approx(0.5, abs=0.02)


GENERATORS: dict[str, Callable[[int], Wiring]] = {
    "ncp": lambda seed: ncp(5, 6, 4, 3, 2, 2, 5, 2, seed=seed),
    "auto_ncp": lambda seed: auto_ncp(17, 64, 6, sparsity=0.5, seed=seed),
    "dense": lambda seed: dense(3, 8, 2, seed=seed),
    "sparse_random": lambda seed: sparse_random(4, 16, 2, sparsity=0.8, seed=seed),
}

# These may only change with an announced release: saved runs store a wiring as its seed.
DIGESTS = {
    "ncp": "113a4f7b6f040f60",
    "auto_ncp": "d07849d97df8d162",
    "dense": "1ef38052ee54d5d9",
    "sparse_random": "0b4b96dda3234826",
}


def digest(wiring: Wiring) -> str:
    return hashlib.sha256(json.dumps(wiring.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_means_one_circuit_everywhere(name: str) -> None:
    assert digest(GENERATORS[name](7)) == DIGESTS[name]
    assert GENERATORS[name](7) == GENERATORS[name](np.int64(7))
    assert GENERATORS[name](7) != GENERATORS[name](8)


@pytest.mark.parametrize(
    ("request_wiring", "message"),
    [
        (lambda: dense(3, 4, 5), "lower motor to at most 4"),
        (lambda: auto_ncp(3, 7, 6), "raise neurons to at least 8"),
        (lambda: auto_ncp(3, 64, 6, sparsity=1.0), "sparsity is 1"),
        (lambda: auto_ncp(3, 64, 6, sparsity=-0.1), "sparsity is -0.1"),
        (lambda: auto_ncp(3, 64, 6, sparsity=float("nan")), "sparsity is nan"),
        (lambda: sparse_random(0, 4, 1, 0.5), "sensory is 0; raise it to at least 1"),
        (lambda: dense(3, 0, 1), "neurons is 0"),
        (lambda: dense(3, 4, 0), "motor is 0"),
        (lambda: dense(3, 4, 1, seed=-1), "seed is -1"),
        (lambda: ncp(3, 4, 5, 2, 5, 2, 3, 2), "lower sensory_fanout to at most 4"),
        (lambda: ncp(3, 4, 5, 2, 2, 6, 3, 2), "lower inter_fanout to at most 5"),
        (lambda: ncp(3, 4, 5, 2, 2, 2, 26, 2), "lower recurrent_command_synapses to at most 25"),
        (lambda: ncp(3, 4, 5, 2, 2, 2, 3, 6), "lower motor_fanin to at most 5"),
        (lambda: ncp(3, 4, 5, 2, 2, 2, -1, 2), "recurrent_command_synapses is -1"),
        (lambda: ncp(3, 4, 5, 2, 0, 2, 3, 2), "sensory_fanout is 0"),
    ],
)
def test_errors_of_impossible_sizes_name_the_number_to_change(
    request_wiring: Callable[[], Wiring], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        request_wiring()


@pytest.mark.parametrize(
    "arguments",
    [(3, 64.0, 6), (3, "64", 6), (True, 64, 6), (3, 64, None), (3, 64, 6, "dense")],
)
def test_arguments_of_the_wrong_type_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="must be a"):
        auto_ncp(*arguments)
