"""Images ahead of the circuit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from torch.testing import assert_close

from liquid_control.policies.fused import why_not_fused
from tests.policies.conftest import NOMINAL, PLAIN, draw, make_policy
from tests.policies.test_soft import make_soft, random_signal

EYE = spaces.Box(0, 255, (2, 12, 10), np.uint8)
WRIST = spaces.Box(0, 255, (1, 12, 12), np.uint8)
CLOCK = spaces.Box(0.0, np.inf, (1,))
SMALL = {"image_layers": [[4, 3, 2], [8, 3, 2]], "image_features": 5}
SEEN = spaces.Dict({"eye": EYE, "joints": PLAIN, "wrist": WRIST, "elapsed_time": CLOCK})
STEPS, BATCH = 4, 3
CRITICS = ("twin", "shared", "mlp")


def observed(policy: Any, space: spaces.Space[Any] = SEEN) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (time, batch, features), and elapsed times."""
    drawn = draw(space, STEPS, BATCH)
    steps = [
        policy.observe({key: torch.as_tensor(each[t]) for key, each in drawn.items()})
        for t in range(STEPS)
    ]
    features, elapsed = (torch.stack(each) for each in zip(*steps, strict=True))
    return features, elapsed


@pytest.mark.parametrize("encoder", [None, [6]])
@pytest.mark.parametrize("critic", CRITICS)
def test_sequences_equal_single_steps(critic: str, encoder: Any) -> None:
    policy = make_policy(SEEN, critic=critic, encoder=encoder, **SMALL)
    features, elapsed = observed(policy)
    starts = torch.zeros(STEPS, BATCH)
    state = policy.initial_actor_critic_state(BATCH)
    motor, values, last = policy.unroll(features, elapsed, state, starts)
    found = []
    for t in range(STEPS):
        now = slice(t, t + 1)
        *step, state = policy.unroll(features[now], elapsed[now], state, starts[now])
        found.append(step)
    assert_close(torch.cat([each for each, _ in found]), motor)
    assert_close(torch.cat([each for _, each in found]), values)
    assert_close(state, last)


@pytest.mark.parametrize("make", [make_policy, make_soft])
def test_pixels_are_scaled_as_in_sb3_and_vectors_are_normalised(make: Any) -> None:
    policy = make(SEEN, normalize_observations=True, **SMALL)
    observation = {
        "eye": np.full(EYE.shape, 255, np.uint8),
        "joints": np.float32([1, 2, 3]),
        "wrist": np.zeros(WRIST.shape, np.uint8),
        "elapsed_time": np.float32([NOMINAL]),
    }
    tensors, _ = policy.obs_to_tensor(observation)
    features, _ = policy.observe(tensors)
    pixels = np.prod(EYE.shape)
    assert features.shape == (1, 3 + pixels + np.prod(WRIST.shape))
    normal = policy._normalize(features)
    assert (normal[0, 3 : 3 + pixels] == 1).all()
    assert (normal[0, 3 + pixels :] == 0).all()
    assert policy.normalizer is not None
    assert_close(normal[0, :3], policy.normalizer(torch.tensor([1.0, 2.0, 3.0])))
    before = policy.normalizer.count.item()
    policy.update_normalizer(features[None].expand(4, 2, -1))
    assert policy.normalizer.count == before + 8
    assert policy.normalizer.mean.shape == (3,)


@pytest.mark.parametrize("make", [make_policy, make_soft])
def test_pictures_alone_need_no_normaliser(make: Any) -> None:
    policy = make(EYE, **SMALL)
    assert policy.normalizer is None
    policy.update_normalizer(torch.rand(2, 3, policy.observed))
    action, _ = policy.predict(np.zeros(EYE.shape, np.uint8))
    assert action.shape == (2,)


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("key", ["eye", "joints", "wrist", "elapsed_time"])
def test_every_part_reaches_action_and_value(key: str, critic: str) -> None:
    policy = make_policy(SEEN, critic=critic, encoder=[8], **SMALL)
    drawn = draw(SEEN, 1, BATCH)
    tensors = {name: torch.as_tensor(each[0]) for name, each in drawn.items()}
    changed = dict(tensors)
    changed[key] = 255 - tensors[key] if tensors[key].dtype == torch.uint8 else tensors[key] * 1.5
    state, starts = policy.initial_actor_critic_state(BATCH), torch.zeros(1, BATCH)

    def both(given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        features, elapsed = policy.observe(given)
        motor, values, _ = policy.unroll(features[None], elapsed[None], state, starts)
        return motor, values

    for one, other in zip(both(tensors), both(changed), strict=True):
        assert (one != other).any()


SHARING = [{}, {"encoder": [6]}, {"encoder": [6], "share_encoder": True}]


@pytest.mark.parametrize("options", SHARING)
def test_a_soft_policy_acts_step_by_step_as_over_sequences(options: Any) -> None:
    policy = make_soft(SEEN, **options, **SMALL)
    features, elapsed = observed(policy)
    starts, state = torch.zeros(STEPS, BATCH), policy.initial_actor_state(BATCH)
    actions = []
    for step in range(STEPS):
        action, state = policy(features[step], elapsed[step], state, starts[step], True)
        actions.append(action)
    previous = torch.stack([torch.zeros_like(actions[0]), *actions[:-1]])
    signal = policy.signal(features, elapsed, starts, previous)
    activity, _, _ = policy.unroll(signal, policy.initial_actor_critic_state(BATCH))
    assert_close(policy.actor(activity, True)[0], torch.stack(actions))


@pytest.mark.parametrize("options", SHARING)
@pytest.mark.parametrize("key", ["eye", "joints", "wrist", "elapsed_time"])
def test_every_part_reaches_the_soft_actor_and_each_critic(key: str, options: Any) -> None:
    policy = make_soft(SEEN, **options, **SMALL)
    drawn = draw(SEEN, 1, BATCH)
    tensors = {name: torch.as_tensor(each[0]) for name, each in drawn.items()}
    changed = dict(tensors)
    changed[key] = 255 - tensors[key] if tensors[key].dtype == torch.uint8 else tensors[key] * 1.5
    nothing = torch.zeros(1, BATCH, policy.action_size)

    def both(given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        features, elapsed = policy.observe(given)
        signal = policy.signal(features[None], elapsed[None], nothing[..., 0], nothing)
        activity, seen, _ = policy.unroll(signal, policy.initial_actor_critic_state(BATCH))
        motor = policy.actor.circuit.readout(activity)
        return motor, policy.critic(policy.critic.context(seen), nothing)

    (motor, values), (other_motor, other_values) = both(tensors), both(changed)
    assert (motor != other_motor).any()
    assert (values != other_values).flatten(1).any(dim=1).all()


def test_convolutions_of_a_shared_encoder_learn_from_the_critics_alone() -> None:
    policy = make_soft(SEEN, encoder=[6], share_encoder=True, **SMALL)
    assert policy.actor.body.images is None
    signal = random_signal(policy)
    activity, seen, _ = policy.unroll(signal, policy.initial_actor_critic_state(BATCH))
    weights = list(policy.critic.body.images.parameters())
    of_actor = torch.autograd.grad(activity.sum(), weights, retain_graph=True, allow_unused=True)
    assert of_actor == (None,) * len(weights)
    of_critics = torch.autograd.grad(seen.sum(), weights)
    assert all(each.any() for each in of_critics)
    names = policy.acting_state_dict()
    assert "critic.body.images.networks.0.0.weight" in names
    assert not any(name.startswith("critic.body.circuit") for name in names)


def test_what_is_privileged_comes_after_images_and_is_seen_by_the_critic_alone() -> None:
    space = spaces.Dict({**SEEN.spaces, "privileged": spaces.Box(-1.0, 1.0, (2,))})
    policy = make_policy(space, **SMALL)
    features, elapsed = observed(policy, space)
    state, starts = policy.initial_actor_critic_state(BATCH), torch.zeros(STEPS, BATCH)
    others = features.clone()
    others[..., -2:] += 1
    motor, values, _ = policy.unroll(features, elapsed, state, starts)
    same, differ, _ = policy.unroll(others, elapsed, state, starts)
    assert torch.equal(motor, same)
    assert (values != differ).all()


def test_the_default_is_the_network_of_sb3() -> None:
    space = spaces.Box(0, 255, (3, 44, 40), np.uint8)
    policy = make_policy(space, image_features=512)
    theirs = NatureCNN(space)
    ours = policy.actor.images.networks[0]  # type: ignore[union-attr]
    convolutions = [each for each in ours if isinstance(each, torch.nn.Conv2d)]
    linear = next(each for each in ours if isinstance(each, torch.nn.Linear))
    expected = [*theirs.cnn[:-1:2], theirs.linear[0]]
    with torch.no_grad():
        for one, other in zip((*convolutions, linear), expected, strict=True):
            one.load_state_dict(other.state_dict())
        pictures = torch.rand(2, *space.shape)
        found = policy.actor.images(pictures.flatten(1))  # type: ignore[misc]
        assert_close(found, theirs.linear[0](theirs.cnn(pictures)).tanh())


def test_a_reservoir_does_not_train_its_images() -> None:
    policy = make_policy(SEEN, neuron_kwargs={"plasticity": "readout"}, **SMALL)
    assert not any(each.requires_grad for each in policy.actor.parameters())
    assert why_not_fused(policy) == "the kernels do not support its encoder of images"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "12 x 10 are too small for image_layers"),
        ({"image_layers": [[4, 3]]}, r"filters, kernel and stride of each layer, .* got \[4, 3\]"),
        ({"image_layers": [[4, 3, 0]]}, "filters, kernel and stride"),
        ({"image_layers": [4]}, "filters, kernel and stride"),
        ({"image_features": 0}, "image_features must be greater than 0"),
    ],
)
def test_layers_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy(SEEN, **options)
