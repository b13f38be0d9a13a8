"""Masks of actions: the same probabilities as sb3-contrib's, and none for what is not allowed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import make_masked_proba_distribution
from torch.testing import assert_close

from liquid_control.policies.masks import check_mask, choices, mask_logits
from tests.policies.conftest import ACTIONS, PLAIN, make_policy

pytestmark = pytest.mark.filterwarnings("ignore:predict is called without a state")

DISCRETE = {name: space for name, space in ACTIONS.items() if not isinstance(space, spaces.Box)}
BATCH = 40


def masked(actions: spaces.Space[Any]) -> spaces.Dict:
    return spaces.Dict({"observation": PLAIN, "action_mask": spaces.MultiBinary(choices(actions))})


def drawn(actions: spaces.Space[Any], rows: int = BATCH) -> torch.Tensor:
    """Random masks (rows, size) with at least one allowed action of each part."""
    torch.manual_seed(0)
    mask = torch.rand(rows, choices(actions)) < 0.5
    for part in mask.split(sizes(actions), dim=1):
        part[torch.arange(rows), torch.randint(part.shape[1], (rows,))] = True
    return mask


def sizes(actions: spaces.Space[Any]) -> list[int]:
    if isinstance(actions, spaces.Discrete):
        return [int(actions.n)]
    if isinstance(actions, spaces.MultiDiscrete):
        return actions.nvec.tolist()
    return [2] * int(actions.n)


@pytest.mark.parametrize("kind", DISCRETE)
def test_probabilities_are_those_of_sb3_contrib(kind: str) -> None:
    actions = DISCRETE[kind]
    mask = drawn(actions)
    policy = make_policy(masked(actions), actions)
    logits = torch.randn(BATCH, policy.action_net.out_features, requires_grad=True)
    ours = policy.distribution_with(logits, mask.float())
    theirs = make_masked_proba_distribution(actions)
    given = logits
    if kind == "multi-binary":  # theirs has a logit for off, and one for on
        given = torch.stack([torch.zeros_like(logits), logits], dim=-1).flatten(1)
    theirs.proba_distribution(given)
    theirs.apply_masking(mask.numpy())

    chosen = ours.get_actions()
    assert_close(ours.log_prob(chosen), theirs.log_prob(chosen), atol=1e-5, rtol=1e-5)
    assert_close(ours.entropy(), theirs.entropy(), atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad((ours.log_prob(chosen) + ours.entropy()).sum(), logits)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("kind", DISCRETE)
def test_what_is_not_allowed_is_never_done(kind: str) -> None:
    actions = DISCRETE[kind]
    mask = drawn(actions)
    policy = make_policy(masked(actions), actions)
    observation = {
        "observation": np.random.default_rng(0).normal(size=(BATCH, 3)).astype(np.float32),
        "action_mask": mask.numpy().astype(np.int8),
    }
    starts = np.ones(BATCH, bool)
    for deterministic in (True, *[False] * 20):
        chosen, _ = policy.predict(observation, None, starts, deterministic)
        for row, part in zip(mask, chosen.reshape(BATCH, -1), strict=True):
            assert all(
                allowed[int(choice)]
                for allowed, choice in zip(row.split(sizes(actions)), part, strict=True)
            )


@pytest.mark.parametrize("kind", DISCRETE)
def test_a_mask_that_allows_everything_changes_nothing(kind: str) -> None:
    actions = DISCRETE[kind]
    logits = torch.randn(5, make_policy(PLAIN, actions).action_net.out_features)
    everything = torch.ones(5, choices(actions))
    assert torch.equal(mask_logits(logits, everything, actions), logits)
    policy = make_policy(masked(actions), actions)
    plain = make_policy(PLAIN, actions)
    observation = np.ones((2, 3), np.float32)
    expected, _ = plain.predict(observation, deterministic=True)
    with pytest.warns(UserWarning, match="predict got no action mask"):
        inside, _ = policy.predict({"observation": observation}, deterministic=True)
    with warnings.catch_warnings(action="error", category=UserWarning):  # once
        beside, _ = policy.predict(observation, episode_start=np.ones(2, bool), deterministic=True)
    np.testing.assert_array_equal(inside, expected)
    np.testing.assert_array_equal(beside, expected)


def test_masks_are_given_by_the_observation_or_beside_it() -> None:
    actions = DISCRETE["discrete"]
    policy = make_policy(masked(actions), actions)
    observation, mask = np.ones(3, np.float32), np.array([False, False, True, False])
    inside, _ = policy.predict({"observation": observation, "action_mask": mask.astype(np.int8)})
    beside, _ = policy.predict(observation, action_masks=mask)
    batch, _ = policy.predict(observation[None], action_masks=mask[None])
    assert inside == beside == batch[0] == 2


def test_masks_are_not_seen_by_the_neurons() -> None:
    """A mask changes what is allowed, and neither state nor value."""
    actions = DISCRETE["discrete"]
    policy = make_policy(masked(actions), actions, critic="mlp")
    features = torch.randn(6, 2, 7)
    elapsed, starts = torch.full((6, 2), 0.05), torch.zeros(6, 2)
    state = policy.initial_actor_critic_state(2)
    others = features.clone()
    others[..., 3:] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    features[..., 3:] = 1.0
    for found, expected in zip(
        policy.unroll(features, elapsed, state, starts),
        policy.unroll(others, elapsed, state, starts),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_a_mask_that_allows_nothing_is_refused() -> None:
    actions = DISCRETE["multi-discrete"]
    mask = torch.ones(3, 5)
    mask[1, 2:] = 0
    with pytest.raises(ValueError, match="row 1 of 3 allows no action of part 1"):
        check_mask(mask, actions)
    policy = make_policy(masked(actions), actions)
    with pytest.raises(ValueError, match="allows no action of part 0"):
        policy.predict(np.ones(3, np.float32), action_masks=np.zeros(5))


@pytest.mark.parametrize(
    ("actions", "mask", "message"),
    [
        (ACTIONS["box"], spaces.MultiBinary(2), "needs actions that are Discrete"),
        (DISCRETE["discrete"], spaces.MultiBinary(3), r"must be MultiBinary\(4\)"),
        (DISCRETE["multi-binary"], spaces.MultiBinary(3), r"must be MultiBinary\(6\)"),
        (DISCRETE["discrete"], spaces.MultiDiscrete([2] * 4), r"must be MultiBinary\(4\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    actions: spaces.Space[Any], mask: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy(spaces.Dict({"observation": PLAIN, "action_mask": mask}), actions)


def test_masks_beside_an_observation_have_its_shape_and_a_policy_that_was_trained_with_them() -> (
    None
):
    actions = DISCRETE["discrete"]
    observation = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"must be \(4,\) or \(batch, 4\), got \(3,\)"):
        make_policy(masked(actions), actions).predict(observation, action_masks=np.ones(3))
    with pytest.raises(ValueError, match="trained without"):
        make_policy(PLAIN, actions).predict(observation, action_masks=np.ones(4))
