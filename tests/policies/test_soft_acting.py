"""The fused acting step of a SoftLiquidPolicy is the plain one, as in `test_acting`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from liquid_control import SoftLiquidPolicy
from liquid_control.kernels import extension
from liquid_control.policies import Controller
from tests.policies.conftest import NOMINAL, PLAIN, at, draw
from tests.policies.test_acting import (
    OBSERVATIONS,
    ODD,
    OPTIONS,
    STEPS,
    VECTOR,
    assert_same,
    outcome,
)
from tests.policies.test_soft import UNEVEN, make_soft

pytestmark = pytest.mark.skipif(extension.load() is None, reason="no compiled kernels")

HEADS: dict[str, dict[str, Any]] = {
    "shared encoder": {"encoder": [9, 7], "share_encoder": True},
    "layers of the actor": {"actor_layers": [9, 5]},
}
ACTIONS = {
    "uneven": spaces.Box(np.float32([-1.0, 0.0]), np.float32([3.0, 0.5])),
    "double precision": UNEVEN,
    "matrix": spaces.Box(-2.0, 1.0, (2, 3)),
    "many": spaces.Box(-1.0, 1.0, (20,)),
    "narrow": spaces.Box(-1e-3, 1e-3, (1,)),
}
PRIVILEGED = spaces.Dict({**VECTOR.spaces, "privileged": spaces.Box(-1.0, 1.0, (2,))})


@contextmanager
def plain() -> Iterator[None]:
    """Leave acting to PyTorch; circuits still run in the kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SoftLiquidPolicy, "fused_actor", lambda policy: None)
        yield


def lively(policy: SoftLiquidPolicy) -> SoftLiquidPolicy:
    """Draw all parameters, so that none has no effect."""
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return policy


def episode(policy: SoftLiquidPolicy, *, deterministic: bool) -> list[Any]:
    """Actions and states of a seeded episode, and the next random number."""
    torch.manual_seed(3)
    drawn = draw(policy.acting_space, STEPS, 1)
    found, state = [], None
    for step in range(STEPS):
        start = np.array([step == 3])
        action, state = policy.predict(at(drawn, step, 0), state, start, deterministic)
        found += [action, state]
    return [*found, torch.rand(1).numpy()]


def assert_agree(policy: SoftLiquidPolicy) -> None:
    """The fused actor acts, and as PyTorch does."""
    assert policy.fused_actor() is not None
    for deterministic in (True, False):
        with plain():
            expected = episode(policy, deterministic=deterministic)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SoftLiquidPolicy, "forward", None)  # PyTorch has no part in it
            found = episode(policy, deterministic=deterministic)
        assert_same(found, expected)


@pytest.mark.parametrize("options", (OPTIONS | HEADS).values(), ids=OPTIONS | HEADS)
def test_every_circuit_acts_as_in_pytorch(options: dict[str, Any]) -> None:
    assert_agree(lively(make_soft(VECTOR, **options)))


@pytest.mark.parametrize(
    "observations",
    [*OBSERVATIONS.values(), PRIVILEGED],
    ids=[*OBSERVATIONS, "privileged"],
)
@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_every_space_acts_as_in_pytorch(
    actions: spaces.Box, observations: spaces.Space[Any]
) -> None:
    wiring = {"kind": "auto_ncp", "neurons": 60}
    policy = lively(make_soft(observations, actions, encoder=[7], wiring=wiring))
    assert_agree(policy)
    found = episode(policy, deterministic=False)[:-1:2]
    assert all(actions.contains(action) for action in found)
    assert not np.allclose(found[0], episode(policy, deterministic=True)[0])


def test_the_previous_action_is_felt_until_the_episode_ends() -> None:
    policy = lively(make_soft(VECTOR))
    observation = at(draw(VECTOR, 1, 1), 0, 0)
    _, state = policy.predict(observation, deterministic=True)
    other = state.copy()
    other[:, -1] += 0.5
    for start, same in ((False, False), (True, True)):
        one, two = (
            policy.predict(observation, each, np.array([start]), deterministic=True)[0]
            for each in (state, other)
        )
        assert np.allclose(one, two) == same


@pytest.mark.parametrize("name", ["uneven", "double precision"])
@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_a_controller_acts_as_in_pytorch(observations: spaces.Space[Any], name: str) -> None:
    policy = lively(make_soft(observations, ACTIONS[name]))
    drawn = draw(observations, STEPS, 1)

    def steps() -> list[Any]:
        controller = Controller(policy)
        seen = [at(drawn, step, 0) for step in range(STEPS)]
        if isinstance(observations, spaces.Dict):
            seen = [
                {key: part for key, part in each.items() if key in controller._parts}
                for each in seen
            ]
        return [controller.step(each, NOMINAL * step**1.3) for step, each in enumerate(seen)]

    with plain():
        expected = steps()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SoftLiquidPolicy, "forward", None)
        assert_same(steps(), expected)


@pytest.mark.parametrize("given", ODD.values(), ids=ODD)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_what_is_odd_meets_what_pytorch_does_with_it(given: tuple[Any, ...]) -> None:
    features, time, *others = given
    observation = {
        "observation": features,
        "elapsed_time": np.reshape(time, np.shape(time) or (1,)).astype(np.float32),
    }
    policy = make_soft(VECTOR)
    rest = (*others, None, None)[:2]

    def call() -> Any:
        policy._without_state = False  # no warning
        return policy.predict(observation, *rest, deterministic=True)

    with plain():
        expected = outcome(call)
    assert repr(outcome(call)) == repr(expected)


def in_place(policy: SoftLiquidPolicy) -> None:
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(0.9)


def moments(policy: SoftLiquidPolicy) -> None:
    policy.normalizer.update(10 * torch.rand(9, 3))  # type: ignore[union-attr]


def another_encoder(policy: SoftLiquidPolicy) -> None:
    policy.critic.body.encoder = nn.Sequential(nn.Linear(6, 7), nn.Tanh())


def another_head(policy: SoftLiquidPolicy) -> None:
    policy.actor.head = nn.Sequential(nn.Linear(policy.actor_circuit.wiring.motor_count, 4))


@pytest.mark.parametrize("change", [in_place, moments, another_encoder, another_head])
def test_the_next_step_is_that_of_the_changed_policy(
    change: Callable[[SoftLiquidPolicy], None],
) -> None:
    policy = lively(make_soft(VECTOR, encoder=[7], share_encoder=True))
    before = episode(policy, deterministic=True)
    change(policy)
    assert_agree(policy)
    assert not np.allclose(before[0], episode(policy, deterministic=True)[0])


class Other(SoftLiquidPolicy):
    """A subclass may act in another way."""


def subclass(policy: SoftLiquidPolicy) -> None:
    policy.__class__ = Other


def hook(policy: SoftLiquidPolicy) -> None:
    policy.actor.register_forward_hook(lambda *_: None)


def pytorch(policy: SoftLiquidPolicy) -> None:
    policy.actor_circuit.backend = "pytorch"


def softplus(policy: SoftLiquidPolicy) -> None:
    policy.actor.head.append(nn.Softplus())


def double(policy: SoftLiquidPolicy) -> None:
    policy.double()


@pytest.mark.parametrize("change", [subclass, hook, pytorch, softplus, double])
def test_pytorch_does_the_rest(change: Callable[[SoftLiquidPolicy], None]) -> None:
    policy = make_soft(VECTOR)
    assert policy.fused_actor() is not None
    change(policy)
    assert policy.fused_actor() is None


def test_a_copy_acts_on_its_own() -> None:
    policy = lively(make_soft(VECTOR))
    before = episode(policy, deterministic=True)
    other = deepcopy(policy)
    in_place(policy)
    assert_same(episode(other, deterministic=True), before)
    assert other.fused_actor() is not policy.fused_actor()


def test_whole_numbers_are_left_to_pytorch() -> None:
    assert make_soft(spaces.Box(0, 9, (3,), np.int64)).fused_actor() is None
    assert make_soft(PLAIN).fused_actor() is not None
