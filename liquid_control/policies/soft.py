"""SoftLiquidPolicy: wired circuits of liquid neurons as a soft actor and its critics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.nn.functional import softplus

from liquid_control.neurons import Circuit
from liquid_control.policies.acting import ActingParts
from liquid_control.policies.networks import CircuitSpec, EncodedCircuit, Signal, mlp
from liquid_control.policies.options import SoftLiquidPolicyOptions, check_sizes
from liquid_control.policies.stateful import StatefulPolicy

LOG_STD = (-20.0, 2.0)  # range of the logarithm of the deviation, as in SB3


class SoftLiquidPolicy(StatefulPolicy):
    """A squashed Gaussian actor and several critics, on circuits of liquid neurons.

    The actor has its own circuit; a head on its motor neurons outputs mean and deviation of the
    action. The critics share another circuit (Ni et al. 2022, "Recurrent model-free RL can be a
    strong baseline"): each is a feed-forward head over that circuit's neurons, its inputs, and the
    action. The inputs of both circuits are the observation and the previous action. Actions are in
    [-1, 1], except that `predict` and `for_env` return them in the environment's bounds.

    Observations are as in `LiquidPolicy`, images included, with privileged ones for the critics
    only; the action space is a bounded Box. All arguments except the spaces and the schedule are
    JSON-able.

    Args:
        observation_space: as in SB3.
        action_space: as in SB3.
        lr_schedule: learning rate as a function of the remaining progress, 1 to 0.
        use_sde: must be False; SB3 passes it.
        **options: those of `SoftLiquidPolicyOptions`.

    Raises:
        TypeError: an option is unknown, or layer sizes are not a list.
        ValueError: an option has an invalid value, or the spaces are not supported.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        use_sde: bool = False,
        **options: Any,
    ) -> None:
        if use_sde:
            raise ValueError("use_sde is not supported by SoftLiquidPolicy; leave it False")
        if not (isinstance(action_space, spaces.Box) and action_space.is_bounded()):
            raise ValueError(f"actions must be a Box with finite bounds, got {action_space}")
        chosen = SoftLiquidPolicyOptions.of(type(self).__name__, options)
        super().__init__(
            observation_space,
            action_space,
            options=chosen,
            optimizer_kwargs={"fused": True, **(chosen.optimizer_kwargs or {})},
            squash_output=True,
        )
        self.action_size = math.prod(action_space.shape)
        features, motor = self.observed + self.privileged, 2 * self.action_size
        self.options = chosen = chosen.with_motor(motor)
        self.nominal_interval = chosen.nominal_interval
        self.share_encoder = chosen.share_encoder
        seen = features + self.action_size
        if self.privileged and chosen.share_encoder:
            raise ValueError(
                "share_encoder feeds the actor from the critics' encoder, which has privileged "
                "inputs or a critic_history; leave it False"
            )
        actor_layers = check_sizes("actor_layers", chosen.actor_layers)
        critic_layers = check_sizes("critic_layers", chosen.critic_layers)
        spec = CircuitSpec.of(chosen, chosen.wiring, self.images)
        shared = CircuitSpec.of(chosen, chosen.critic_wiring or chosen.wiring, self.images)

        if chosen.share_encoder:
            body = replace(spec, encoder=(), images=None).build(spec.encoder[-1], motor)
        else:
            body = spec.build(self.observed + self.action_size, motor)
        self.actor = SoftActor(body, actor_layers, motor)
        inputs = seen if self.images is None else self.images.left(seen)
        self.critic = SoftCritic(
            shared.build(seen, motor), inputs, self.action_size, critic_layers, chosen.n_critics
        )
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.state_size = self.actor.circuit.state_size + self.critic.circuit.state_size
        self.optimizer = self.optimizer_class(
            self._parameter_groups(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    @property
    def actor_circuit(self) -> Circuit:
        """Return the circuit whose motor neurons act."""
        return self.actor.circuit

    def initial_actor_critic_state(self, batch_size: int) -> Tensor:
        """Return zeros for both circuits, (batch_size, state_size)."""
        return next(self.parameters()).new_zeros(batch_size, self.state_size)

    def initial_actor_state(self, batch_size: int) -> Tensor:
        """Return zeros for the actor's circuit and the previous step, (batch_size, size)."""
        fresh = self.actor.circuit.initial_state(batch_size)
        return torch.cat([fresh, self.initial_previous_step(batch_size)], dim=1)

    def initial_previous_step(self, batch_size: int) -> Tensor:
        """Return zeros for the previous step, (batch_size, size)."""
        size = self.action_size + self.memory_size
        return next(self.parameters()).new_zeros(batch_size, size)

    def previous_step(self, actions: Tensor, features: Tensor) -> Tensor:
        """Return the actor's state of a step: actions (batch, actions) and features."""
        return self._with_memory(actions, features)

    def critic_part(self, state: Tensor) -> Tensor:
        """Return the critics' part of the state of both circuits (batch, state_size)."""
        return state[:, self.actor.circuit.state_size :]

    def signal(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        episode_start: Tensor,
        previous_actions: Tensor,
    ) -> Signal:
        """Return normalised features and previous actions, which are zero where an episode starts.

        Args:
            features: (time, batch, features), raw, with or without privileged ones.
            elapsed_time: (time, batch) seconds.
            episode_start: (time, batch).
            previous_actions: (time, batch, actions).
        """
        continues = (episode_start == 0).unsqueeze(-1)
        seen = torch.cat([self._normalize(features), previous_actions * continues], dim=-1)
        return Signal(seen, elapsed_time, episode_start)

    def forward(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        state: Tensor,
        episode_start: Tensor,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Act for one control step, with the actor only.

        Args:
            features: (batch, features), from `observe`.
            elapsed_time: (batch,) seconds.
            state: (batch, size) of the actor and the previous step, see `initial_actor_state`.
            episode_start: (batch,), nonzero where the state resets first.
            deterministic: take the mode of the Gaussian.

        Returns:
            actions (batch, actions) in [-1, 1], and the next state.
        """
        size = self.actor.circuit.state_size
        features, before = self._for_actor(features), state[:, size : size + self.action_size]
        now = self.signal(features[None], elapsed_time[None], episode_start[None], before[None])
        activity, after = self.actor.body.run(self._encode(now), state[:, :size])
        actions, _ = self.actor(activity[0], deterministic)
        return actions, torch.cat([after, self.previous_step(actions, features)], dim=1)

    def state_after(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return the state that `forward` returned, had it chosen other actions in [-1, 1]."""
        size = self.actor.circuit.state_size
        return torch.cat([state[:, :size], actions, state[:, size + self.action_size :]], dim=1)

    def acting_state_dict(self) -> dict[str, Tensor]:
        """Return the part of `state_dict` that acting depends on: all but the critics'."""
        weights = super().acting_state_dict()
        if type(self) is not SoftLiquidPolicy:  # a subclass may act in another way
            return weights
        body = "critic.body."
        shared = (f"{body}encoder.", f"{body}images.") if self.share_encoder else ()
        others = ("critic.", "critic_target.")
        return {
            name: each
            for name, each in weights.items()
            if name.startswith(shared) or not name.startswith(others)
        }

    def acting_parts(self) -> ActingParts | None:
        """Return the parts that act; None for a subclass, which may act in another way."""
        if type(self) is not SoftLiquidPolicy or type(self.actor) is not SoftActor:
            return None
        body, head = self.actor.body, self.actor.head
        other_body = self.critic.body if self.share_encoder else None
        encoder = body.encoder if other_body is None else other_body.encoder
        return ActingParts(body, encoder, head, squashed=True, other_body=other_body)

    def actor_inputs(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        episode_start: Tensor,
        actions: Tensor,
    ) -> Signal:
        """Return the inputs of the actor's circuit; actions in [-1, 1]."""
        previous = torch.cat([torch.zeros_like(actions[:1]), actions[:-1]])
        features = self._for_actor(features)
        return self._encode(self.signal(features, elapsed_time, episode_start, previous))

    def _encode(self, signal: Signal) -> Signal:
        """Return the inputs of the actor's sensory neurons."""
        return (self.critic if self.share_encoder else self.actor).body.encode(signal)

    def unroll(self, signal: Signal, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run both circuits over sequences.

        Args:
            signal: from `signal`, (time, batch, ...).
            state: (batch, state_size) before the first step.

        Returns:
            the activity of the actor's neurons (time, batch, neurons), what the critics' heads see
            (time, batch, size), and the state after the last step.
        """
        own, theirs = state[:, : self.actor.circuit.state_size], self.critic_part(state)
        inputs, encoded = self.critic.encode(signal)
        activity, own = self.actor.body(self._signal_of_actor(signal, encoded), own)
        seen, theirs = self.critic.run(inputs, encoded, theirs)
        return activity, seen, torch.cat([own, theirs], dim=1)

    def _signal_of_actor(self, signal: Signal, encoded: Signal) -> Signal:
        """Return the input of the actor's body, given that of both bodies and the critics'."""
        if self.share_encoder:
            return encoded._replace(features=encoded.features.detach())
        if self.privileged:
            return signal._replace(features=self.seen_by_actor(signal.features))
        return signal

    def seen_by_actor(self, features: Tensor) -> Tensor:
        """Return features of a signal without privileged ones."""
        features, actions = features.split(
            (self.observed + self.privileged, self.action_size), dim=-1
        )
        return torch.cat([self._for_actor(features), actions], dim=-1)

    def states(self, signal: Signal, state: Tensor, length: int) -> Tensor:
        """Run both circuits over sequences, for their states only; arguments as in `unroll`.

        Returns:
            the states before each `length` steps and after the last one, (parts + 1, batch,
            state_size).
        """
        own, theirs = state[:, : self.actor.circuit.state_size], self.critic_part(state)
        of_critics = self.critic.body.states(signal, theirs, length)
        encoded = self._encode(signal) if self.share_encoder else signal
        of_actor = self.actor.body.states(self._signal_of_actor(signal, encoded), own, length)
        return torch.cat([of_actor, of_critics], dim=-1)

    def for_env(self, actions: Tensor) -> NDArray[Any]:
        """Scale actions (batch, actions) from [-1, 1] to the environment's bounds and shape.

        Those of a Box of whole numbers are rounded.
        """
        space = self.action_space
        assert isinstance(space, spaces.Box)
        scaled = self.unscale_action(actions.cpu().numpy().reshape(-1, *space.shape))
        bounded = scaled.clip(space.low, space.high)
        return (bounded if space.dtype.kind == "f" else np.rint(bounded)).astype(space.dtype)

    def from_env(self, actions: NDArray[Any]) -> Tensor:
        """Scale actions (batch, ...) of the environment to [-1, 1], the inverse of `for_env`."""
        scaled = self.scale_action(actions).reshape(len(actions), -1)
        return torch.as_tensor(scaled, dtype=torch.float32, device=self.device)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return two groups: parameters of the circuits, and the rest."""
        circuits = [*self.actor.circuit.parameters(), *self.critic.circuit.parameters()]
        recurrent = {id(weight) for weight in circuits}
        rest = [weight for weight in self.parameters() if id(weight) not in recurrent]
        return [
            {"params": [weight for weight in group if weight.requires_grad]}
            for group in (circuits, rest)
        ]


def span(signal: Signal, first: int, last: int | None) -> Signal:
    """Return the steps of a signal from `first` up to `last`."""
    return Signal(*(part[first:last] for part in signal))


class SoftActor(nn.Module):
    """A circuit and a head for a squashed Gaussian (Haarnoja et al. 2018, appendix C).

    Args:
        body: the circuit.
        layers: sizes of tanh layers after the motor neurons.
        parameters: means and logarithms of deviations, two for each action.
    """

    def __init__(self, body: EncodedCircuit, layers: Sequence[int], parameters: int) -> None:
        super().__init__()
        self.body = body
        sizes = (body.circuit.wiring.motor_count, *layers)
        self.head = nn.Sequential(mlp(sizes), nn.Linear(sizes[-1], parameters))

    @property
    def circuit(self) -> Circuit:
        """Return the circuit without its encoder."""
        return self.body.circuit

    def forward(self, activity: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        """Sample actions given the neurons' activity (..., neurons), reparameterised.

        Returns:
            actions (..., actions) in [-1, 1], and their log-probabilities (...).
        """
        return self.sample(self.head(self.circuit.readout(activity)), deterministic)

    @staticmethod
    def sample(parameters: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor]:
        """Sample as in `forward`, given the outputs of the head (..., 2 actions)."""
        mean, log_std = parameters.chunk(2, dim=-1)
        if deterministic:
            return squash(mean, log_std.clamp(*LOG_STD), torch.zeros_like(mean))
        return squash(mean, log_std.clamp(*LOG_STD), torch.randn_like(mean))


def squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return actions tanh(mean + std noise) (..., actions) and their log-probabilities (...)."""
    raw = mean + log_std.exp() * noise
    # The logarithm of tanh's slope, 1 - tanh^2, in a numerically stable form.
    log_slope = 2 * (math.log(2) - raw - softplus(-2 * raw))
    density = -noise.square() / 2 - log_std - math.log(2 * math.pi) / 2
    return raw.tanh(), (density - log_slope).sum(dim=-1)


class SoftCritic(nn.Module):
    """Several value heads over one circuit's activity, its inputs, and an action.

    Args:
        body: the circuit.
        inputs: number of the body's inputs, after images are encoded.
        actions: size of an action.
        layers: sizes of each head's relu layers, at least one.
        count: number of heads.
    """

    def __init__(
        self, body: EncodedCircuit, inputs: int, actions: int, layers: Sequence[int], count: int
    ) -> None:
        super().__init__()
        self.body = body
        context = body.circuit.wiring.neuron_count + inputs

        def uniform(inputs: int, *shape: int) -> nn.Parameter:
            """Initialise as nn.Linear does."""
            return nn.Parameter(torch.empty(count, *shape).uniform_(-1, 1) * inputs**-0.5)

        self.of_context = uniform(context + actions, context, layers[0])
        self.of_actions = uniform(context + actions, actions, layers[0])
        self.first_bias = uniform(context + actions, 1, layers[0])
        self.weights = nn.ParameterList(
            uniform(size, size, after) for size, after in pairwise(layers)
        )
        self.biases = nn.ParameterList(uniform(size, 1, after) for size, after in pairwise(layers))
        self.of_value = uniform(layers[-1], 1, layers[-1])
        self.value_bias = uniform(layers[-1], 1)

    @property
    def circuit(self) -> Circuit:
        """Return the circuit without its encoder."""
        return self.body.circuit

    def tensors(self) -> list[Tensor]:
        """Return the parameters of the heads, (heads, ...) each, from the first layer to values."""
        first = [self.of_context, self.of_actions, self.first_bias]
        return [*first, *self.weights, *self.biases, self.of_value, self.value_bias]

    def encode(self, signal: Signal) -> tuple[Signal, Signal]:
        """Return the body's inputs, images encoded, and those of its sensory neurons."""
        inputs = self.body.encode_images(signal)
        return inputs, self.body.encode_vectors(inputs)

    def run(self, inputs: Signal, encoded: Signal, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the circuit over signals from `encode`.

        Returns:
            what the heads see, the neurons' activity and the inputs (time, batch, neurons +
            inputs), and the state after the last step.
        """
        activity, state = self.body.run(encoded, state)
        return torch.cat([activity, inputs.features], dim=-1), state

    def context(self, seen: Tensor) -> Tensor:
        """Return the heads' first layer without the action's share, (heads, time * batch, size).

        Args:
            seen: (time, batch, neurons + inputs), from `run`.
        """
        rows = seen.flatten(0, 1)
        return torch.baddbmm(self.first_bias, self._each(rows), self.of_context)

    def forward(self, context: Tensor, actions: Tensor, *, frozen: bool = False) -> Tensor:
        """Return values (heads, time, batch) of actions (time, batch, actions) in a context.

        With `frozen`, gradients pass to context and actions but not to the heads.
        """
        _, of_actions, _, *others = self.tensors()
        weights = [of_actions, *others]
        if frozen:
            weights = [weight.detach() for weight in weights]
        of_actions, *between, of_value, value_bias = weights
        layer = torch.baddbmm(context, self._each(actions.flatten(0, 1)), of_actions).relu_()
        half = len(between) // 2
        for weight, bias in zip(between[:half], between[half:], strict=True):
            layer = torch.baddbmm(bias, layer, weight).relu_()
        # A matrix product with a single column is several times slower.
        values: Tensor = (layer * of_value).sum(dim=-1) + value_bias
        return values.view(-1, *actions.shape[:2])

    def _each(self, rows: Tensor) -> Tensor:
        """Expand rows to every head."""
        return rows.expand(len(self.of_context), -1, -1)
