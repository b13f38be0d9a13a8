"""What is told of a rollout afterwards, against living through every episode step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from liquid_control import LiquidPolicy
from liquid_control.agents.rollout import (
    EpisodeEnd,
    bootstrap_values,
    evaluate_rollout,
    find_episode_ends,
)
from liquid_control.agents.sequences import SequenceBuffer
from tests.policies.conftest import ACTIONS, NOMINAL, make_policy

STEPS, LENGTH, ENVS = 24, 8, 5
SPACE = spaces.Dict(
    {
        "observation": spaces.Box(-np.inf, np.inf, (3,)),
        "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
    }
)


class Life:
    """A random rollout in which a third of the steps end an episode, and what the policy makes of
    it when asked one step at a time.
    """

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
        self.buffer = SequenceBuffer(STEPS, LENGTH)
        self.steps: list[dict[str, torch.Tensor]] = []
        self.values = torch.empty(STEPS + 1, ENVS)
        self.led_to = torch.zeros(STEPS, ENVS)  # the value of what came next, wherever it counts
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
            step = {
                "features": features[t],
                "elapsed_time": elapsed[t],
                "episode_start": starts[t],
                "actions": torch.randn(ENVS, 2),
                "ended": ended[t],
            }
            self.steps.append(step)
            self.buffer.add(**step)
            for env in torch.nonzero(ended[t]).flatten().tolist():
                self._end(policy, t, env, state[env : env + 1])
        following = torch.where(ended, 0.0, self.values[1:])
        self.led_to += following

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
def test_it_is_what_living_step_by_step_tells(critic: str, neurons: str) -> None:
    policy = make_policy(SPACE, ACTIONS["box"], critic=critic, neurons=neurons)
    life = Life(policy)
    rollout = life.buffer
    after = evaluate_rollout(policy, rollout, life.first_state)
    bootstrap_values(policy, rollout, after, *life.now, life.ends)

    near: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
    assert_close(after, life.states[-1], **near)
    assert_close(rollout.states, life.states[:-1:LENGTH], **near)
    assert_close(rollout["values"], life.values[:-1], **near)
    assert_close(rollout["next_values"], life.led_to, **near)
    assert_close(rollout["duration"], life.duration, **near)
    assert torch.equal(rollout["terminated"], rollout["ended"] & ~life.truncated)
    assert life.truncated[: LENGTH - 1].any()


def test_part_of_a_rollout_brings_the_state_along() -> None:
    policy = make_policy(SPACE)
    whole = Life(policy)
    for count in (0, 1, LENGTH, LENGTH + 3):
        part = SequenceBuffer(STEPS, LENGTH)
        for step in whole.steps[:count]:
            part.add(**step)
        assert_close(evaluate_rollout(policy, part, whole.first_state), whole.states[count])


def test_endings_are_read_from_what_sb3_tells() -> None:
    infos = [
        {"terminal_observation": 1.0},
        {"TimeLimit.truncated": False},
        {"TimeLimit.truncated": True, "terminal_observation": 2.0},
    ]
    found = find_episode_ends(7, np.array([True, False, True]), infos)
    assert found == [EpisodeEnd(7, 0, False, 1.0), EpisodeEnd(7, 2, True, 2.0)]
