"""Step environments with a policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from liquid_control.collectors.finite_checks import check_each, check_observation
from liquid_control.collectors.nominal_interval import seconds_of_steps
from liquid_control.collectors.transitions import Transitions
from liquid_control.policies.fused import FusedPolicy
from liquid_control.policies.liquid import LiquidPolicy
from liquid_control.policies.observations import carries_time
from liquid_control.policies.stateful import StatefulPolicy


class Step(NamedTuple):
    """One control step of every environment.

    Attributes:
        transitions: fields (num_envs, ...); rewards, ends and seconds are on the CPU, the rest on
            the policy's device.
        observation: after the step; this and the rest are as in SB3's environments.
        rewards: (num_envs,).
        dones: (num_envs,).
        infos: one for each environment.
    """

    transitions: Transitions
    observation: Any
    rewards: NDArray[np.float32]
    dones: NDArray[np.bool_]
    infos: list[dict[str, Any]]


def act(
    policy: StatefulPolicy,
    env: VecEnv,
    observation: Any,
    episode_start: NDArray[np.bool_],
    state: Tensor,
    timesteps: int,
    *,
    per_step: int | None = None,
    random_steps: int = 0,
) -> Iterator[Step]:
    """Act with a policy, and yield every control step, without end.

    Args:
        policy: in evaluation mode. Noise is drawn from PyTorch's generator.
        env: the environments.
        observation: the last one, of every environment.
        episode_start: (num_envs,), true where an episode starts with it.
        state: (num_envs, size) of the actor before it, see `StatefulPolicy`.
        timesteps: of the training, for error messages.
        per_step: timesteps of a step; None: one for each environment here.
        random_steps: number of first actions that are uniform in [-1, 1] instead of the policy's.

    Raises:
        NotFinite: an observation, an action or a reward is NaN or infinite.
        ValueError: an elapsed time is refused, see `StatefulPolicy.observe`.
    """
    number, starts = 0, torch.as_tensor(episode_start, device=state.device)
    before = policy.previous_of(state, starts)
    fused = FusedPolicy.of(policy) if isinstance(policy, LiquidPolicy) else None
    forward = policy if fused is None else fused.act
    in_one_call = fused is not None and fused.can_choose
    timed, shape = carries_time(env.observation_space), policy.action_space.shape or ()
    while True:
        acted = None
        if in_one_call and number >= random_steps:
            assert fused is not None
            tensors = obs_as_tensor(observation, state.device)
            features, elapsed_time = policy.split(tensors, *before, precision=fused.precision)
            acted = fused.choose(features, elapsed_time, state, starts)
        if acted is not None:
            actions, bounded, state = acted
            for_env = bounded.numpy().reshape(-1, *shape)
        else:
            place = max(number - 1, 0), timesteps
            features, elapsed_time = observe(policy, observation, *before, *place)
            with torch.no_grad():
                actions, state = forward(features, elapsed_time, state, starts)
                if number < random_steps:
                    actions = 2 * torch.rand_like(actions) - 1
                    state = policy.state_after(state, actions)
            for_env = policy.for_env(actions)
            check_each("actions", for_env, number, timesteps)
        observation, rewards, ended, infos = env.step(for_env)
        dones = np.asarray(ended, bool)  # some environments return numbers
        timesteps += env.num_envs if per_step is None else per_step
        check_each("rewards", rewards, number, timesteps)
        transitions = Transitions(
            features=features,
            elapsed_time=elapsed_time,
            episode_start=starts,
            actions=actions,
            rewards=torch.from_numpy(rewards.astype(np.float32)),
            ended=torch.as_tensor(dones),
            seconds=torch.from_numpy(seconds_of_steps(infos, carry_time=timed)),
        )
        yield Step(transitions, observation, rewards, dones, infos)
        starts = transitions.ended.to(state.device)
        before = features, starts
        number += 1


def observe(
    policy: StatefulPolicy,
    observation: Any,
    previous: Tensor | None,
    starts: Tensor,
    step: int | None,
    timesteps: int,
) -> tuple[Tensor, Tensor]:
    """Return features and elapsed time of finite observations.

    Arguments as in `StatefulPolicy.observe`; `step` and `timesteps` are for the error.

    Raises:
        NotFinite: an observation is NaN or infinite.
        ValueError: it has more or fewer features than its space, or see `StatefulPolicy.observe`.
    """
    check_observation(observation, step, timesteps)
    tensors = obs_as_tensor(observation, starts.device)
    features, elapsed_time = policy.observe(tensors, previous, starts)
    if features.shape[1] != policy.width:
        raise ValueError(
            f"observations must have {policy.width} features, as their space describes, got "
            f"{features.shape[1]}; check the environment's step and reset"
        )
    return features, elapsed_time
