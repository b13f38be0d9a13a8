"""Descriptions of the acting step of policies in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from liquid_control.export.circuits import ACTIVITY, CELL, INPUTS, array, describe_circuit
from liquid_control.export.description import (
    Action,
    ArgMax,
    Assign,
    Dense,
    Description,
    ExportError,
    Map,
    Part,
    Statement,
    Sum,
    as_floats,
    flat,
)
from liquid_control.export.expressions import (
    Entry,
    Expression,
    Item,
    Scalar,
    as_expression,
    clip,
    constant,
    equal,
    exp,
    greater,
    local,
    tanh,
)
from liquid_control.neurons import NEURONS, Circuit
from liquid_control.policies import LiquidPolicy, SoftLiquidPolicy
from liquid_control.policies.compiled import layers_of
from liquid_control.policies.moments import ObservationNormalizer
from liquid_control.policies.networks import EncodedCircuit
from liquid_control.policies.observations import (
    ELAPSED_TIME,
    bounds_of_elapsed_time,
    carries_time,
)
from liquid_control.policies.soft import LOG_STD
from liquid_control.policies.stateful import StatefulPolicy

OBSERVATION, ACTION, NOISE, FEATURES = "observation", "action", "noise", "features"
PREVIOUS, MOTOR, HEAD = "previous_action", "motor", "head"
SEEN, CONTINUES = "previous_features", "continues"
ELAPSED = Scalar("elapsed_time")
LARGEST = float(np.finfo(np.float32).max)
RESERVED = {ELAPSED_TIME, "state", "episode_start", NOISE, ACTION, "next_state", MOTOR}


def describe_policy(policy: nn.Module, *, sampled: bool = False) -> Description:
    """Describe the acting step of a policy.

    Args:
        policy: a LiquidPolicy or a SoftLiquidPolicy.
        sampled: take noise as an input, and sample actions with it. Zero noise gives the most
            likely action, as without `sampled`.

    Raises:
        ExportError: a part of the policy cannot be exported; the message gives part and reason.
    """
    if type(policy) not in (LiquidPolicy, SoftLiquidPolicy):
        raise ExportError(
            f"a {type(policy).__name__} cannot be exported, a LiquidPolicy and a SoftLiquidPolicy "
            "can; a subclass may act in another way"
        )
    _refuse_hooks(policy)
    assert isinstance(policy, LiquidPolicy | SoftLiquidPolicy)
    _require_finite(policy.acting_state_dict())
    if policy.masked:
        raise ExportError(
            "a policy with the key 'action_mask' cannot be exported; train without it, or mask the "
            "actions in an environment that replaces those that are not allowed"
        )
    if getattr(policy, "images", None) is not None:
        raise ExportError(
            "a policy that observes images cannot be exported; extract features in an observation "
            "wrapper, and export the policy that takes those"
        )
    circuit = policy.actor_circuit
    action = describe_action(policy.action_space, sampled=sampled)
    parts = tuple(describe_parts(policy.acting_space))
    states = {ACTIVITY: circuit.wiring.neuron_count}
    if circuit.state_size > circuit.wiring.neuron_count:
        states[CELL] = circuit.wiring.neuron_count
    if circuit.state_size != sum(states.values()):
        raise ExportError(
            f"{type(circuit).__name__} has a state of {circuit.state_size} numbers for "
            f"{circuit.wiring.neuron_count} neurons; one or two for each can be exported"
        )
    with torch.no_grad():
        if isinstance(policy, SoftLiquidPolicy):
            states[PREVIOUS] = policy.action_size
        if policy.derivatives.size:
            states |= {SEEN: policy.observed, CONTINUES: 1}
        network = _Network(policy, parts, action)
        statements = tuple(network.statements(sampled=sampled))
    shortest, longest = bounds_of_elapsed_time(
        policy.nominal_interval, allow_any_interval=policy.options.allow_any_interval
    )
    given = {OBSERVATION, NOISE, *states}
    vectors = {
        **network.sizes,
        **_circuit_vectors(statements, {*given, *network.sizes}, circuit.wiring.neuron_count),
    }
    return Description(
        neurons=_name_of(circuit),
        parts=parts,
        action=action,
        nominal_interval=policy.nominal_interval,
        is_timed=carries_time(policy.acting_space),
        shortest=shortest,
        longest=longest,
        states=states,
        vectors=vectors,
        statements=statements,
        motor=MOTOR,
        is_sampled=sampled,
        neuron_names=circuit.wiring.neuron_names,
        policy_sha256=hash_of(policy),
    )


def hash_of(policy: StatefulPolicy) -> str:
    """Return the SHA-256 of a policy's acting weights, the same on every machine."""
    found = sha256()
    for name, tensor in sorted(policy.acting_state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)};".encode())
        found.update(tensor.detach().cpu().numpy().astype("<f8").tobytes())
    return found.hexdigest()


def describe_parts(space: spaces.Space[Any]) -> Iterator[Part]:
    """Yield the parts of observations, in the order in which the policy joins them.

    Raises:
        ExportError: a part has a name that files cannot use.
    """
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {OBSERVATION: space}
    for name, part in parts.items():
        if isinstance(space, spaces.Dict) and name == ELAPSED_TIME:
            continue
        if isinstance(space, spaces.Dict) and not name:
            raise ExportError(
                "an observation's key '' cannot be exported, because the files name their inputs; "
                "rename it in an observation wrapper"
            )
        if name in RESERVED:
            raise ExportError(
                f"the observation {name!r} cannot be exported, because the file has an input or an "
                "output of that name; rename it in an observation wrapper"
            )
        yield _describe_part(name, part)


def _describe_part(name: str, space: spaces.Space[Any]) -> Part:
    if isinstance(space, spaces.Box):
        return Part(name, "box", space.shape)
    start = getattr(space, "start", 0)
    if np.any(start):
        raise ExportError(
            f"the observation {name!r} cannot be exported, because it counts from {start}; count "
            "from 0 in an observation wrapper"
        )
    if isinstance(space, spaces.Discrete):
        return Part(name, "discrete", (), (int(space.n),))
    if isinstance(space, spaces.MultiDiscrete):
        return Part(name, "multi_discrete", space.shape, tuple(map(int, space.nvec.ravel())))
    if isinstance(space, spaces.MultiBinary):
        return Part(name, "multi_binary", space.shape)
    raise ExportError(f"the observation {name!r} cannot be exported, because it is a {space}")


def describe_action(space: spaces.Space[Any], *, sampled: bool) -> Action:
    """Describe the actions of a policy with this action space."""
    kind, noise, noise_kind = "box", 0, "normal"
    sizes: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    if isinstance(space, spaces.Box):
        if space.dtype not in (np.float32, np.float64):
            raise ExportError(
                f"actions of {space.dtype} cannot be exported, because C and ONNX return "
                "floating-point numbers; use a Box of float32"
            )
        low, high = (
            tuple(float(np.clip(bound, -LARGEST, LARGEST)) for bound in bounds.ravel())
            for bounds in (space.low, space.high)
        )
        noise = len(low)
    elif isinstance(space, spaces.Discrete):
        kind, sizes, noise, noise_kind = "discrete", (int(space.n),), int(space.n), "gumbel"
    elif isinstance(space, spaces.MultiDiscrete):
        kind, sizes = "multi_discrete", tuple(map(int, space.nvec.ravel()))
        noise, noise_kind = sum(sizes), "gumbel"
    else:
        assert isinstance(space, spaces.MultiBinary)  # policies support no other space
        kind, noise, noise_kind = "multi_binary", math.prod(space.shape), "logistic"
    assert space.shape is not None
    start = getattr(space, "start", 0)
    if np.any(start):
        raise ExportError(
            f"actions that count from {start} cannot be exported; count from 0 in an action wrapper"
        )
    return Action(kind, space.shape, sizes, low, high, noise if sampled else 0, noise_kind)


@dataclass
class _Network:
    """The statements of a policy, and the sizes of the vectors outside its circuit."""

    policy: LiquidPolicy | SoftLiquidPolicy
    parts: tuple[Part, ...]
    action: Action

    def __post_init__(self) -> None:
        policy = self.policy
        circuit = policy.actor_circuit
        self.sizes: dict[str, int] = {
            FEATURES: 0,
            INPUTS: circuit.wiring.sensory_count,
            MOTOR: circuit.wiring.motor_count,
            ACTION: self.action.size,
        }

    def statements(self, *, sampled: bool) -> Iterator[Statement]:
        policy = self.policy
        circuit = policy.actor_circuit
        yield Assign("time", ELAPSED / circuit.time_scale)
        yield from self._features()
        encoder = self._encoded_by().encoder
        self._last = FEATURES
        if encoder is not None:
            yield from self._layers("the encoder", encoder, "encoder", FEATURES)
        yield from self._inputs(Entry(self._last))
        yield from describe_circuit(circuit)
        yield from self._readout(circuit)
        if isinstance(policy, SoftLiquidPolicy):
            yield from self._squashed(policy, sampled=sampled)
        else:
            yield from self._chosen(policy, sampled=sampled)

    def _features(self) -> Iterator[Statement]:
        """Read and normalise the observation; append the previous action and the clock."""
        policy, normalizer = self.policy, self.policy.normalizer
        if type(normalizer) not in (ObservationNormalizer, type(None)):
            raise ExportError(
                f"the normaliser {type(normalizer).__name__} cannot be exported, "
                "ObservationNormalizer can"
            )
        start = index = 0
        for part in self.parts:
            width = sum(part.sizes) if part.sizes else part.size
            if part.sizes:
                first = start
                for offset, size in enumerate(part.sizes):
                    chosen = equal(
                        Item(OBSERVATION, index + offset), constant("places", np.arange(size))
                    )
                    yield Map(
                        f"{part.name}, one number for each value",
                        first,
                        first + size,
                        ((FEATURES, chosen),),
                    )
                    first += size
            else:
                raw = Entry(OBSERVATION, index - start)
                yield Map(part.name, start, start + width, ((FEATURES, raw),))
            start, index = start + width, index + part.size
        yield from self._derivatives()
        start = policy.observed
        if normalizer is not None:
            shift, scale = array(normalizer.shift)[:start], array(normalizer.scale)[:start]
            scaled = (Entry(FEATURES) - constant("shift", shift)) * constant("scale", scale)
            bounded = clip(scaled, -normalizer.clip, normalizer.clip)
            yield Map("normalised observation", 0, start, ((FEATURES, bounded),))
        if isinstance(policy, SoftLiquidPolicy):
            stop = start + policy.action_size
            yield Map("the previous action", start, stop, ((FEATURES, Entry(PREVIOUS, -start)),))
            start = stop
        body = self._encoded_by()
        if body.encoder is not None:
            clock = ELAPSED / body.time_scale - 1.0
            yield Map("the clock", start, start + 1, ((FEATURES, clock),))
            start += 1
        self.sizes[FEATURES] = start

    def _derivatives(self) -> Iterator[Statement]:
        """Yield derivatives of the features, see `policies.derivatives`, and their next state."""
        derivatives = self.policy.derivatives
        if not derivatives.size:
            return
        size, width = derivatives.observed, derivatives.width
        for number, tau in enumerate(derivatives.time_constants):
            start = size * (number + 1)
            quotient = (Entry(FEATURES, -start) - Entry(SEEN, -start)) / ELAPSED
            value: Expression = quotient
            if tau:
                new = local("quotient", quotient)
                value = new + (Entry(SEEN) - new) * exp(ELAPSED * (-1.0 / tau))
            result = ((FEATURES, Item(CONTINUES, 0) * value),)
            yield Map("derivatives of the observation", start, start + size, result)
        yield Map("for the next step", 0, width, ((SEEN, Entry(FEATURES)),))
        yield Map("for the next step", 0, 1, ((CONTINUES, as_expression(1.0)),))

    def _encoded_by(self) -> EncodedCircuit:
        """Return the encoded circuit whose encoder the actor uses."""
        policy = self.policy
        if isinstance(policy, LiquidPolicy):
            return policy.actor
        return policy.critic.body if policy.share_encoder else policy.actor.body

    def _inputs(self, signals: Expression) -> Iterator[Statement]:
        """Yield the mapped inputs of the sensory neurons."""
        mapping = self.policy.actor_circuit.input_mapping
        yield Map(
            "sensory neurons",
            0,
            self.sizes[INPUTS],
            ((INPUTS, _mapped(signals, mapping, "sensory")),),
        )

    def _readout(self, circuit: Circuit) -> Iterator[Statement]:
        first = circuit.wiring.neuron_count - circuit.wiring.motor_count
        motor = _mapped(Entry(ACTIVITY, first), circuit.output_mapping, "motor")
        yield Map("motor activity", 0, self.sizes[MOTOR], ((MOTOR, motor),))

    def _layers(
        self, title: str, network: nn.Module, name: str, source: str
    ) -> Iterator[Statement]:
        """Yield linear layers with their activations; `_last` is the vector of the last one."""
        found = layers_of([network])
        if not found:
            raise ExportError(
                f"{title} cannot be exported, because it has other modules than linear layers and "
                f"tanh: {', '.join(type(each).__name__ for each in network.modules())}"
            )
        for index, (weight, bias, activation) in enumerate(found):
            target = f"{name}_{index}"
            self.sizes[target] = len(bias)
            yield Dense(title, target, source, target, array(weight), array(bias))
            if activation == "tanh":
                yield Map(title, 0, len(bias), ((target, tanh(Entry(target))),))
            elif activation != "identity":
                raise ExportError(
                    f"{title} cannot be exported, because it has the activation {activation}; tanh "
                    "can"
                )
            source = target
        self._last = source

    def _chosen(self, policy: LiquidPolicy, *, sampled: bool) -> Iterator[Statement]:
        """Yield the action head, and the action of its distribution."""
        yield from self._layers("the action head", policy.action_net, HEAD, MOTOR)
        head = self._last
        action, logits = self.action, Entry(head)
        if action.kind == "box":
            mean: Expression = logits
            if sampled:
                assert policy.log_std is not None
                mean = mean + constant("deviation", array(policy.log_std.exp())) * Entry(NOISE)
            low, high = constant("low", action.low), constant("high", action.high)
            yield Map("the action", 0, action.size, ((ACTION, clip(mean, low, high)),))
            return
        if sampled:
            noisy = logits + Entry(NOISE)
            yield Map("noise", 0, self.sizes[head], ((head, noisy),))
        if action.kind == "multi_binary":
            yield Map("the action", 0, action.size, ((ACTION, greater(logits, 0.0)),))
            return
        start = 0
        for index, size in enumerate(action.sizes):
            yield ArgMax("the action", head, start, start + size, ACTION, index)
            start += size

    def _squashed(self, policy: SoftLiquidPolicy, *, sampled: bool) -> Iterator[Statement]:
        """Yield the head of a squashed Gaussian, whose deviations follow its means."""
        yield from self._layers("the action head", policy.actor.head, HEAD, MOTOR)
        mean: Expression = Entry(self._last)
        size = self.action.size
        if sampled:
            log_deviation = clip(Entry(self._last, size), *LOG_STD)
            mean = mean + exp(log_deviation) * Entry(NOISE)
        yield Map("the action in [-1, 1]", 0, size, ((PREVIOUS, tanh(mean)),))
        low, high = as_floats(self.action.low), as_floats(self.action.high)
        with np.errstate(over="ignore"):
            span = high - low
        if not np.isfinite(span).all():
            raise ExportError(
                "bounds of actions are too far apart for single precision; rescale the actions"
            )
        scaled = constant("low", low) + (0.5 * (Entry(PREVIOUS) + 1.0)) * constant("range", span)
        bounded = clip(scaled, constant("low", low), constant("high", high))
        yield Map("the action", 0, size, ((ACTION, bounded),))


def _mapped(value: Expression, mapping: Any, name: str) -> Expression:
    if mapping is None:
        return value
    scaled = value * constant(f"{name}_gain", array(mapping.gain))
    if mapping.offset is None:
        return scaled
    return scaled + constant(f"{name}_offset", array(mapping.offset))


def _circuit_vectors(
    statements: Iterable[Statement], known: set[str], neurons: int
) -> Mapping[str, int]:
    """Return the circuit's vectors without a size yet, with one entry per neuron."""
    written = {
        name
        for _, each in flat(tuple(statements))
        for name in (
            each.targets
            if isinstance(each, Sum)
            else [target for target, _ in each.results]
            if isinstance(each, Map)
            else []
        )
    }
    return dict.fromkeys(sorted(written - known), neurons)


def _require_finite(weights: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        if wrong := tensor.numel() - int(tensor.isfinite().sum()):
            raise ExportError(
                f"{name} of the policy cannot be exported: {wrong} of its {tensor.numel()} "
                "numbers are not finite; export an earlier checkpoint"
            )


def _refuse_hooks(policy: nn.Module) -> None:
    for name, module in policy.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise ExportError(
                f"{name or 'the policy'} has hooks, which cannot be exported; remove them first"
            )


def _name_of(circuit: Circuit) -> str:
    return next(name for name, kind in NEURONS.items() if kind is type(circuit))
