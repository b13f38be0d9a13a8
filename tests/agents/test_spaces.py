"""Spaces that count from another number than zero, hold whole numbers, or are not supported."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from liquid_control import LiquidPPO, LiquidSAC
from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.export import ExportError, describe_policy

SMALL = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}


class Checked(gym.Env[Any, Any]):
    """Checks that actions are in its space; shows the values of its observations in turn."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions
        self.taken: set[bytes] = set()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.number = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.taken.add(np.asarray(action).tobytes())
        self.number += 1
        return self.observation_space.sample(), 1.0, False, self.number == 16, {}


OBSERVED = spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize(
    ("actions", "number"),
    [
        (spaces.Discrete(3, start=-1), 3),
        (spaces.MultiDiscrete([2, 3], start=[4, -7]), 6),
        (spaces.Box(-1, 1, (1,), np.int32), 3),
    ],
)
def test_actions_are_of_the_environments_space(actions: spaces.Space[Any], number: int) -> None:
    env = Checked(OBSERVED, actions)
    model = LiquidPPO("LiquidPolicy", env, **SMALL, seed=0).learn(256)
    assert len(env.taken) == number  # each of them
    action, _ = model.predict(np.zeros(2, np.float32))
    assert actions.contains(action)
    if not isinstance(actions, spaces.Box):
        with pytest.raises(ExportError, match="actions that count from"):
            describe_policy(model.policy)


def test_soft_policies_round_whole_numbers() -> None:
    actions = spaces.Box(-1, 1, (1,), np.int32)
    policy = LiquidSAC("LiquidPolicy", Checked(OBSERVED, actions)).policy
    found = policy.for_env(torch.tensor([[-0.9], [-0.4], [0.4], [0.6]]))
    assert found.dtype == np.int32
    assert found.ravel().tolist() == [-1, 0, 0, 1]


@pytest.mark.parametrize(
    ("space", "zero"),
    [
        (spaces.Discrete(4, start=3), spaces.Discrete(4)),
        (spaces.MultiDiscrete([2, 3], start=[1, -2]), spaces.MultiDiscrete([2, 3])),
    ],
)
def test_observations_count_from_the_start_of_their_space(space: Any, zero: Any) -> None:
    policies = []
    for each in (space, zero):
        torch.manual_seed(0)
        policies.append(LiquidPPO("LiquidPolicy", Checked(each, OBSERVED), **SMALL).policy)
    for _ in range(12):
        seen = space.sample()
        shifted, plain = (
            policy.predict(observation, deterministic=True, episode_start=np.ones(1, bool))[0]
            for policy, observation in zip(policies, (seen, seen - space.start), strict=True)
        )
        np.testing.assert_array_equal(shifted, plain)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict({"a": OBSERVED, "b": spaces.Tuple((OBSERVED,))}),
        spaces.Dict({"a": OBSERVED, "b": spaces.MultiDiscrete([[2, 3], [4, 5]])}),
    ],
)
@pytest.mark.parametrize("kind", [LiquidPPO, LiquidSAC])
def test_other_spaces_are_refused_at_construction(kind: Any, space: spaces.Space[Any]) -> None:
    with pytest.raises((ValueError, NotImplementedError), match=r"supported"):
        kind("LiquidPolicy", Checked(space, OBSERVED))


def test_masks_are_not_normalised() -> None:
    def make() -> Checked:
        mask = spaces.Box(0.0, 1.0, (4,))
        return Checked(spaces.Dict(observation=OBSERVED, action_mask=mask), spaces.Discrete(4))

    with pytest.raises(ValueError, match=r"action_mask must stay .*keys=\['observation'\]"):
        LiquidPPO("LiquidPolicy", VecNormalize(DummyVecEnv([make])))
    kept = VecNormalize(DummyVecEnv([make]), norm_obs_keys=["observation"])
    LiquidPPO("LiquidPolicy", kept, **SMALL)


def test_a_physics_step_is_no_control_interval() -> None:
    class Physics(Checked):
        dt = 0.001

    timed = spaces.Dict({"observation": OBSERVED, "elapsed_time": spaces.Box(0.0, 1.0, (1,))})
    env = DummyVecEnv([lambda: Physics(timed, OBSERVED)])
    with pytest.warns(UserWarning, match="has no nominal_interval"):
        assert nominal_interval(env) == 1.0
    assert nominal_interval(make_vec_env("HalfCheetah-v5", 1)) == pytest.approx(0.05)


def test_parts_of_different_numbers_are_named() -> None:
    space = spaces.Dict(first=OBSERVED, second=spaces.Discrete(3))
    model = LiquidPPO("LiquidPolicy", Checked(space, OBSERVED), **SMALL)
    observation = {"first": np.zeros((2, 2), np.float32), "second": np.zeros(1, np.int64)}
    with pytest.raises(ValueError, match="got 2 of first, 1 of second"):
        model.predict(observation)
