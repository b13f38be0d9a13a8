"""LiquidPolicy: a wired circuit of liquid neurons as an SB3 actor-critic policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from liquid_control.neurons import Circuit
from liquid_control.policies.acting import ActingParts
from liquid_control.policies.distributions import make_distribution
from liquid_control.policies.masks import mask_logits
from liquid_control.policies.networks import (
    CircuitSpec,
    EncodedCircuit,
    Signal,
    TwinCritic,
    make_critic,
)
from liquid_control.policies.optimizer import RecurrentAdam
from liquid_control.policies.options import LiquidPolicyOptions, check_sizes
from liquid_control.policies.stateful import StatefulPolicy


class LiquidPolicy(StatefulPolicy):
    """Actor and critic on circuits of liquid neurons, with an observation normaliser.

    Observations are Box, Discrete, MultiDiscrete, MultiBinary or a Dict of them. The key
    `elapsed_time` of a Dict, seconds since the previous observation, drives the neurons; without it
    each step lasts one nominal interval. The key `privileged` is for the critic only, which has to
    be "twin" or "mlp" then. Actor and critic have separate convolutions for images. The key
    `action_mask` marks the discrete actions that are allowed, as in sb3-contrib's MaskablePPO. All
    action spaces of SB3's PPO are supported. All arguments except the spaces and the schedule are
    JSON-able.

    Args:
        observation_space: as in SB3.
        action_space: as in SB3.
        lr_schedule: learning rate as a function of the remaining progress, 1 to 0.
        use_sde: must be False; SB3 passes it.
        **options: those of `LiquidPolicyOptions`.

    Raises:
        TypeError: an option is unknown, or layer sizes are not a list.
        ValueError: an option has an invalid value, or the spaces are not supported.
    """

    optimizer: RecurrentAdam

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
            raise ValueError("use_sde is not supported by LiquidPolicy; leave it False")
        chosen = LiquidPolicyOptions.of(type(self).__name__, options)
        super().__init__(
            observation_space,
            action_space,
            options=chosen,
            optimizer_kwargs={"eps": 1e-5, "fused": True, **(chosen.optimizer_kwargs or {})},
        )
        motor = motor_pool(chosen.wiring, action_parameters(action_space))
        self.options = chosen = chosen.with_motor(motor)
        self.nominal_interval = chosen.nominal_interval
        features = self.observed + self.privileged
        if self.privileged and chosen.critic == "shared":
            raise ValueError(
                "a critic='shared' observes only the actor's neurons, and nothing privileged, nor "
                "a critic_history; use critic='twin' or 'mlp'"
            )
        layers = check_sizes("critic_layers", chosen.critic_layers)
        spec = CircuitSpec.of(chosen, chosen.wiring, self.images)
        twin = CircuitSpec.of(chosen, chosen.critic_wiring or chosen.wiring, self.images)

        self.actor = spec.build(self.observed, motor)
        self.critic = make_critic(chosen.critic, features, motor, self.actor_circuit, twin, layers)
        self.distribution = make_distribution(action_space)
        self.action_net, self.log_std = self._action_head(chosen.log_std_init)
        self._initialise_heads()
        circuits = self.actor_circuit.state_size + self.critic.state_size
        self.state_size = circuits + self.memory_size
        self.optimizer = self._new_optimizer(lr_schedule(1))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies, without the distribution of the last minibatch."""
        state, fresh = super().__getstate__(), make_distribution(self.action_space)
        if type(self.distribution) is type(fresh):  # not one of a subclass
            state["distribution"] = fresh
        return state

    def _new_optimizer(self, learning_rate: float) -> RecurrentAdam:
        circuits = [module for module in self.modules() if isinstance(module, Circuit)]
        lengths = [*chain.from_iterable(circuit.step_lengths() for circuit in circuits)]
        if (readout := self.actor_circuit.readout_step_length) != 1:
            lengths.append((self.action_net.get_parameter("weight"), readout))
        return RecurrentAdam(
            [weight for weight in self.parameters() if weight.requires_grad],
            chain.from_iterable(circuit.memory_synapses() for circuit in circuits),
            lengths,
            lr=learning_rate,
            **self.optimizer_kwargs,
        )

    def set_plasticity(self, plasticity: str) -> None:
        """Choose the trainable parts: "full", or "readout" for the readout layers only.

        With "readout" the circuits' synapses, and encoders before them, are frozen; output
        mappings, the action head with its deviation, and the critic's head are trained. The
        optimizer is reset. The neurons' option `plasticity` has the same effect.

        Raises:
            ValueError: it is neither of the two.
        """
        for body in self.modules():
            if isinstance(body, EncodedCircuit):
                body.set_plasticity(plasticity)
        neuron_kwargs = {**(self.options.neuron_kwargs or {}), "plasticity": plasticity}
        self.options = replace(self.options, neuron_kwargs=neuron_kwargs)
        self.optimizer = self._new_optimizer(self.optimizer.param_groups[0]["lr"])

    @property
    def actor_circuit(self) -> Circuit:
        """Return the circuit whose motor neurons act."""
        return self.actor.circuit

    def initial_actor_critic_state(self, batch_size: int) -> Tensor:
        """Return zeros for actor and critic, (batch_size, state_size)."""
        return next(self.parameters()).new_zeros(batch_size, self.state_size)

    def actor_part(self, state: Tensor) -> Tensor:
        """Return the actor's part of the state of actor and critic, for `forward`."""
        own = self._actor_state(state)
        if not self.memory_size:
            return own
        return torch.cat([own, state[:, -self.memory_size :]], dim=1)

    def _actor_state(self, state: Tensor) -> Tensor:
        """Return the state of the actor's circuit, which comes first in every state."""
        return state[:, : self.actor_circuit.state_size]

    def critic_part(self, state: Tensor) -> Tensor:
        """Return the critic's part of the state of actor and critic."""
        return state[:, self.actor_circuit.state_size :][:, : self.critic.state_size]

    def initial_actor_state(self, batch_size: int) -> Tensor:
        """Return zeros for the actor's circuit and the previous step, (batch_size, size)."""
        size = self.actor_circuit.state_size + self.memory_size
        return next(self.parameters()).new_zeros(batch_size, size)

    def forward(
        self,
        features: Tensor,
        elapsed_time: Tensor | None = None,
        state: Tensor | None = None,
        episode_start: Tensor | None = None,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Act for one control step, with the actor only.

        Args:
            features: (batch, features), from `observe`.
            elapsed_time: (batch,) seconds.
            state: (batch, size) of the actor, see `initial_actor_state`.
            episode_start: (batch,), nonzero where the state resets first.
            deterministic: take the most likely action.

        Returns:
            actions (batch, ...), and the actor's next state.

        Raises:
            TypeError: one of the first four is missing, as in agents that know no circuits.
        """
        if elapsed_time is None or state is None or episode_start is None:
            raise TypeError(
                "LiquidPolicy acts on features, elapsed_time, state and episode_start, which SB3's "
                "agents do not pass; use LiquidPPO, or LiquidExtractor in other agents"
            )
        seen = self._normalize(self._for_actor(features))
        signal = Signal(seen[None], elapsed_time[None], episode_start[None])
        activity, after = self.actor(signal, self._actor_state(state))
        motor = self.actor_circuit.readout(activity[0])
        distribution = self.distribution_of(motor, self.mask_of(features))
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self._with_memory(after, features)

    def acting_state_dict(self) -> dict[str, Tensor]:
        """Return the part of `state_dict` that acting depends on: all but the critic's."""
        weights = super().acting_state_dict()
        if type(self) is not LiquidPolicy:  # a subclass may act in another way
            return weights
        return {name: each for name, each in weights.items() if not name.startswith("critic.")}

    def acting_parts(self) -> ActingParts | None:
        """Return the parts that act; None for a subclass, which may act in another way."""
        if type(self) is not LiquidPolicy:
            return None
        return ActingParts(self.actor, self.actor.encoder, self.action_net, self.log_std)

    def actor_inputs(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        episode_start: Tensor,
        actions: Tensor,
    ) -> Signal:
        """Return the inputs of the actor's circuit; `actions` are not among them."""
        seen = self._normalize(self._for_actor(features))
        return self.actor.encode(Signal(seen, elapsed_time, episode_start))

    def evaluate_actions(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        state: Tensor,
        episode_start: Tensor,
        actions: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Evaluate actions over whole sequences with the current policy.

        Args:
            features: (time, batch, features).
            elapsed_time: (time, batch) seconds.
            state: (batch, state_size) before the first step.
            episode_start: (time, batch).
            actions: (time, batch, ...).

        Returns:
            values, log-probabilities and entropies (None where there is no closed form), each
            (time, batch), and the state after the last step.
        """
        latent, values, state = self.unroll(features, elapsed_time, state, episode_start)
        mask = self.mask_of(features.flatten(0, 1))
        distribution = self.distribution_of(latent.flatten(0, 1), mask)
        log_prob = distribution.log_prob(actions.flatten(0, 1)).view_as(values)
        entropy = distribution.entropy()
        return values, log_prob, None if entropy is None else entropy.view_as(values), state

    def predict_values(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        state: Tensor,
        episode_start: Tensor,
    ) -> Tensor:
        """Return values (time, batch) over whole sequences; arguments as in `evaluate_actions`."""
        return self.unroll(features, elapsed_time, state, episode_start)[1]

    def for_env(self, actions: Tensor) -> NDArray[Any]:
        """Return actions of the environment's space.

        Those of a Box are clipped, and rounded if it holds whole numbers; others count from the
        start of the space.
        """
        space = self.action_space
        array: NDArray[Any] = actions.cpu().numpy().reshape(-1, *space.shape)  # type: ignore[misc]
        if isinstance(space, spaces.Box):
            array = array.clip(space.low, space.high)
            return array if space.dtype.kind == "f" else np.rint(array).astype(space.dtype)
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            return array + space.start
        return array

    def unroll(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        state: Tensor,
        episode_start: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run actor and critic over sequences; arguments as in `evaluate_actions`.

        Returns:
            motor activity (time, batch, motor), values (time, batch), and the state after the last
            step.
        """
        seen = self._normalize(self.for_critic(features))
        signal = Signal(seen, elapsed_time, episode_start)
        activity, own = self.actor(self._actor_signal(signal), self._actor_state(state))
        values, of_critic = self.critic(signal, self.critic_part(state), activity)
        after = self._with_memory(torch.cat([own, of_critic], dim=1), features[-1])
        return self.actor_circuit.readout(activity), values, after

    def states(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        state: Tensor,
        episode_start: Tensor,
        length: int,
    ) -> Tensor:
        """Run actor and critic over sequences, for their states only.

        Args:
            features: (time, batch, features).
            elapsed_time: (time, batch) seconds.
            state: (batch, state_size) before the first step.
            episode_start: (time, batch).
            length: steps from one state to the next.

        Returns:
            the states before each `length` steps and after the last one, equal to those of
            `unroll`, (parts + 1, batch, state_size).
        """
        seen = self._normalize(self.for_critic(features))
        signal = Signal(seen, elapsed_time, episode_start)
        states = [self.actor.states(self._actor_signal(signal), self._actor_state(state), length)]
        if isinstance(self.critic, TwinCritic):
            states.append(self.critic.body.states(signal, self.critic_part(state), length))
        if self.memory_size:
            after = [self._memory_of(part[-1]) for part in features.split(length)]
            states.append(torch.stack([state[:, -self.memory_size :], *after]))
        return states[0] if len(states) == 1 else torch.cat(states, dim=-1)

    def _actor_signal(self, signal: Signal) -> Signal:
        return signal._replace(features=self._for_actor(signal.features))

    def distribution_of(self, motor: Tensor, mask: Tensor | None = None) -> Distribution:
        """Return the distribution of actions given motor activity (batch, motor).

        `mask`, (batch, masked), is nonzero where an action is allowed.
        """
        return self.distribution_with(self.action_net(motor), mask)

    def distribution_with(self, parameters: Tensor, mask: Tensor | None = None) -> Distribution:
        """Return the distribution of actions given its parameters (batch, ...), and a mask."""
        if mask is not None:
            parameters = mask_logits(parameters, mask, self.action_space)
        if self.log_std is None:
            return self.distribution.proba_distribution(parameters)
        return self.distribution.proba_distribution(parameters, self.log_std)

    def _action_head(self, log_std_init: float) -> tuple[nn.Module, nn.Parameter | None]:
        motor = self.actor_circuit.wiring.motor_count
        options = (
            {"log_std_init": log_std_init} if isinstance(self.action_space, spaces.Box) else {}
        )
        head: Any = self.distribution.proba_distribution_net(latent_dim=motor, **options)
        return head if isinstance(head, tuple) else (head, None)

    def _initialise_heads(self) -> None:
        """Initialise orthogonally as SB3 does; small for actions, so that they start near zero."""
        for module in (*(self.actor.encoder or ()), *self.critic.modules()):
            if isinstance(module, nn.Linear):
                self.init_weights(module, gain=2**0.5)
        self.init_weights(self.critic.head[-1], gain=1.0)
        self.init_weights(self.action_net, gain=0.01)
        for module in self.modules():
            if isinstance(module, EncodedCircuit):
                module.ignore_clock()


def motor_pool(wiring: Mapping[str, Any], parameters: int) -> int:
    """Return the number of motor neurons of a wiring that does not specify it.

    It is half of the neurons, or 32 if the wiring does not specify them, and at least one for each
    parameter of the actions. A head on few neurons learns slowly, since Adam moves its output by
    one step per neuron.
    """
    neurons = wiring.get("neurons")
    return max(parameters, int(neurons) // 2 if isinstance(neurons, Integral) else 32)


def action_parameters(space: spaces.Space[Any]) -> int:
    """Return the number of parameters of the action distribution, without deviations."""
    if isinstance(space, spaces.Box):
        return int(np.prod(space.shape))
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return int(space.nvec.sum())
    if isinstance(space, spaces.MultiBinary):
        return int(np.prod(space.shape))
    raise ValueError(
        "actions must be Box, Discrete, MultiDiscrete or MultiBinary, the third of one axis, got "
        f"{space}"
    )
