"""An actor in the kernels computes what PyTorch does, and reads nothing outside of its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from liquid_control.kernels.fused import addresses
from liquid_control.kernels.passes import Layer, network_of
from liquid_control.neurons import Circuit
from liquid_control.wiring import Wiring, dense
from tests.kernels.cases import KINDS, WIRING, build
from tests.kernels.test_passes import by_autograd, each_module, layers_of

MOTOR, FEATURES = 2, 5
SECONDS = 0.07


@dataclass
class Parts:
    """An actor and what it is made of."""

    circuit: Circuit
    encoder: list[Layer]
    head: list[Layer]
    tensors: list[Tensor | None]
    within: slice
    actor: Any

    def act(self, observation: Any, state: Any, *rest: Any) -> Any:
        return self.actor.act(self.places(), observation, SECONDS, state, *rest)

    def places(self) -> Any:
        return self.actor.tensors(addresses(self.tensors))

    def by_torch(self, observation: Any, state: Any) -> tuple[Tensor, Tensor]:
        """Outputs and state, in PyTorch."""
        shift, scale = self.tensors[:2]
        seen = torch.as_tensor(observation).float()
        if shift is not None:
            seen = ((seen - shift) * scale).clamp(-2, 2)
        if self.encoder:
            seen = by_autograd(self.encoder, torch.cat([seen, torch.tensor([SECONDS / 0.1 - 1])]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.circuit, "backend", "pytorch")
            before = None if state is None else torch.as_tensor(state)
            time = torch.full((1, 1), SECONDS)
            motor, after = self.circuit(seen.view(1, 1, -1), before, time)
        return by_autograd(self.head, motor[0, 0]), after


def make(
    module: ModuleType,
    kind: str = "cfc-default",
    widths: tuple[int, ...] | None = (33,),
    outputs: int = 7,
    *,
    normalizes: bool = True,
    **options: Any,
) -> Parts:
    """An actor with random parameters; `widths` are those of the encoder's hidden layers."""
    circuit = build(kind, **options).float()
    torch.manual_seed(0)
    inputs = circuit.wiring.sensory_count
    features = inputs if widths is None else FEATURES
    encoder = (
        [] if widths is None else layers_of((features + 1, *widths, inputs), "tanh", torch.float32)
    )
    head = layers_of((MOTOR, outputs), "identity", torch.float32)
    program = circuit.program()
    mapping = circuit.output_mapping
    moments = (torch.randn(features), torch.rand(features)) if normalizes else (None, None)
    with torch.no_grad():
        within = program.parameters(circuit)
    tensors = [
        *moments,
        *(each for layer in encoder for each in layer[:2]),
        *within,
        *((None, None) if mapping is None else (mapping.gain, mapping.offset)),
        *(each for layer in head for each in layer[:2]),
        torch.linspace(-1, 0.5, outputs),
    ]
    actor = module.Actor(
        program.compile(module),
        network_of(module, encoder) if encoder else None,
        network_of(module, head),
        [0 if each is None else each.numel() for each in tensors],
        features=features,
        clip=2.0,
        time_scale=circuit.time_scale,
        nominal=0.1,
        shortest=0.01,
        longest=1.0,
        low=[-0.5] * outputs,
        high=[0.25] * outputs,
    )
    first = 2 + 2 * len(encoder)
    return Parts(circuit, encoder, head, tensors, slice(first, first + len(within)), actor)


def drawn(parts: Parts, dtype: type = np.float64) -> tuple[Any, Any]:
    """An observation and a state."""
    rng = np.random.default_rng(0)
    size = parts.circuit.wiring.sensory_count if not parts.encoder else FEATURES
    state = rng.uniform(-0.5, 0.5, (1, parts.circuit.state_size)).astype(np.float32)
    return rng.normal(size=size).astype(dtype), state


def assert_agree(parts: Parts, observation: Any, state: Any) -> Any:
    """Compare outputs and state; return the outputs."""
    found = parts.act(observation, state, False)
    for mine, theirs in zip(found, parts.by_torch(observation, state), strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs.detach(), rtol=1e-4, atol=1e-5)
    return found[0]


@each_module
@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("wiring", [WIRING, dense(3, 19, MOTOR)], ids=["sparse", "dense"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_pytorch(
    module: ModuleType, kind: str, wiring: Wiring, starts: bool
) -> None:
    mapping = "affine" if kind == "ltc" else None
    parts = make(module, kind, wiring=wiring, input_mapping=mapping)
    observation, state = drawn(parts)
    before = None if starts else state
    outputs = assert_agree(parts, observation, before)
    bounded, _ = parts.act(observation, before, True)
    np.testing.assert_array_equal(bounded, outputs.clip(-0.5, 0.25))


@each_module
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs", [1, 4, 17])
@pytest.mark.parametrize("widths", [None, (), (1,), (8, 16), (31, 65)], ids=str)
def test_every_size_agrees_with_pytorch(
    module: ModuleType, widths: tuple[int, ...] | None, outputs: int, dtype: type
) -> None:
    parts = make(module, widths=widths, outputs=outputs)
    observation, state = drawn(parts, dtype)
    assert_agree(parts, observation, state)


@each_module
@pytest.mark.parametrize("normalizes", [True, False])
@pytest.mark.parametrize("mapping", [None, "linear", "affine"])
def test_normaliser_and_mapping_are_optional(
    module: ModuleType, mapping: str | None, normalizes: bool
) -> None:
    parts = make(module, normalizes=normalizes, output_mapping=mapping)
    assert_agree(parts, *drawn(parts))


@each_module
def test_noise_is_scaled_added_and_clipped(module: ModuleType) -> None:
    parts = make(module)
    outputs = np.linspace(-0.3, 0.3, 7, dtype=np.float32)
    noise = np.linspace(1, -1, 7, dtype=np.float32)
    expected = (outputs + np.exp(parts.tensors[-1].numpy()) * noise).clip(-0.5, 0.25)
    parts.actor.perturb(parts.places(), outputs, noise)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-7)


@each_module
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_an_observation_that_is_not_finite_is_left_to_others(
    module: ModuleType, value: float
) -> None:
    parts = make(module)
    observation, state = drawn(parts)
    observation[-1] = value
    assert parts.act(observation, state, True) is None


@each_module
@pytest.mark.parametrize("seconds", [0.0, -0.07, 0.01, 1.0, np.nan, np.inf, 1e300])
def test_elapsed_times_out_of_bounds_are_left_to_others(module: ModuleType, seconds: float) -> None:
    parts = make(module)
    observation, state = drawn(parts)
    assert parts.actor.act(parts.places(), observation, seconds, state, True) is None


@each_module
def test_an_action_that_is_not_finite_is_left_to_others(module: ModuleType) -> None:
    parts = make(module)
    observation, state = drawn(parts)
    parts.tensors[-2].data[3] = torch.nan
    assert parts.act(observation, state, True) is None


@each_module
def test_other_arrays_are_left_to_others(module: ModuleType) -> None:
    parts = make(module)
    observation, state = drawn(parts)
    for other in (
        observation.astype(np.float16),
        observation.astype(">f8"),
        np.arange(FEATURES),
        np.repeat(observation, 2)[::2],
    ):
        assert parts.act(other, state, True) is None
    for other in (state.astype(np.float64), np.repeat(state, 2, axis=1)[:, ::2], [0.0], 1):
        assert parts.act(observation, other, True) is None


@each_module
@pytest.mark.parametrize("change", [-1, 1])
def test_arrays_of_another_size_are_refused(module: ModuleType, change: int) -> None:
    parts = make(module)
    observation, state = drawn(parts)
    outputs, places = np.zeros(7, np.float32), parts.places()
    with pytest.raises(ValueError, match=f"5 numbers needed, got {5 + change}"):
        parts.act(np.zeros(5 + change), state, True)
    size = state.size
    with pytest.raises(ValueError, match=f"{size} numbers needed, got {size + change}"):
        parts.act(observation, np.zeros((1, size + change), np.float32), True)
    with pytest.raises(ValueError, match="7 numbers needed"):
        parts.actor.perturb(places, np.zeros(7 + change, np.float32), outputs)
    with pytest.raises(ValueError, match="7 numbers needed"):
        parts.actor.perturb(places, outputs, np.zeros(7 + change, np.float32))
    for other in (np.zeros(7), np.zeros(14, np.float32)[::2]):
        with pytest.raises(TypeError):
            parts.actor.perturb(places, other, outputs)


@each_module
def test_missing_tensors_are_refused(module: ModuleType) -> None:
    parts = make(module)
    places = addresses(parts.tensors)
    missing = [[*places[:i], 0, *places[i + 1 :]] for i, place in enumerate(places) if place]
    for other in (*missing, places[1:], [*places, places[0]], []):
        with pytest.raises(ValueError, match="other parameter tensors"):
            parts.actor.tensors(other)


@each_module
def test_tensors_of_another_actor_are_refused(module: ModuleType) -> None:
    parts, other = make(module), make(module, outputs=8)
    observation, state = drawn(parts)
    with pytest.raises(ValueError, match="other parameter tensors"):
        parts.actor.act(other.places(), observation, SECONDS, state, True)
    with pytest.raises(ValueError, match="other parameter tensors"):
        parts.actor.perturb(other.places(), np.zeros(7, np.float32), np.zeros(7, np.float32))


@each_module
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_may_change_between_steps(module: ModuleType, kind: str) -> None:
    parts = make(module, kind)
    observation, state = drawn(parts)
    before = assert_agree(parts, observation, state)
    for scale in (0.9, 1.1):
        with torch.no_grad():
            for weight in parts.circuit.parameters():
                weight.mul_(scale)
            parts.tensors[parts.within] = parts.circuit.program().parameters(parts.circuit)
        after = assert_agree(parts, observation, state)
        assert not np.allclose(before, after)
        np.testing.assert_array_equal(parts.act(observation, state, False)[0], after)


def arguments(parts: Parts, module: ModuleType) -> dict[str, Any]:
    return {
        "circuit": parts.circuit.program().compile(module),
        "encoder": network_of(module, parts.encoder),
        "head": network_of(module, parts.head),
        "sizes": [0 if each is None else each.numel() for each in parts.tensors],
        "features": FEATURES,
        "clip": 1.0,
        "time_scale": 1.0,
        "nominal": 1.0,
        "shortest": 0.0,
        "longest": 1.0,
        "low": [],
        "high": [],
    }


@each_module
@pytest.mark.parametrize("kind", ["cfc-default", "ltc"])
def test_tensors_of_other_sizes_are_refused(module: ModuleType, kind: str) -> None:
    parts = make(module, kind)
    fitting = arguments(parts, module)
    module.Actor(**fitting)
    sizes = fitting["sizes"]
    for i, size in enumerate(sizes):
        for other in (size - 1, size + 1, 2 * size + 1):
            changed = [*sizes[:i], max(other, 0), *sizes[i + 1 :]]
            if changed != sizes and not (size == 1 and other == 0):
                with pytest.raises(ValueError, match="other parameter tensors"):
                    module.Actor(**fitting | {"sizes": changed})
    for changed in (sizes[1:], [*sizes, 1], []):
        with pytest.raises(ValueError, match="other parameter tensors"):
            module.Actor(**fitting | {"sizes": changed})


@each_module
def test_parts_that_do_not_fit_each_other_are_refused(module: ModuleType) -> None:
    parts = make(module)
    fitting = arguments(parts, module)
    wide = network_of(module, layers_of((99, 7), "identity", torch.float32))
    for changed in (
        {"encoder": None},
        {"encoder": wide},
        {"head": wide},
        {"features": 4},
        {"low": [0.0]},
        {"low": [0.0] * 7},
        {"low": [0.0] * 6, "high": [0.0] * 6},
    ):
        with pytest.raises(ValueError, match="do not fit each other"):
            module.Actor(**fitting | changed)


@each_module
def test_it_keeps_its_parts_alive(module: ModuleType) -> None:
    parts = make(module)
    observation, state = drawn(parts)
    expected = parts.act(observation, state, True)[0]
    tensors, actor, places = parts.tensors, parts.actor, parts.places()
    del parts
    found, _ = actor.act(places, observation, SECONDS, state, True)
    np.testing.assert_array_equal(found, expected)
    assert isinstance(tensors[2], nn.Parameter)
