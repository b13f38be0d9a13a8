"""Laws that hold for every neuron model, mode and memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from liquid_control.neurons import CTRNN, LRC, LTC, CfC, Circuit
from liquid_control.wiring import Wiring, auto_ncp, dense
from tests.neurons.conftest import MOTOR, NEURONS, SENSORY

EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("batch", [3, NEURONS])
def test_batched_equals_one_sample_at_a_time(circuit: Circuit, sequence, batch: int) -> None:
    inputs, elapsed, starts = sequence(6, batch)
    state = torch.randn(batch, circuit.state_size, dtype=torch.float64)

    together, last = circuit(inputs, state, elapsed, starts)
    for b in (0, 1, batch - 1):
        one = slice(b, b + 1)
        alone, alone_last = circuit(inputs[:, one], state[one], elapsed[:, one], starts[:, one])
        assert_close(together[:, one], alone, **EXACT)
        assert_close(last[one], alone_last, **EXACT)


def test_unroll_equals_manual_steps(circuit: Circuit, sequence) -> None:
    inputs, elapsed, starts = sequence(5, 4)
    outputs, last = circuit(inputs, None, elapsed, starts)

    state = circuit.initial_state(4)
    for t in range(5):
        now = slice(t, t + 1)
        output, state = circuit(inputs[now], state, elapsed[now], starts[now])
        assert_close(output[0], outputs[t], **EXACT)
    assert_close(state, last, **EXACT)


def test_reset_in_mid_sequence_equals_fresh_state(circuit: Circuit, sequence) -> None:
    inputs, elapsed, _ = sequence(6, 2)
    starts = torch.zeros(6, 2, dtype=torch.float64)
    starts[3, 1] = 1

    outputs, last = circuit(inputs, None, elapsed, starts)
    fresh, fresh_last = circuit(inputs[3:], None, elapsed[3:])
    straight, straight_last = circuit(inputs, None, elapsed)
    assert_close(outputs[3:, 1], fresh[:, 1], **EXACT)
    assert_close(last[1], fresh_last[1], **EXACT)
    assert_close(outputs[:, 0], straight[:, 0], **EXACT)
    assert_close(last[0], straight_last[0], **EXACT)


def test_reset_lets_neither_gradient_nor_nan_through(circuit: Circuit, sequence) -> None:
    inputs, elapsed, _ = sequence(4, 1)
    starts = torch.zeros(4, 1)
    starts[2] = 1
    inputs.requires_grad_()
    outputs, _ = circuit(inputs, None, elapsed, starts)
    (gradient,) = torch.autograd.grad(outputs[2:].sum(), inputs)
    assert (gradient[:2] == 0).all()
    assert (gradient[2:] != 0).any()

    broken = inputs.detach().clone()
    broken[0] = torch.nan
    outputs, _ = circuit(broken, None, elapsed, starts)
    assert torch.isnan(outputs[0]).any()
    assert torch.isfinite(outputs[2:]).all()


def test_sequences_of_different_length_and_rate_in_one_batch(circuit: Circuit, sequence) -> None:
    """Several short episodes in a row as one sample, beside one long episode as another."""
    inputs, elapsed, _ = sequence(6, 2)
    elapsed[:, 1] *= 3
    starts = torch.zeros(6, 2)
    starts[[2, 3], 1] = 1
    outputs, _ = circuit(inputs, None, elapsed, starts)
    for first, end in ((0, 2), (2, 3), (3, 6)):
        alone, _ = circuit(inputs[first:end, 1:], None, elapsed[first:end, 1:])
        assert_close(outputs[first:end, 1:], alone, **EXACT)


def test_time_scale_is_a_unit_of_time(wiring: Wiring, sequence) -> None:
    inputs, elapsed, _ = sequence(4, 2)
    for model in (CfC, LTC, CTRNN, LRC):
        seconds = model(wiring, time_scale=0.05).double()
        scales = model(wiring, time_scale=1.0).double()
        scales.load_state_dict(seconds.state_dict())
        assert_close(seconds(inputs, None, 0.05 * elapsed)[0], scales(inputs, None, elapsed)[0])
        assert_close(
            seconds(inputs)[0], seconds(inputs, None, torch.full((4, 2), 0.05).double())[0]
        )


def test_sensation_reaches_motor_neurons_in_the_same_step(circuit: Circuit, sequence) -> None:
    inputs, elapsed, _ = sequence(1, 1)
    inputs.requires_grad_()
    outputs, _ = circuit(inputs, None, elapsed)
    for motor in range(MOTOR):
        (gradient,) = torch.autograd.grad(outputs[0, 0, motor], inputs, retain_graph=True)
        assert (gradient != 0).any()


def test_missing_synapse_has_no_parameter_and_passes_no_gradient(circuit: Circuit) -> None:
    """The state passes a gradient between two neurons exactly where the wiring has a path."""
    wiring = circuit.wiring
    inputs = torch.randn(1, 1, SENSORY, dtype=torch.float64)
    state = 0.1 * torch.randn(1, circuit.state_size, dtype=torch.float64)

    def step(inputs: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return circuit.activity(inputs, state)[0][0, 0]

    from_inputs, from_state = torch.autograd.functional.jacobian(step, (inputs, state))
    reach = _reach(circuit)
    hidden = from_state[:, 0, :NEURONS].T != 0
    assert not (hidden & ~torch.as_tensor(reach)).any()
    reached = from_inputs[:, 0, 0].T != 0
    first_synapse = wiring.sensory != 0
    allowed = torch.as_tensor((first_synapse @ reach) | first_synapse)
    assert not (reached & ~allowed).any()

    synapses = wiring.synapse_count
    for name, parameter in circuit.named_parameters():
        if "weight" in name and "elapsed" not in name:
            assert parameter.shape[-1] in (
                np.count_nonzero(wiring.sensory),
                np.count_nonzero(wiring.recurrent),
            )
            assert parameter.shape[-1] <= synapses


def _reach(circuit: Circuit) -> np.ndarray:
    """[i, j]: a path of synapses from i's last state to j's new one could exist in one step."""
    synapses = circuit.wiring.recurrent != 0
    reach = synapses | np.eye(len(synapses), dtype=bool)
    for _ in range(len(synapses)):
        reach = reach | (reach @ synapses)
    return reach


@pytest.mark.parametrize("mode", ["default", "pure", "no_gate"])
def test_cfc_neuron_uses_its_own_synapses_only(mode: str) -> None:
    """One layer: the Jacobian's pattern is the wiring, time gates included."""
    recurrent = np.zeros((4, 4), dtype=np.int8)
    recurrent[0, 1] = recurrent[1, 2] = recurrent[2, 2] = 1
    sensory = np.zeros((2, 4), dtype=np.int8)
    sensory[0, 0] = sensory[1, 3] = -1
    circuit = CfC(Wiring(sensory, recurrent, 1, (("command", 4),)), mode=mode).double()
    inputs = torch.randn(1, 1, 2, dtype=torch.float64)
    state = torch.randn(1, 4, dtype=torch.float64)
    elapsed = torch.full((1, 1), 0.7, dtype=torch.float64, requires_grad=True)

    def step(inputs: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return circuit.activity(inputs, state, elapsed)[0][0, 0]

    from_inputs, from_state = torch.autograd.functional.jacobian(step, (inputs, state))
    assert np.array_equal(from_state[:, 0].T != 0, recurrent != 0)
    assert np.array_equal(from_inputs[:, 0, 0].T != 0, sensory != 0)
    gates = 1 if mode == "pure" else 4
    assert circuit.recurrent.weight.shape == (gates, 3)
    assert circuit.sensory.weight.shape == (gates, 2)


def test_a_time_scale_is_a_number() -> None:
    for wrong in ("0.05", True, None, [0.05]):
        with pytest.raises(TypeError, match="time_scale must be a number, got"):
            CfC(dense(2, 3, 1), time_scale=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["default", "pure", "no_gate"])
def test_every_parameter_of_a_new_cfc_is_trained(mode: str) -> None:
    circuit = CfC(dense(SENSORY, NEURONS, MOTOR), mode=mode, output_mapping="affine")
    outputs, state = circuit(torch.randn(5, 8, SENSORY), None, torch.rand(5, 8))
    (outputs.square().sum() + state.square().sum()).backward()
    for name, parameter in circuit.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).all(), name


def test_gradcheck(circuit: Circuit, sequence) -> None:
    inputs, elapsed, starts = sequence(3, 2)
    state = (0.1 * torch.randn(2, circuit.state_size, dtype=torch.float64)).requires_grad_()
    inputs.requires_grad_()
    elapsed.requires_grad_()
    parameters = tuple(circuit.parameters())

    def run(*_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return circuit(inputs, state, elapsed, starts)

    assert torch.autograd.gradcheck(run, (inputs, state, elapsed, *parameters), fast_mode=True)


@pytest.mark.parametrize("together", [False, True])
def test_synapses_back_to_an_earlier_layer_carry_the_previous_step(together: bool) -> None:
    """Layers that are coupled by a synapse back are updated in order, as defined."""
    recurrent = np.zeros((3, 3), dtype=np.int8)
    recurrent[0, 1] = recurrent[1, 2] = 1
    recurrent[2, 0] = 1 if together else 0
    layers = (("inter", 1), ("command", 1), ("motor", 1))
    circuit = CfC(Wiring(np.array([[1, 0, 0]], dtype=np.int8), recurrent, 1, layers)).double()
    assert [block.recurrent for block in circuit.blocks] == ([True] if together else [False] * 3)
    inputs = torch.randn(2, 1, 1, dtype=torch.float64, requires_grad=True)
    activity, _ = circuit.activity(inputs)
    first = torch.autograd.grad(activity[1].sum(), inputs, retain_graph=True)[0][0, 0, 0]
    assert bool(first != 0) == together
    now = torch.autograd.grad(activity[0, 0, 2], inputs)[0][0, 0, 0]
    assert now != 0


def test_layers_without_recurrence_need_no_loop() -> None:
    blocks = CfC(auto_ncp(3, 12, 2)).blocks
    assert [block.recurrent for block in blocks] == [False, True, False]
    assert len(CfC(auto_ncp(3, 12, 2), memory="lstm").blocks) == 1


@pytest.mark.parametrize("model", [CfC, LTC, CTRNN, LRC])
def test_readout_plasticity_trains_the_readout_alone(model: type[Circuit], wiring: Wiring) -> None:
    circuit = model(wiring, plasticity="readout", output_mapping="affine", memory="lstm")
    trainable = {name for name, p in circuit.named_parameters() if p.requires_grad}
    assert trainable == {"output_mapping.gain", "output_mapping.offset"}


def test_a_frozen_circuit_still_passes_gradients_to_its_inputs(circuit: Circuit, sequence) -> None:
    inputs, elapsed, starts = sequence(3, 2)
    inputs.requires_grad_()
    (expected,) = torch.autograd.grad(circuit(inputs, None, elapsed, starts)[0].sum(), inputs)
    circuit.requires_grad_(False)
    (gradient,) = torch.autograd.grad(circuit(inputs, None, elapsed, starts)[0].sum(), inputs)
    assert_close(gradient, expected, **EXACT)


def test_mappings_start_as_the_identity(wiring: Wiring, sequence) -> None:
    inputs, elapsed, _ = sequence(3, 2)
    plain = CfC(wiring).double()
    mapped = CfC(wiring, input_mapping="affine", output_mapping="affine").double()
    mapped.load_state_dict(plain.state_dict(), strict=False)
    assert_close(plain(inputs, None, elapsed)[0], mapped(inputs, None, elapsed)[0])


def test_polarity_is_where_weights_start() -> None:
    wiring = dense(4, 6, 2, seed=1)
    polarity = torch.as_tensor(wiring.recurrent[wiring.recurrent != 0]).float()
    for weight in (CfC(wiring).recurrent.weight[0], CTRNN(wiring).recurrent.weight[0]):
        assert_close(weight.sign(), polarity)
    assert_close(LTC(wiring).recurrent.reversal.detach().sign(), polarity)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"inputs": (4, 2, SENSORY + 1)}, "inputs must be"),
        ({"inputs": (2, SENSORY)}, "inputs must be"),
        ({"inputs": (0, 2, SENSORY)}, "at least one step"),
        ({"state": (2, NEURONS + 1)}, "initial_state"),
        ({"elapsed_time": (4, 2, 1)}, "elapsed_time must be"),
        ({"elapsed_time": (2, 4)}, "elapsed_time must be"),
        ({"episode_start": (4,)}, "episode_start must be"),
    ],
)
def test_wrong_shapes_are_named(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    circuit = CfC(dense(SENSORY, NEURONS, MOTOR))
    arguments = {"inputs": torch.zeros(shapes.get("inputs", (4, 2, SENSORY)))}
    for name in ("state", "elapsed_time", "episode_start"):
        if name in shapes:
            arguments[name] = torch.zeros(shapes[name])
    with pytest.raises(ValueError, match=message):
        circuit(**arguments)


@pytest.mark.parametrize("name", ["inputs", "state", "elapsed_time", "episode_start"])
def test_what_is_no_tensor_is_named(name: str) -> None:
    arguments: dict[str, Any] = {"inputs": torch.zeros(4, 2, SENSORY), name: 0.05}
    with pytest.raises(TypeError, match=f"{name} must be a tensor, got 0.05; use torch.as_tensor"):
        CfC(dense(SENSORY, NEURONS, MOTOR))(**arguments)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"time_scale": 0.0}, ValueError),
        ({"time_scale": float("nan")}, ValueError),
        ({"memory": "gru"}, ValueError),
        ({"plasticity": "none"}, ValueError),
        ({"input_mapping": "cubic"}, ValueError),
        ({"ode_steps": 0}, ValueError),
        ({"ode_steps": 1.5}, TypeError),
        ({"solver": "magic"}, ValueError),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], error: type[Exception]) -> None:
    (name,) = options
    with pytest.raises(error, match=name):
        LTC(dense(2, 4, 1), **options)


def test_wrong_mode_and_wiring_are_named() -> None:
    with pytest.raises(ValueError, match="mode"):
        CfC(dense(2, 4, 1), mode="fast")
    with pytest.raises(TypeError, match="Wiring"):
        CfC("auto_ncp")


def test_empty_batch(circuit: Circuit, sequence) -> None:
    outputs, state = circuit(*[x[:, :0] if i != 1 else None for i, x in enumerate(sequence(3, 2))])
    assert outputs.shape == (3, 0, MOTOR)
    assert state.shape == (0, circuit.state_size)


@pytest.mark.parametrize("model", [CTRNN, LRC, LTC])
def test_solver_steps_are_not_changed_after_the_kernels_were_built_for_them(
    model: type[Circuit], wiring: Wiring
) -> None:
    circuit = model(wiring, ode_steps=3)
    for name, value in {"ode_steps": 1, "solver": "euler"}.items():
        with pytest.raises(AttributeError, match=name):
            setattr(circuit, name, value)
    assert (circuit.ode_steps, circuit.solver) == (3, "semi_implicit")
