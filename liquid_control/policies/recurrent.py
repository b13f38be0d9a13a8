"""LiquidRecurrentPolicy: LiquidPolicy's circuits in the place of sb3-contrib's LSTMs."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from liquid_control.neurons import Circuit
from liquid_control.policies.liquid import LiquidPolicy
from liquid_control.policies.networks import Signal
from liquid_control.policies.observations import Observation
from liquid_control.policies.options import LiquidPolicyOptions

try:
    from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
    from sb3_contrib.common.recurrent.type_aliases import RNNStates
except ModuleNotFoundError as error:
    raise ImportError(
        'LiquidRecurrentPolicy needs sb3-contrib; pip install "liquid-control[contrib]"'
    ) from error

ARGUMENTS = tuple(
    option.name for option in fields(LiquidPolicyOptions) if option.name != "normalize_observations"
)

States = tuple[Tensor, ...]


class LiquidRecurrentPolicy(RecurrentActorCriticPolicy):
    """`LiquidPolicy` as sb3-contrib's RecurrentPPO calls it: circuits where its LSTMs were.

    The key `elapsed_time` of a Dict observation drives the neurons' clocks, as in `LiquidPolicy`.
    RecurrentPPO itself knows nothing of time: it discounts by step, and does not tell the policy
    the task's nominal interval. Nor does it tell a policy when to count observations in;
    `VecNormalize(env, norm_obs_keys=["observation"])` normalises them and leaves the time alone.

    What sb3-contrib calls the hidden state is the state of actor and critic, (1, batch, size), the
    same in `pi` and `vf`. The cell state is a copy that nobody reads.

    Args:
        observation_space: as in SB3.
        action_space: as in SB3.
        lr_schedule: learning rate as a function of the remaining progress, 1 to 0.
        use_sde: must be False; SB3 passes it.
        **arguments: those of `LiquidPolicy` but `normalize_observations`.

    Raises:
        TypeError: an argument is none of them, such as sb3-contrib's `net_arch`.
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
        # Past the parents' constructors, which build LSTMs and heads.
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
        # What RecurrentPPO and `predict` ask of the policy: how large a state is, what to log.
        size = self.liquid.state_size
        self.lstm_actor = SimpleNamespace(num_layers=1, hidden_size=size)
        self.lstm_hidden_state_shape = (1, 1, size)
        if self.liquid.log_std is not None:
            self.log_std = self.liquid.log_std

    def forward(  # type: ignore[override]  # sb3-contrib's signatures are not SB3's
        self,
        obs: Observation,
        lstm_states: RNNStates,
        episode_starts: Tensor,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, RNNStates]:
        """Act and judge; arguments as in sb3-contrib.

        Returns:
            actions (batch, ...), values (batch, 1), log-probabilities (batch,), the next states.
        """
        distribution, values, states = self._unroll(obs, lstm_states.pi, episode_starts)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        shape = self.action_space.shape or ()
        return actions.reshape(-1, *shape), values, log_prob, RNNStates(states, states)

    def get_distribution(  # type: ignore[override]
        self, obs: Observation, lstm_states: States, episode_starts: Tensor
    ) -> tuple[Distribution, States]:
        """The distribution of actions, and the next states."""
        distribution, _, states = self._unroll(obs, lstm_states, episode_starts)
        return distribution, states

    def predict_values(  # type: ignore[override]
        self, obs: Observation, lstm_states: States, episode_starts: Tensor
    ) -> Tensor:
        """Values (batch, 1)."""
        return self._unroll(obs, lstm_states, episode_starts)[1]

    def evaluate_actions(  # type: ignore[override]
        self, obs: Observation, actions: Tensor, lstm_states: RNNStates, episode_starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Judge the actions of padded sequences, one after the other in the rows of a batch.

        Returns:
            values (batch, 1), log-probabilities and entropies (batch,), None without closed form.
        """
        distribution, values, _ = self._unroll(obs, lstm_states.pi, episode_starts)
        # The buffer keeps the action space's dtype, and a Bernoulli takes no integers.
        return values, distribution.log_prob(actions.float()), distribution.entropy()

    @property
    def actor_circuit(self) -> Circuit:
        """The circuit whose motor neurons act."""
        return self.liquid.actor_circuit

    def observe(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Features and elapsed time, as in `LiquidPolicy`."""
        return self.liquid.observe(observation)

    def actor_inputs(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        episode_start: Tensor,
        actions: Tensor,
    ) -> Signal:
        """Inputs of the actor's circuit, as in `LiquidPolicy`."""
        return self.liquid.actor_inputs(features, elapsed_time, episode_start, actions)

    def _unroll(
        self, obs: Observation, states: States, episode_starts: Tensor
    ) -> tuple[Distribution, Tensor, States]:
        """Distribution and values of every row, and the states after each sequence's last."""
        features, elapsed_time = self.liquid.observe(obs)
        state = states[0].squeeze(0)

        def by_time(rows: Tensor) -> Tensor:
            return rows.view(len(state), -1, *rows.shape[1:]).transpose(0, 1)

        motor, values, state = self.liquid.unroll(
            by_time(features),
            by_time(elapsed_time),
            state,
            by_time(episode_starts),
        )
        distribution = self.liquid.distribution_of(motor.transpose(0, 1).flatten(0, 1))
        hidden = state.unsqueeze(0)
        return distribution, values.T.reshape(-1, 1), (hidden, hidden)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = self.liquid._get_constructor_parameters()
        del parameters["normalize_observations"]
        return parameters
