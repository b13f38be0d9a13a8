"""The parts of a policy: an encoder, the actor's circuit, and three kinds of critic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from liquid_control.neurons import NEURONS, Circuit
from liquid_control.policies.images import ImageEncoder, Images
from liquid_control.policies.options import CircuitOptions, check_sizes
from liquid_control.wiring import make_wiring


class Signal(NamedTuple):
    """The input of a circuit over time.

    Attributes:
        features: (time, batch, features).
        elapsed_time: (time, batch) seconds.
        episode_start: (time, batch), nonzero where the state resets before that step.
    """

    features: Tensor
    elapsed_time: Tensor
    episode_start: Tensor


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Return linear layers with tanh after each; `sizes` from the input to the last layer."""
    layers: list[nn.Module] = []
    for size, following in pairwise(sizes):
        layers += [nn.Linear(size, following), nn.Tanh()]
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class CircuitSpec:
    """A JSON-able description of an encoded circuit.

    Attributes:
        neurons: a name in `NEURONS`.
        wiring: arguments of `make_wiring`; sensory and motor count are filled in.
        encoder: sizes of the encoder's layers; the last one is the number of sensory neurons.
        time_scale: the circuit's unit of time in seconds, unless the options set another.
        options: further arguments of the neurons.
        images: the images among the features, if there are any.
    """

    neurons: str
    wiring: Mapping[str, Any]
    encoder: tuple[int, ...]
    time_scale: float
    options: Mapping[str, Any]
    images: Images | None = None

    @classmethod
    def of(
        cls, options: CircuitOptions, wiring: Mapping[str, Any], images: Images | None = None
    ) -> CircuitSpec:
        """Return a policy's circuit with one of its wirings."""
        return cls(
            options.neurons,
            wiring,
            check_sizes("encoder", options.encoder),
            options.nominal_interval,
            options.neuron_kwargs or {},
            images,
        )

    def build(self, features: int, motor: int) -> EncodedCircuit:
        """Build the circuit; `motor` applies only if the wiring does not specify the number."""
        if self.neurons not in NEURONS:
            raise ValueError(f"neurons must be one of {', '.join(NEURONS)}, got {self.neurons!r}")
        if self.images is not None:
            features = self.images.left(features)
        sensory = self.encoder[-1] if self.encoder else features
        wiring = make_wiring(self.wiring, sensory=sensory, motor=motor)
        if wiring.sensory_count != sensory:
            raise ValueError(
                f"the wiring has {wiring.sensory_count} sensory neurons but {sensory} signals; "
                f"end the encoder with the same number, such as encoder=[{wiring.sensory_count}]"
            )
        options = {"time_scale": self.time_scale, **self.options}
        try:
            circuit = NEURONS[self.neurons](wiring, **options)
        except TypeError as error:
            raise TypeError(f"neuron_kwargs of {self.neurons} neurons: {error}") from error
        encoder = mlp((features + 1, *self.encoder)) if self.encoder else None
        images = None if self.images is None else self.images.build()
        return EncodedCircuit(encoder, circuit, self.time_scale, images)


class EncodedCircuit(nn.Module):
    """A circuit behind an optional feed-forward encoder, whose outputs are the sensory neurons.

    The elapsed time is an input of the encoder, in addition to the features. Images are encoded by
    convolutions first.
    """

    def __init__(
        self,
        encoder: nn.Sequential | None,
        circuit: Circuit,
        time_scale: float,
        images: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        self.images = images
        self.encoder = encoder
        self.circuit = circuit
        self.time_scale = time_scale
        self._apply_plasticity()

    @torch.no_grad()
    def ignore_clock(self) -> None:
        """Let the encoder start without effect of the elapsed time.

        A training at one interval cannot change that: random weights would stay, and act at others.
        """
        if self.encoder is not None:
            first: Any = self.encoder[0]
            first.weight[:, -1] = 0.0

    def set_plasticity(self, plasticity: str) -> None:
        """Freeze the circuit and its encoders, or make them trainable; see `Circuit`."""
        self.circuit.set_plasticity(plasticity)
        self._apply_plasticity()

    def _apply_plasticity(self) -> None:
        for ahead in (self.encoder, self.images):
            if ahead is not None:
                ahead.requires_grad_(self.circuit.plasticity == "full")

    def forward(self, signal: Signal, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activity (time, batch, neurons) and the state after the last step."""
        return self.run(self.encode(signal), state)

    def states(self, signal: Signal, state: Tensor, length: int) -> Tensor:
        """Return the states before each `length` steps, and the last, (parts + 1, batch, size)."""
        states = [state]
        for part in zip(*(each.split(length) for each in self.encode(signal)), strict=True):
            states.append(self.run(Signal(*part), states[-1])[1])
        return torch.stack(states)

    def encode(self, signal: Signal) -> Signal:
        """Replace the features by the inputs of the sensory neurons."""
        return self.encode_vectors(self.encode_images(signal))

    def encode_images(self, signal: Signal) -> Signal:
        """Replace images among the features by their encodings."""
        if self.images is None:
            return signal
        return signal._replace(features=self.images(signal.features))

    def encode_vectors(self, signal: Signal) -> Signal:
        """Replace features without images by the inputs of the sensory neurons."""
        if self.encoder is None:
            return signal
        return signal._replace(features=self.encoder(with_clock(signal, self.time_scale)))

    def run(self, encoded: Signal, state: Tensor) -> tuple[Tensor, Tensor]:
        """Like `forward`, for an encoded signal."""
        inputs, elapsed_time, episode_start = encoded
        return self.circuit.activity(inputs, state, elapsed_time, episode_start)


def with_clock(signal: Signal, time_scale: float) -> Tensor:
    """Append the clock to the features."""
    return torch.cat([signal.features, clock(signal.elapsed_time, time_scale)], dim=-1)


def clock(elapsed_time: Tensor, time_scale: float) -> Tensor:
    """Return elapsed_time / time_scale - 1 as a feature: zero at the nominal interval."""
    return elapsed_time.unsqueeze(-1) / time_scale - 1


class Critic(nn.Module):
    """A recurrent value function.

    Args:
        width: number of inputs of the value head.
        layers: hidden layers of the value head.
    """

    state_size = 0

    def __init__(self, width: int, layers: Sequence[int]) -> None:
        super().__init__()
        self.head = nn.Sequential(mlp((width, *layers)), nn.Linear((width, *layers)[-1], 1))

    def forward(self, signal: Signal, state: Tensor, actor: Tensor) -> tuple[Tensor, Tensor]:
        """Return values (time, batch), and the critic's state after the last step.

        Args:
            signal: with normalised features.
            state: (batch, state_size).
            actor: the activity of the actor's circuit, (time, batch, neurons).
        """
        raise NotImplementedError


class TwinCritic(Critic):
    """A critic with its own circuit and a head on all of its neurons."""

    def __init__(self, body: EncodedCircuit, layers: Sequence[int]) -> None:
        super().__init__(body.circuit.wiring.neuron_count, layers)
        self.body = body
        self.state_size = body.circuit.state_size

    def forward(self, signal: Signal, state: Tensor, actor: Tensor) -> tuple[Tensor, Tensor]:
        """Return values given the critic's own circuit."""
        activity, state = self.body(signal, state)
        return self.head(activity).squeeze(-1), state


class SharedCritic(Critic):
    """A head on the actor's neurons, through which the value's gradient passes."""

    def __init__(self, actor: Circuit, layers: Sequence[int]) -> None:
        super().__init__(actor.wiring.neuron_count, layers)

    def forward(self, signal: Signal, state: Tensor, actor: Tensor) -> tuple[Tensor, Tensor]:
        """Return values given the actor's neurons."""
        return self.head(actor).squeeze(-1), state


class MlpCritic(Critic):
    """A feed-forward network over the observation, its elapsed time and the actor's neurons.

    The value's gradient does not pass through the actor's neurons.
    """

    def __init__(
        self,
        features: int,
        actor: Circuit,
        time_scale: float,
        layers: Sequence[int],
        images: Images | None = None,
    ) -> None:
        seen = features if images is None else images.left(features)
        super().__init__(seen + 1 + actor.wiring.neuron_count, layers)
        self.time_scale = time_scale
        self.images = None if images is None else images.build()

    def forward(self, signal: Signal, state: Tensor, actor: Tensor) -> tuple[Tensor, Tensor]:
        """Return values given the observation and the actor's neurons."""
        if self.images is not None:
            signal = signal._replace(features=self.images(signal.features))
        seen = torch.cat([with_clock(signal, self.time_scale), actor.detach()], dim=-1)
        return self.head(seen).squeeze(-1), state


def make_critic(
    kind: str, features: int, motor: int, actor: Circuit, spec: CircuitSpec, layers: Sequence[int]
) -> Critic:
    """Make a critic.

    Args:
        kind: one of `options.CRITICS`.
        features: size of an observation.
        motor: motor neurons of a twin, unless its wiring specifies them.
        actor: the actor's circuit.
        spec: how to build a twin.
        layers: hidden layers of the value head.
    """
    if kind == "twin":
        return TwinCritic(spec.build(features, motor), layers)
    if kind == "shared":
        return SharedCritic(actor, layers)
    return MlpCritic(features, actor, spec.time_scale, layers, spec.images)
