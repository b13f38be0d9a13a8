"""Laws of a lesion: the neuron rests, others receive zero from it, and the weights come back."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from liquid_control.neurons import LRC, CfC, Circuit
from liquid_control.neurons.lesion import at_rest
from liquid_control.neurons.synapses import SynapseList, Synapses
from liquid_control.wiring import Wiring, auto_ncp
from tests.neurons.conftest import MOTOR, NEURONS, SENSORY

Sequences = Callable[..., tuple[Tensor, Tensor, Tensor]]

SOME = (0, 3, 6, NEURONS - 1)  # of all layers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_neuron_at_rest_is_zero_at_every_step(
    circuit: Circuit, sequence: Sequences, dtype: torch.dtype
) -> None:
    inputs, elapsed, starts = (each.to(dtype) for each in sequence(8, 3))
    circuit.to(dtype)
    awake, _ = circuit.activity(inputs, None, elapsed, starts)
    assert (awake.abs().amax(dim=(0, 1)) > 0).all()
    for neuron in SOME:
        with at_rest(circuit, neuron), torch.no_grad():
            activity, state = circuit.activity(inputs, None, elapsed, starts)
        assert (activity[..., neuron] == 0).all()
        assert (state.unflatten(1, (-1, NEURONS))[..., neuron] == 0).all()


def test_other_neurons_receive_zero_from_a_neuron_at_rest(
    circuit: Circuit, sequence: Sequences
) -> None:
    """As if the neuron were active, but each of its synapses carried a zero."""
    inputs, elapsed, starts = sequence(8, 3)
    for neuron in SOME:
        others = torch.arange(NEURONS) != neuron
        with torch.no_grad():
            unheard, _ = _muted(circuit, neuron).activity(inputs, None, elapsed, starts)
            with at_rest(circuit, neuron):
                activity, _ = circuit.activity(inputs, None, elapsed, starts)
        assert_close(activity[..., others], unheard[..., others], rtol=1e-6, atol=1e-9)


def _muted(circuit: Circuit, neuron: int) -> Circuit:
    """A copy whose synapses from a neuron carry zero, whatever its activity is."""
    muted = deepcopy(circuit)
    recurrent = (
        [muted.recurrent] if muted.memory is None else [muted.recurrent, muted.memory.recurrent]
    )
    with torch.no_grad():
        for synapses in recurrent:
            assert isinstance(synapses, SynapseList)
            own = synapses.sources == neuron
            if isinstance(synapses, Synapses):
                synapses.weight[:, own] = 0
            elif isinstance(circuit, LRC):  # the sigmoid keeps its value at zero
                synapses.steepness[own] = 0
                synapses.elastance[own] = 0
            else:  # a sigmoid so flat that it is constant, with its value at zero
                flat = 1e-10
                synapses.midpoint[own] *= synapses.steepness[own] / flat
                synapses.steepness[own] = flat
    return muted


def test_a_neuron_without_synapses_to_others_changes_none_of_them(
    circuit: Circuit, sequence: Sequences
) -> None:
    wiring = circuit.wiring
    mute = [
        neuron
        for neuron in range(NEURONS)
        if not (wiring.recurrent[neuron] != 0)[torch.arange(NEURONS) != neuron].any()
    ]
    if wiring.synapse_count < (SENSORY + NEURONS) * NEURONS:
        assert mute
    inputs, elapsed, starts = sequence(12, 3)
    for neuron in mute:
        others = torch.arange(NEURONS) != neuron
        with torch.no_grad():
            awake, _ = circuit.activity(inputs, None, elapsed, starts)
            with at_rest(circuit, neuron):
                activity, _ = circuit.activity(inputs, None, elapsed, starts)
        assert torch.equal(activity[..., others], awake[..., others])
        assert not torch.equal(activity, awake)


def test_weights_come_back_bit_for_bit(circuit: Circuit, sequence: Sequences) -> None:
    inputs, elapsed, starts = sequence(5, 2)
    circuit(inputs, None, elapsed, starts)[0].sum().backward()
    before = _bits(circuit)
    expected, _ = circuit(inputs, None, elapsed, starts)

    with at_rest(circuit, 0), at_rest(circuit, NEURONS - 1):
        assert _bits(circuit) != before
        motor, _ = circuit.activity(inputs, None, elapsed, starts)
        assert (motor[..., [0, -1]] == 0).all()
    assert _bits(circuit) == before
    assert torch.equal(circuit(inputs, None, elapsed, starts)[0], expected)

    with pytest.raises(RuntimeError, match="in mid-episode"), at_rest(circuit, 3):
        raise RuntimeError("in mid-episode")
    assert _bits(circuit) == before


def _bits(circuit: Circuit) -> dict[str, tuple[object, ...]]:
    """Everything about each parameter that training depends on: bits, address, gradient."""
    return {
        name: (
            parameter.detach().numpy().tobytes(),
            parameter.data_ptr(),
            parameter.requires_grad,
            parameter.is_leaf,
            None if parameter.grad is None else parameter.grad.numpy().tobytes(),
        )
        for name, parameter in circuit.named_parameters()
    }


def test_a_reservoir_can_be_lesioned_and_stays_frozen() -> None:
    circuit = CfC(auto_ncp(SENSORY, NEURONS, MOTOR), plasticity="readout", output_mapping="affine")
    with at_rest(circuit, 1):
        activity, _ = circuit.activity(torch.randn(4, 2, SENSORY))
    assert (activity[..., 1] == 0).all()
    assert not activity.requires_grad


@pytest.mark.parametrize("neuron", [-1, NEURONS])
def test_only_neurons_of_the_circuit_can_be_lesioned(wiring: Wiring, neuron: int) -> None:
    with (
        pytest.raises(ValueError, match=f"neuron must be from 0 to {NEURONS - 1}, got {neuron}"),
        at_rest(CfC(wiring), neuron),
    ):
        pass


def test_a_neuron_is_a_whole_number(circuit: Circuit) -> None:
    with pytest.raises(TypeError, match="float"), at_rest(circuit, 1.5):  # type: ignore[arg-type]
        pass
