"""Agreement with ncps 1.0.1 wherever it honours the wiring, and with torch's own layers."""

from __future__ import annotations

import ncps.torch
import ncps.wirings
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from liquid_control.neurons import GRU, LSTM, LTC, CfC
from liquid_control.neurons.synapses import Synapses
from liquid_control.wiring import Wiring, auto_ncp, dense

STEPS, SENSORY, NEURONS, MOTOR = 5, 3, 10, 2


class NcpsWiring(ncps.wirings.Wiring):
    """Our wiring in ncps's form, where the motor neurons come first."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__(wiring.neuron_count)
        self.order = np.roll(np.arange(wiring.neuron_count), wiring.motor_count)
        self.place = np.argsort(self.order)  # ours -> ncps
        self.build(wiring.sensory_count)
        self.set_output_dim(wiring.motor_count)
        self.adjacency_matrix = wiring.recurrent[np.ix_(self.order, self.order)].astype(np.int32)
        self.sensory_adjacency_matrix = wiring.sensory[:, self.order].astype(np.int32)
        self.slices = list(wiring.layer_slices.values())

    @property
    def num_layers(self) -> int:
        return len(self.slices)

    def get_neurons_of_layer(self, layer_id: int) -> list[int]:
        return [int(n) for n in self.place[self.slices[layer_id]]]


def fill(target: nn.Parameter, order: np.ndarray, polarity: np.ndarray, values: Tensor) -> None:
    """Copy per-synapse values into one of ncps's dense matrices."""
    ours = torch.zeros(polarity.shape)
    ours[np.nonzero(polarity)] = values.detach()
    if len(polarity) == len(order):
        ours = ours[order]
    target.data = ours[:, order].contiguous()


@pytest.mark.parametrize("wiring", [auto_ncp(SENSORY, NEURONS, MOTOR), dense(SENSORY, NEURONS, 2)])
def test_ltc(wiring: Wiring) -> None:
    torch.manual_seed(0)
    ours = LTC(wiring)
    theirs_wiring = NcpsWiring(wiring)
    theirs = ncps.torch.LTC(
        SENSORY, theirs_wiring, batch_first=False, implicit_param_constraints=True
    )
    order, cell = theirs_wiring.order, theirs.rnn_cell
    for kind, prefix in (("sensory", "sensory_"), ("recurrent", "")):
        synapses, polarity = getattr(ours, kind), getattr(wiring, kind)
        for name, values in (
            ("w", synapses.conductance),
            ("sigma", synapses.steepness),
            ("mu", synapses.midpoint),
            ("erev", synapses.reversal),
        ):
            fill(cell._params[prefix + name], order, polarity, values)
    for name, values in (
        ("gleak", ours.leak),
        ("vleak", ours.leak_reversal),
        ("cm", ours.capacitance),
    ):
        cell._params[name].data = values.detach()[order]

    inputs, elapsed = torch.randn(STEPS, 1, SENSORY), torch.rand(STEPS, 1) + 0.5
    expected, _ = theirs(inputs, timespans=elapsed)
    assert_close(ours(inputs, None, elapsed)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["default", "pure", "no_gate"])
def test_cfc(mode: str) -> None:
    """ncps connects each layer densely within itself and its time gates to everything.

    Where our wiring has no such synapse, its weight is set to zero there; the rest must agree.
    """
    torch.manual_seed(0)
    wiring = auto_ncp(SENSORY, NEURONS, MOTOR)
    ours = CfC(wiring, mode=mode)
    if mode == "pure":
        with torch.no_grad():
            ours.leak.normal_()
            ours.reversal.normal_()
    theirs = ncps.torch.CfC(SENSORY, NcpsWiring(wiring), batch_first=False, mode=mode)
    gates = ("ff1",) if mode == "pure" else ("ff1", "ff2", "time_a", "time_b")
    sensory, recurrent = ours.sensory.matrix(), ours.recurrent.matrix()
    layers = list(wiring.layer_slices.values())
    for index, layer in enumerate(layers):
        cell = theirs.rnn_cell._layers[index]
        for gate, name in enumerate(gates):
            before = sensory[:, gate] if index == 0 else recurrent[layers[index - 1], gate]
            weight = torch.cat([before[:, layer], recurrent[layer, gate, layer]])
            linear = getattr(cell, name)
            linear.weight.data = weight.T.detach().contiguous()
            linear.bias.data = ours.bias[gate, layer].detach().clone()
        if mode == "pure":
            cell.w_tau.data = ours.leak[None, layer].detach()
            cell.A.data = ours.reversal[None, layer].detach()

    inputs, elapsed = torch.randn(STEPS, 1, SENSORY), torch.rand(STEPS, 1) + 0.5
    expected, _ = theirs(inputs, timespans=elapsed)
    assert_close(ours(inputs, None, elapsed)[0], expected, rtol=1e-5, atol=1e-6)


def test_cfc_with_mixed_memory() -> None:
    """On a dense wiring, since ncps's LSTM is dense; it orders its gates otherwise."""
    torch.manual_seed(0)
    wiring = dense(SENSORY, NEURONS, NEURONS)
    ours = CfC(wiring, memory="lstm")
    theirs = ncps.torch.CfC(
        SENSORY, NEURONS, batch_first=False, mixed_memory=True, backbone_layers=0
    )
    sensory, recurrent = ours.sensory.matrix(), ours.recurrent.matrix()
    for gate, name in enumerate(("ff1", "ff2", "time_a", "time_b")):
        linear = getattr(theirs.rnn_cell, name)
        linear.weight.data = torch.cat([sensory[:, gate], recurrent[:, gate]]).T.detach()
        linear.bias.data = ours.bias[gate].detach()
    assert ours.memory is not None
    candidate_first = [2, 0, 1, 3]
    bias = ours.memory.bias.detach().clone()
    bias[1] -= 1.0  # ncps adds one to its forget gate outside of the bias
    theirs.lstm.input_map.bias.data = bias[candidate_first].flatten()
    for linear, synapses in (
        (theirs.lstm.input_map, ours.memory.sensory),
        (theirs.lstm.recurrent_map, ours.memory.recurrent),
    ):
        matrix = synapses.matrix()[:, candidate_first].flatten(1)
        linear.weight.data = matrix.T.detach()

    inputs, elapsed = torch.randn(STEPS, 1, SENSORY), torch.rand(STEPS, 1) + 0.5
    zeros = torch.zeros(1, NEURONS)
    expected, _ = theirs(inputs, (zeros, zeros), timespans=elapsed)
    assert_close(ours(inputs, None, elapsed)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("model", "layer"), [(LSTM, nn.LSTM), (GRU, nn.GRU)])
def test_baselines_are_torchs_layers_at_the_nominal_rate(model, layer) -> None:
    torch.manual_seed(0)
    ours = model(dense(SENSORY, NEURONS, NEURONS))
    theirs = layer(SENSORY, NEURONS)
    copy(ours.sensory, theirs.weight_ih_l0)
    copy(ours.recurrent, theirs.weight_hh_l0)
    bias, recurrent_bias = theirs.bias_ih_l0.data, theirs.bias_hh_l0.data
    if model is LSTM:
        ours.bias.data = (bias + recurrent_bias).view_as(ours.bias)
    else:
        gates = bias.view(3, -1).clone()
        gates[:2] += recurrent_bias.view(3, -1)[:2]
        ours.bias.data, ours.recurrent_bias.data = gates, recurrent_bias.view(3, -1)[2]
    inputs = torch.randn(STEPS, 4, SENSORY)
    with torch.no_grad():
        ours.elapsed_weight.normal_()
    assert_close(ours(inputs)[0], theirs(inputs)[0], rtol=1e-5, atol=1e-6)
    late, _ = ours(inputs, None, torch.full((STEPS, 4), 2.0))
    assert not torch.allclose(late, theirs(inputs)[0], atol=1e-3)


def copy(synapses: Synapses, weight: Tensor) -> None:
    """A torch layer's (gates * neurons, sources) weight into dense synapses."""
    by_gate = weight.detach().view(synapses.gates, -1, weight.shape[1]).transpose(1, 2)
    synapses.weight.data = by_gate.flatten(1).clone()
