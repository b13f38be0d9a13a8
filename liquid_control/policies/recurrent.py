"""LiquidRecurrentPolicy: LiquidPolicy for sb3-contrib's RecurrentPPO."""

from __future__ import annotations

import warnings
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from liquid_control.neurons import Circuit
from liquid_control.policies.liquid import LiquidPolicy
from liquid_control.policies.networks import Signal
from liquid_control.policies.observations import (
    Observation,
    carries_time,
    check_structure,
    privileged_count,
)
from liquid_control.policies.options import LiquidPolicyOptions

try:
    from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
    from sb3_contrib.common.recurrent.type_aliases import RNNStates
except ModuleNotFoundError as error:
    raise ImportError(
        'LiquidRecurrentPolicy needs sb3-contrib; pip install "liquid-control[contrib]"'
    ) from error

LEFT_OUT = ("normalize_observations", "derivatives", "critic_history")
ARGUMENTS = tuple(
    option.name for option in fields(LiquidPolicyOptions) if option.name not in LEFT_OUT
)

States = tuple[Tensor, ...]


class LiquidRecurrentPolicy(RecurrentActorCriticPolicy):
    """`LiquidPolicy` with the interface of sb3-contrib's RecurrentPPO: circuits replace its LSTMs.

    The key `elapsed_time` of a Dict observation drives the neurons, as in `LiquidPolicy`.
    RecurrentPPO discounts by step and does not pass the task's nominal interval to the policy; set
    `nominal_interval` in `policy_kwargs`. Observations are normalised by
    `VecNormalize(env, norm_obs_keys=["observation"])`, which leaves the elapsed time unchanged.

    sb3-contrib's hidden state is the state of actor and critic, (1, batch, size), the same in `pi`
    and `vf`. Its cell state is an unused copy.

    Args:
        observation_space: as in SB3.
        action_space: as in SB3.
        lr_schedule: learning rate as a function of the remaining progress, 1 to 0.
        use_sde: must be False; SB3 passes it.
        **arguments: those of `LiquidPolicy` except `normalize_observations` and `derivatives`.

    Raises:
        TypeError: an argument is unknown, such as sb3-contrib's `net_arch`.
        ValueError: as in `LiquidPolicy`.
    """

    lstm_actor: Any

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        use_sde: bool = False,
        **arguments: Any,
    ) -> None:
        if unknown := sorted(arguments.keys() - set(ARGUMENTS)):
            raise TypeError(
                f"LiquidRecurrentPolicy takes no {', '.join(unknown)}; describe its circuits by "
                f"{', '.join(ARGUMENTS)}, and normalise observations with VecNormalize"
            )
        if privileged_count(observation_space):
            raise ValueError(
                "the observation has a key 'privileged', for critics only, and RecurrentPPO acts "
                "with actor and critic; use LiquidPPO, or leave it out"
            )
        if np.any(getattr(action_space, "start", 0)):
            raise ValueError(
                f"RecurrentPPO counts actions from 0, and those of {action_space} start elsewhere; "
                "use LiquidPPO, or a space that starts at 0"
            )
        if carries_time(observation_space) and "nominal_interval" not in arguments:
            warnings.warn(
                "observations carry elapsed_time, and the circuits' unit of time is taken as 1 "
                "second; set nominal_interval in policy_kwargs, such as "
                "env.get_attr('nominal_interval')[0]",
                stacklevel=2,
            )
        # Skips the parents' constructors, which build LSTMs and heads.
        super(ActorCriticPolicy, self).__init__(observation_space, action_space)
        self.liquid = LiquidPolicy(
            observation_space,
            action_space,
            lr_schedule,
            use_sde=use_sde,
            normalize_observations=False,
            **arguments,
        )
        self.optimizer = self.liquid.optimizer
        # RecurrentPPO and `predict` read the size of the state and the deviation to log.
        size = self.liquid.state_size
        self.lstm_actor = SimpleNamespace(num_layers=1, hidden_size=size)
        self.lstm_hidden_state_shape = (1, 1, size)
        if self.liquid.log_std is not None:
            self.log_std = self.liquid.log_std

    def forward(  # type: ignore[override]  # sb3-contrib's signatures are not SB3's
        self,
        obs: Observation,
        lstm_states: RNNStates | None = None,
        episode_starts: Tensor | None = None,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, RNNStates]:
        """Act and evaluate; arguments as in sb3-contrib.

        Returns:
            actions (batch, ...), values (batch, 1), log-probabilities (batch,), the next states.

        Raises:
            TypeError: states or episode starts are missing, as in SB3's PPO.
        """
        if lstm_states is None or episode_starts is None:
            raise TypeError(
                "LiquidRecurrentPolicy acts on states and episode_starts, which SB3's agents do "
                "not pass; use sb3_contrib's RecurrentPPO, or LiquidPPO"
            )
        observed = self.observe(obs)
        distribution, values, states = self._unroll(observed, lstm_states.pi, episode_starts)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        shape = self.action_space.shape or ()
        return actions.reshape(-1, *shape), values, log_prob, RNNStates(states, states)

    def get_distribution(  # type: ignore[override]
        self, obs: Observation, lstm_states: States, episode_starts: Tensor
    ) -> tuple[Distribution, States]:
        """Return the distribution of actions, and the next states."""
        distribution, _, states = self._unroll(self.observe(obs), lstm_states, episode_starts)
        return distribution, states

    def predict_values(  # type: ignore[override]
        self, obs: Observation, lstm_states: States, episode_starts: Tensor
    ) -> Tensor:
        """Return values (batch, 1)."""
        return self._unroll(self.observe(obs), lstm_states, episode_starts)[1]

    def evaluate_actions(  # type: ignore[override]
        self, obs: Observation, actions: Tensor, lstm_states: RNNStates, episode_starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Evaluate actions of padded sequences, one after the other in the rows of a batch.

        Returns:
            values (batch, 1), log-probabilities and entropies (batch,), None without closed form.
        """
        observed = self.liquid.split(obs)  # the elapsed time of padding is zero
        distribution, values, _ = self._unroll(observed, lstm_states.pi, episode_starts)
        # The buffer has the action space's dtype, and a Bernoulli takes no integers.
        return values, distribution.log_prob(actions.float()), distribution.entropy()

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[np.float32], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[np.float32], ...] | None]:
        """Act as in sb3-contrib; warn once if the state is missing, as in `LiquidPolicy`."""
        self.liquid.watch_state(state, episode_start)
        return super().predict(observation, state, episode_start, deterministic)

    def obs_to_tensor(self, observation: Any) -> tuple[Observation, bool]:
        """Convert an observation to tensors, as in `LiquidPolicy`."""
        check_structure(observation, self.observation_space)
        return super().obs_to_tensor(observation)

    @property
    def actor_circuit(self) -> Circuit:
        """Return the circuit whose motor neurons act."""
        return self.liquid.actor_circuit

    def observe(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Return features and elapsed time, as in `LiquidPolicy`."""
        return self.liquid.observe(observation)

    def actor_inputs(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        episode_start: Tensor,
        actions: Tensor,
    ) -> Signal:
        """Return the inputs of the actor's circuit, as in `LiquidPolicy`."""
        return self.liquid.actor_inputs(features, elapsed_time, episode_start, actions)

    def _unroll(
        self, observed: tuple[Tensor, Tensor], states: States, episode_starts: Tensor
    ) -> tuple[Distribution, Tensor, States]:
        """Return distribution and values of every row, and the states after each sequence."""
        features, elapsed_time = observed
        state = states[0].squeeze(0)

        def by_time(rows: Tensor) -> Tensor:
            return rows.view(len(state), -1, *rows.shape[1:]).transpose(0, 1)

        motor, values, state = self.liquid.unroll(
            by_time(features),
            by_time(elapsed_time),
            state,
            by_time(episode_starts),
        )
        rows = motor.transpose(0, 1).flatten(0, 1)
        distribution = self.liquid.distribution_of(rows, self.liquid.mask_of(features))
        hidden = state.unsqueeze(0)
        return distribution, values.T.reshape(-1, 1), (hidden, hidden)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = self.liquid._get_constructor_parameters()
        return {name: each for name, each in parameters.items() if name not in LEFT_OUT}
