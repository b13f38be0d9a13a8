"""A finished rollout equals every episode unrolled step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from liquid_control import LiquidPolicy
from liquid_control.agents.returns import ReturnNormalizer
from liquid_control.agents.rollout import finish_rollout, states_of, unroll_sequences
from liquid_control.collectors.transitions import EpisodeEnd, Transitions, find_episode_ends
from liquid_control.storage.sequences import Rollout
from tests.policies.conftest import ACTIONS, NOMINAL, make_policy

STEPS, LENGTH, ENVS = 24, 8, 5
SPACE = spaces.Dict(
    {
        "observation": spaces.Box(-np.inf, np.inf, (3,)),
        "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
    }
)


class SteppedRollout:
    """A random rollout in which a third of the steps end an episode, unrolled step by step."""

    def __init__(self, policy: LiquidPolicy) -> None:
        torch.manual_seed(1)
        rng = np.random.default_rng(0)
        ended = torch.as_tensor(rng.random((STEPS, ENVS)) < 1 / 3)
        ended[-1, 0], ended[-1, 1] = True, False
        self.truncated = ended & torch.as_tensor(rng.random((STEPS, ENVS)) < 1 / 2)
        features = torch.randn(STEPS + 1, ENVS, 3)
        elapsed = NOMINAL * (0.5 + torch.rand(STEPS + 1, ENVS))
        starts = torch.cat([torch.tensor([[True, False, True, False, False]]), ended])
        self.first_state = state = torch.randn(ENVS, policy.state_size)
        self.ends: list[EpisodeEnd] = []
        self.values = torch.empty(STEPS + 1, ENVS)
        self.led_to = torch.zeros(STEPS, ENVS)  # values of the observations that followed
        self.duration = elapsed[1:] / NOMINAL
        self.states = []
        self.now = features[-1], elapsed[-1]
        nothing = torch.zeros(1, ENVS, 2)
        for t in range(STEPS + 1):
            self.states.append(state)
            seen = features[t : t + 1], elapsed[t : t + 1], state, starts[t : t + 1]
            with torch.no_grad():
                value, _, _, state = policy.evaluate_actions(*seen, nothing)
            self.values[t] = value[0]
            if t == STEPS:
                break
            for env in torch.nonzero(ended[t]).flatten().tolist():
                self._end(policy, t, env, state[env : env + 1])
        self.led_to += torch.where(ended, 0.0, self.values[1:])
        self.transitions = Transitions(
            features=features[:-1],
            elapsed_time=elapsed[:-1],
            episode_start=starts[:-1],
            actions=torch.randn(STEPS, ENVS, 2),
            rewards=torch.randn(STEPS, ENVS),
            ended=ended,
            seconds=torch.full((STEPS, ENVS), torch.nan),
        )

    def _end(self, policy: LiquidPolicy, step: int, env: int, state: torch.Tensor) -> None:
        elapsed, last = torch.full((1, 1), NOMINAL * (1 + step)), torch.randn(1, 1, 3)
        truncated = bool(self.truncated[step, env])
        if truncated:
            with torch.no_grad():
                value = policy.predict_values(last, elapsed, state, torch.zeros(1, 1))
            self.led_to[step, env] = value.item()
        else:
            last[:] = torch.nan  # must not count
        observation = {"observation": last[0, 0].numpy(), "elapsed_time": elapsed[0].numpy()}
        self.ends.append(EpisodeEnd(step, env, truncated, observation))
        self.duration[step, env] = 1 + step


@pytest.mark.parametrize("neurons", ["cfc", "lstm"])  # with and without memory beside activity
@pytest.mark.parametrize("critic", ["twin", "shared", "mlp"])
def test_it_equals_the_episodes_unrolled_step_by_step(critic: str, neurons: str) -> None:
    policy = make_policy(SPACE, ACTIONS["box"], critic=critic, neurons=neurons)
    stepped = SteppedRollout(policy)
    states = states_of(policy, stepped.transitions, stepped.first_state, LENGTH)
    rollout = finish(policy, stepped)

    near: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
    assert_close(states, torch.stack(stepped.states[::LENGTH]), **near)
    assert_close(rollout.values, stepped.values[:-1], **near)
    assert_close(rollout.next_values, stepped.led_to, **near)
    assert_close(rollout.duration, stepped.duration, **near)
    assert torch.equal(rollout.terminated, stepped.transitions.ended & ~stepped.truncated)
    assert stepped.truncated[: LENGTH - 1].any()
    assert_close(rollout.returns, rollout.advantages + rollout.values)


def finish(policy: LiquidPolicy, stepped: SteppedRollout, **options: Any) -> Rollout:
    states = states_of(policy, stepped.transitions, stepped.first_state, LENGTH)
    unrolled = unroll_sequences(policy, stepped.transitions, states)
    options = {"gamma": 0.9, "gae_lambda": 0.8, "return_normalizer": None} | options
    return finish_rollout(
        policy,
        stepped.transitions,
        unrolled,
        *stepped.now,
        stepped.ends,
        length=LENGTH,
        timesteps=0,
        **options,
    )


def test_advantages_with_lambda_zero_are_temporal_differences() -> None:
    policy = make_policy(SPACE)
    stepped = SteppedRollout(policy)
    rollout = finish(policy, stepped, gae_lambda=0.0)
    target = stepped.transitions.rewards + 0.9**rollout.duration * rollout.next_values
    assert_close(rollout.returns, target)


def test_rewards_are_scaled_by_the_normalizer() -> None:
    policy, normalizer = make_policy(SPACE), ReturnNormalizer()
    stepped = SteppedRollout(policy)
    scaled = finish(policy, stepped, gae_lambda=0.0, return_normalizer=normalizer)
    assert normalizer.count == STEPS * ENVS
    change = scaled.returns - finish(policy, stepped, gae_lambda=0.0).returns
    expected = stepped.transitions.rewards * (torch.rsqrt(normalizer.variance) - 1)
    assert_close(change, expected.float(), rtol=1e-3, atol=1e-4)


def test_states_reach_to_the_end_of_a_part_of_a_rollout() -> None:
    policy = make_policy(SPACE)
    whole = SteppedRollout(policy)
    for count in (1, LENGTH, LENGTH + 3):
        part = Transitions(*(column[:count] for column in whole.transitions))
        states = states_of(policy, part, whole.first_state, LENGTH)
        assert_close(states[-1], whole.states[count])


def test_episode_ends_are_read_from_the_infos_of_sb3() -> None:
    infos = [
        {"terminal_observation": 1.0},
        {"TimeLimit.truncated": False},
        {"TimeLimit.truncated": True, "terminal_observation": 2.0},
    ]
    found = find_episode_ends(7, np.array([True, False, True]), infos)
    assert found == [EpisodeEnd(7, 0, False, 1.0), EpisodeEnd(7, 2, True, 2.0)]
