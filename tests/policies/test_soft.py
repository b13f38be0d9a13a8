"""SoftLiquidPolicy: acting, unrolling and evaluating agree."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Normal, TanhTransform, TransformedDistribution
from torch.nn.functional import linear
from torch.testing import assert_close

from liquid_control import SoftLiquidPolicy
from liquid_control.policies.soft import span, squash
from tests.policies.conftest import ACTIONS, NOMINAL, OBSERVATIONS, PLAIN, TIMED, at, draw

STEPS, BATCH = 9, 3
UNEVEN = spaces.Box(np.array([-1.0, 0.0]), np.array([3.0, 0.5]), dtype=np.float64)


def make_soft(
    observations: spaces.Space[Any] = TIMED,
    actions: spaces.Space[Any] = UNEVEN,
    **options: Any,
) -> SoftLiquidPolicy:
    """Seeded; its actions differ clearly from one state to another."""
    torch.manual_seed(0)
    options = {
        "wiring": {"kind": "auto_ncp", "neurons": 12},
        "critic_layers": [8, 6],
        "nominal_interval": NOMINAL,
    } | options
    policy = SoftLiquidPolicy(observations, actions, lambda _: 1e-2, **options)
    with torch.no_grad():
        policy.actor.head[-1].weight.mul_(5)
        if policy.normalizer is not None:
            policy.normalizer.update(torch.randn(20, len(policy.normalizer.mean)) * 2 + 1)
    return policy


def observe_all(policy: SoftLiquidPolicy, observations: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and elapsed times, (steps, batch, ...)."""
    steps = [policy.observe(policy.obs_to_tensor(at(observations, t))[0]) for t in range(STEPS)]
    features, elapsed_time = zip(*steps, strict=True)
    return torch.stack(features), torch.stack(elapsed_time)


def random_signal(policy: SoftLiquidPolicy) -> Any:
    features, elapsed_time = observe_all(policy, draw(policy.observation_space, STEPS, BATCH))
    actions = torch.rand(STEPS, BATCH, policy.action_size) * 2 - 1
    return policy.signal(features, elapsed_time, torch.zeros(STEPS, BATCH), actions)


@pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize(
    "options",
    [{}, {"encoder": [7]}, {"encoder": [7], "share_encoder": True}, {"actor_layers": [5]}],
    ids=["plain", "encoder", "shared encoder", "layers"],
)
def test_predicting_step_by_step_is_unrolling_the_whole(
    space: spaces.Space[Any], options: dict[str, Any]
) -> None:
    policy = make_soft(space, **options)
    observations = draw(space, STEPS, BATCH)
    starts = np.zeros((STEPS, BATCH), bool)
    starts[4, 1] = starts[6, 2] = True
    predicted, state = [], None
    for t in range(STEPS):
        action, state = policy.predict(at(observations, t), state, starts[t], deterministic=True)
        assert all(policy.action_space.contains(each) for each in action)
        predicted.append(policy.from_env(action))
    previous = torch.stack([torch.zeros(BATCH, policy.action_size), *predicted[:-1]])
    features, elapsed_time = observe_all(policy, observations)
    signal = policy.signal(features, elapsed_time, torch.from_numpy(starts), previous)
    with torch.no_grad():
        acting, _, _ = policy.unroll(signal, policy.initial_actor_critic_state(BATCH))
        actions, _ = policy.actor(acting, deterministic=True)
    assert_close(torch.stack(predicted), actions, rtol=1e-4, atol=1e-5)
    assert actions.std(dim=0).max() > 1e-2


def test_an_unroll_in_two_parts_is_the_whole() -> None:
    policy = make_soft()
    signal = random_signal(policy)
    with torch.no_grad():
        whole = policy.unroll(signal, policy.initial_actor_critic_state(BATCH))
        *_, state = policy.unroll(span(signal, 0, 4), policy.initial_actor_critic_state(BATCH))
        rest = policy.unroll(span(signal, 4, None), state)
    assert_close(rest[0], whole[0][4:])
    assert_close(rest[1], whole[1][4:])
    assert_close(rest[2], whole[2])
    assert policy.critic_part(rest[2]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder": [7], "share_encoder": True},
        {"observations": spaces.Dict({**TIMED.spaces, "privileged": PLAIN})},
    ],
)
def test_states_are_those_of_unrolls_in_parts(options: dict[str, Any]) -> None:
    policy = make_soft(**options)
    signal, state = random_signal(policy), torch.randn(BATCH, policy.state_size)
    with torch.no_grad():
        states = policy.states(signal, state, 3)
        assert len(states) == STEPS // 3 + 1
        assert torch.equal(states[0], state)
        for part in range(STEPS // 3):
            _, _, state = policy.unroll(span(signal, 3 * part, 3 * part + 3), state)
            assert_close(states[part + 1], state)


@pytest.mark.parametrize("options", [{}, {"encoder": [7]}, {"encoder": [7], "share_encoder": True}])
def test_acting_depends_on_its_part_of_the_weights(options: dict[str, Any]) -> None:
    policy, other = make_soft(**options), make_soft(**options)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(torch.randn_like(weight))
    acting = policy.acting_state_dict()
    assert not any(name.startswith("critic_target") for name in acting)
    other.load_state_dict(acting, strict=False)
    size, starts = len(policy.normalizer.mean), torch.zeros(BATCH)  # type: ignore[union-attr]
    state = policy.initial_actor_state(BATCH)
    now = torch.randn(BATCH, size), torch.full((BATCH,), NOMINAL)
    with torch.no_grad():
        ours, after = policy(*now, state, starts, deterministic=True)
        theirs, following = other(*now, state, starts, deterministic=True)
        assert torch.equal(ours, theirs)
        assert torch.equal(after, following)


def test_the_state_after_other_actions_is_that_of_a_policy_that_chose_them() -> None:
    policy = make_soft()
    features = torch.randn(BATCH, len(policy.normalizer.mean))  # type: ignore[union-attr]
    actions = torch.rand(BATCH, policy.action_size) * 2 - 1
    now = features, torch.full((BATCH,), NOMINAL)
    with torch.no_grad():
        _, after = policy(*now, policy.initial_actor_state(BATCH), torch.zeros(BATCH))
        assert torch.equal(policy.state_after(after, after[:, -policy.action_size :]), after)
        after = policy.state_after(after, actions)
        seen = policy.signal(features[None], now[1][None], torch.zeros(1, BATCH), actions[None])
        activity, _ = policy.actor.body(seen, after[:, : -policy.action_size])
        expected, _ = policy.actor(activity[0], deterministic=True)
        acted, _ = policy(*now, after, torch.zeros(BATCH), deterministic=True)
    assert_close(acted, expected)


def test_an_episodes_start_forgets_state_and_action() -> None:
    policy = make_soft()
    observation = at(draw(TIMED, 1, BATCH), 0)
    state = np.ones((BATCH, policy.initial_actor_state(1).shape[1]), np.float32)
    one, _ = policy.predict(observation, state, np.ones(BATCH, bool), deterministic=True)
    fresh, _ = policy.predict(observation, None, deterministic=True)
    other, _ = policy.predict(observation, state, np.zeros(BATCH, bool), deterministic=True)
    np.testing.assert_array_equal(one, fresh)
    assert np.abs(one - other).max() > 1e-3


def test_the_previous_action_is_an_input() -> None:
    policy = make_soft()
    observation = at(draw(TIMED, 1, BATCH), 0)
    state = policy.initial_actor_state(BATCH).numpy()
    idle, _ = policy.predict(observation, state, deterministic=True)
    state[:, policy.actor.circuit.state_size :] = 1
    moved, _ = policy.predict(observation, state, deterministic=True)
    assert np.abs(idle - moved).max() > 1e-3


def test_without_elapsed_time_the_interval_is_nominal() -> None:
    _, elapsed_time = observe_all(make_soft(PLAIN), draw(PLAIN, STEPS, BATCH))
    assert_close(elapsed_time, torch.full((STEPS, BATCH), NOMINAL))


def test_squashed_density_is_that_of_pytorch() -> None:
    mean, log_std, noise = torch.randn(3, 50, 4, dtype=torch.float64)
    actions, log_prob = squash(mean, log_std, noise)
    reference = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    raw = mean + log_std.exp() * noise
    assert_close(actions, raw.tanh())
    expected = reference.base_dist.log_prob(raw) - TanhTransform().log_abs_det_jacobian(
        raw, actions
    )
    assert_close(log_prob, expected.sum(dim=-1))


def test_a_density_where_tanh_is_flat_is_finite() -> None:
    mean = torch.tensor([[-40.0], [40.0]], requires_grad=True)
    actions, log_prob = squash(mean, torch.zeros(2, 1), torch.zeros(2, 1))
    assert_close(actions.detach(), torch.tensor([[-1.0], [1.0]]))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert_close(mean.grad, torch.tensor([[-2.0], [2.0]]))


def test_deviations_stay_in_their_range() -> None:
    policy = make_soft()
    with torch.no_grad():
        policy.actor.head[-1].weight.zero_()
        policy.actor.head[-1].bias.copy_(torch.tensor([0.0, 0.0, 100.0, -100.0]))
        actions, log_prob = policy.actor(torch.zeros(1000, 12))
    raw = actions[:, 0].double().clamp(-1 + 1e-7, 1 - 1e-7).atanh()
    assert raw.abs().median() < 2 * np.exp(2)
    assert torch.isfinite(log_prob).all()
    assert actions[:, 1].abs().max() < 1e-7


class TestCritic:
    def test_each_head_is_a_network_of_its_own(self) -> None:
        policy = make_soft(n_critics=3)
        critic, signal = policy.critic, random_signal(make_soft())
        activity = torch.randn(STEPS, BATCH, 12)
        actions = torch.randn(STEPS, BATCH, 2)
        seen = torch.cat([activity, signal[0]], dim=-1)
        values = critic(critic.context(seen), actions)
        assert values.shape == (3, STEPS, BATCH)
        for head in range(3):
            weight = torch.cat([critic.of_context[head], critic.of_actions[head]]).T
            layer = torch.cat([seen, actions], dim=-1)
            layer = linear(layer, weight, critic.first_bias[head, 0]).relu()
            layer = linear(layer, critic.weights[0][head].T, critic.biases[0][head, 0]).relu()
            value = linear(layer, critic.of_value[head], critic.value_bias[head])
            assert_close(values[head], value.squeeze(-1))
        assert (values[0] - values[1]).abs().min() > 1e-6

    @pytest.mark.parametrize("frozen", [False, True])
    def test_frozen_it_passes_gradients_on_and_takes_none(self, frozen: bool) -> None:
        critic = make_soft().critic
        actions = torch.randn(1, BATCH, 2, requires_grad=True)
        context = torch.randn(2, BATCH, 8)
        critic(context, actions, frozen=frozen).sum().backward()
        assert actions.grad is not None
        assert actions.grad.abs().min() > 0
        heads = [critic.of_actions, *critic.weights, *critic.biases, critic.of_value]
        assert all((weight.grad is None) == frozen for weight in heads)

    def test_the_target_starts_as_a_copy_and_is_not_trained(self) -> None:
        policy = make_soft()
        assert_close(policy.critic_target.state_dict(), policy.critic.state_dict(), rtol=0, atol=0)
        theirs = {id(weight) for weight in policy.critic_target.parameters()}
        assert not any(weight.requires_grad for weight in policy.critic_target.parameters())
        for group in policy.optimizer.param_groups:
            assert theirs.isdisjoint(map(id, group["params"]))


def test_circuits_are_a_group_of_their_own_and_nothing_is_left_out() -> None:
    policy = make_soft(encoder=[7], actor_layers=[5])
    recurrent, rest = ({id(w) for w in g["params"]} for g in policy.optimizer.param_groups)
    circuits = [*policy.actor.circuit.parameters(), *policy.critic.circuit.parameters()]
    assert recurrent == {id(weight) for weight in circuits}
    trained = {id(weight) for weight in policy.parameters() if weight.requires_grad}
    assert recurrent | rest == trained
    assert recurrent.isdisjoint(rest)


def test_a_shared_encoder_learns_from_the_critics_alone() -> None:
    policy = make_soft(encoder=[7], share_encoder=True)
    assert policy.actor.body.encoder is None
    actor_activity, seen, _ = policy.unroll(
        random_signal(policy), policy.initial_actor_critic_state(BATCH)
    )
    encoder = policy.critic.body.encoder
    assert encoder is not None
    weight = encoder[0].weight
    (of_actor,) = torch.autograd.grad(
        actor_activity.sum(), weight, retain_graph=True, allow_unused=True
    )
    (of_critics,) = torch.autograd.grad(seen.sum(), weight)
    assert of_actor is None
    assert of_critics.abs().max() > 0


def test_actions_go_to_the_environment_and_back() -> None:
    policy = make_soft()
    actions = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
    scaled = policy.for_env(actions)
    np.testing.assert_allclose(scaled, [[-1.0, 0.0], [3.0, 0.5], [1.0, 0.375]])
    assert scaled.dtype == np.float64
    assert_close(policy.from_env(scaled), actions)


def test_arguments_are_jsonable_and_build_it_again() -> None:
    policy = make_soft(encoder=[7], critic_wiring={"kind": "dense", "neurons": 9})
    again = make_soft(**json.loads(json.dumps(vars(policy.options))))
    again.load_state_dict(policy.state_dict())
    observation = at(draw(TIMED, 1, BATCH), 0)
    one, other = (each.predict(observation, deterministic=True)[0] for each in (policy, again))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actions": ACTIONS["discrete"]}, "actions must be a Box with finite bounds"),
        ({"actions": spaces.Box(-np.inf, 1.0, (2,))}, "actions must be a Box with finite bounds"),
        ({"n_critics": 0}, "n_critics must be greater than 0, got 0"),
        ({"critic_layers": []}, "critic_layers must list at least one layer"),
        ({"share_encoder": True}, "share_encoder needs an encoder"),
        ({"use_sde": True}, "use_sde is not supported"),
        ({"actor_layers": [0]}, "actor_layers must list positive"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_soft(**options)
