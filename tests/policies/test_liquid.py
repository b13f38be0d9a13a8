"""Laws of the policy: stepping, unrolling, predicting, saving."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from liquid_control import LiquidPolicy
from liquid_control.neurons import NEURONS as MODELS
from liquid_control.policies.networks import Signal
from tests.policies.conftest import (
    ACTIONS,
    NOMINAL,
    OBSERVATIONS,
    PARTS,
    PLAIN,
    TIMED,
    at,
    draw,
    make_policy,
    observe,
    predict_all,
)

STEPS, BATCH = 6, 3
CRITICS = ("twin", "shared", "mlp")


def starts() -> np.ndarray:
    """Everyone starts at the first step; the second environment once more, in the middle."""
    started = np.zeros((STEPS, BATCH), dtype=bool)
    started[0] = True
    started[3, 1] = True
    return started


def every_action(space: spaces.Space[Any]) -> list[Any]:
    if isinstance(space, spaces.Discrete):
        return list(range(space.n))
    choices = space.nvec if isinstance(space, spaces.MultiDiscrete) else [2] * space.n
    return list(itertools.product(*(range(choice) for choice in choices)))


@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_predicting_step_by_step_takes_the_likeliest_action_of_the_unroll(
    observations: spaces.Space[Any], actions: spaces.Space[Any]
) -> None:
    policy = make_policy(observations, actions, log_std_init=-4.0)
    seen = draw(observations, STEPS, BATCH)
    taken = predict_all(policy, seen, starts())
    assert taken.shape == (STEPS, BATCH, *actions.shape)
    features, elapsed = observe(policy, seen)
    state, started = policy.initial_actor_critic_state(BATCH), torch.as_tensor(starts())

    def log_prob(chosen: Any) -> torch.Tensor:
        chosen = torch.as_tensor(chosen).flatten(2) if np.ndim(chosen) > 2 else chosen
        return policy.evaluate_actions(features, elapsed, state, started, chosen)[1]

    if isinstance(actions, spaces.Box):
        count = math.prod(actions.shape)
        peak = torch.full((STEPS, BATCH), count * (4.0 - 0.5 * math.log(2 * math.pi)))
        assert_close(log_prob(taken), peak, rtol=0, atol=1e-3)
    else:
        ours = log_prob(torch.as_tensor(taken))
        for other in every_action(actions):
            alternative = np.broadcast_to(other, taken.shape).astype(taken.dtype)
            assert (ours >= log_prob(torch.as_tensor(alternative)) - 1e-6).all()


@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize("critic", CRITICS)
def test_stepping_equals_unrolling(observations: spaces.Space[Any], critic: str) -> None:
    policy = make_policy(observations, ACTIONS["box"], critic=critic, encoder=[7])
    features, elapsed = observe(policy, draw(observations, STEPS, BATCH))
    started = torch.as_tensor(starts())
    whole = torch.randn(BATCH, policy.state_size)
    before, acting, steps, means = whole, policy.actor_part(whole), [], []
    actions = torch.randn(STEPS, BATCH, 2)
    for t in range(STEPS):
        mean, acting = policy(features[t], elapsed[t], acting, started[t], deterministic=True)
        means.append(mean)
        step = slice(t, t + 1)
        seen = features[step], elapsed[step], before, started[step]
        *evaluated, before = policy.evaluate_actions(*seen, actions[step])
        assert_close(policy.predict_values(*seen), evaluated[0])
        assert_close(policy.actor_part(before), acting)
        steps.append(evaluated)

    *unrolled, after = policy.evaluate_actions(features, elapsed, whole, started, actions)
    assert_close(after, before, rtol=1e-5, atol=1e-6)
    for length in (1, 3, STEPS):
        states = policy.states(features, elapsed, whole, started, length)
        assert torch.equal(states[0], whole)
        assert_close(states[-1], before, rtol=1e-5, atol=1e-6)
        shorter = [each[:length] for each in (features, elapsed)], started[:length]
        early = policy.unroll(*shorter[0], whole, shorter[1])[2]
        assert_close(states[1], early, rtol=1e-5, atol=1e-6)
    for unroll, column in zip(unrolled, zip(*steps, strict=True), strict=True):
        assert_close(unroll, torch.cat(column), rtol=1e-5, atol=1e-5)
    likeliest = policy.evaluate_actions(features, elapsed, whole, started, torch.stack(means))[1]
    assert_close(likeliest, torch.full_like(likeliest, -math.log(2 * math.pi)))


@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_a_single_observation_is_a_batch_of_one(observations: spaces.Space[Any]) -> None:
    policy = make_policy(observations)
    seen = draw(observations, STEPS, BATCH)
    together = predict_all(policy, seen, starts())
    for b in range(BATCH):
        state = None
        for t in range(STEPS):
            action, state = policy.predict(at(seen, t, b), state, starts()[t, b : b + 1], True)
            assert action.shape == policy.action_space.shape
            np.testing.assert_allclose(action, together[t, b], rtol=1e-5, atol=1e-5)


def test_predicting_ends_the_training_mode() -> None:
    policy = make_policy()
    policy.set_training_mode(True)
    policy.predict(draw(PLAIN, 1, BATCH)[0])
    assert not any(module.training for module in policy.modules())


def test_the_past_matters_until_an_episode_starts() -> None:
    policy = make_policy()
    seen = draw(PLAIN, STEPS, BATCH)
    changed = seen.copy()
    changed[2] += 1
    one, other = (predict_all(policy, each, starts()) for each in (seen, changed))
    np.testing.assert_array_equal(one[:2], other[:2])
    assert (np.abs(one[4, [0, 2]] - other[4, [0, 2]]) > 1e-3).any(axis=-1).all()
    np.testing.assert_array_equal(one[3:, 1], other[3:, 1])


def test_an_observation_without_elapsed_time_comes_at_the_nominal_interval() -> None:
    plain, timed = make_policy(PARTS), make_policy(TIMED)
    seen = draw(PARTS, STEPS, BATCH)
    at_nominal = {**seen, "elapsed_time": np.full((STEPS, BATCH, 1), NOMINAL, np.float32)}
    later = {**seen, "elapsed_time": 2 * at_nominal["elapsed_time"]}
    expected = predict_all(plain, seen, starts())
    np.testing.assert_allclose(predict_all(timed, at_nominal, starts()), expected, atol=1e-5)
    assert np.abs(predict_all(timed, later, starts()) - expected).max() > 1e-2


def test_the_order_of_an_observations_parts_does_not_matter() -> None:
    policy = make_policy(TIMED)
    seen = draw(TIMED, STEPS, BATCH)
    reordered = dict(reversed(seen.items()))
    assert list(reordered) != list(seen)
    np.testing.assert_array_equal(
        predict_all(policy, reordered, starts()), predict_all(policy, seen, starts())
    )


def test_actions_stay_within_their_bounds() -> None:
    policy = make_policy(actions=spaces.Box(-0.01, 0.02, (2,)))
    actions = predict_all(policy, draw(PLAIN, STEPS, BATCH), starts())
    assert (actions >= -0.01).all()
    assert (actions <= np.float32(0.02)).all()


@pytest.mark.parametrize("critic", CRITICS)
def test_saved_and_loaded_it_acts_the_same_bit_for_bit(critic: str, tmp_path: Path) -> None:
    policy = make_policy(TIMED, critic=critic, neurons="ltc", encoder=[6])
    policy.save(str(tmp_path / "policy.pt"))
    loaded = LiquidPolicy.load(str(tmp_path / "policy.pt"))
    seen = draw(TIMED, STEPS, BATCH)
    np.testing.assert_array_equal(
        predict_all(loaded, seen, starts()), predict_all(policy, seen, starts())
    )
    assert_close(loaded.state_dict(), policy.state_dict(), rtol=0, atol=0)


def test_arguments_survive_json() -> None:
    options = {
        "neurons": "ltc",
        "wiring": {"kind": "auto_ncp", "neurons": 14, "sparsity": 0.3, "seed": 2},
        "neuron_kwargs": {"ode_steps": 2, "output_mapping": "affine"},
        "encoder": [8, 6],
        "critic": "twin",
        "critic_wiring": {"kind": "dense", "neurons": 9},
        "critic_layers": [5],
        "nominal_interval": 0.02,
        "normalize_observations": False,
        "log_std_init": -0.5,
        "optimizer_kwargs": {"betas": [0.8, 0.99]},
    }
    direct = make_policy(**options)
    read = make_policy(**json.loads(json.dumps(options)))
    assert_close(read.state_dict(), direct.state_dict(), rtol=0, atol=0)
    assert tuple(read.optimizer.param_groups[0]["betas"]) == (0.8, 0.99)
    assert read.state_size == 14 + 9
    assert read.normalizer is None


@pytest.mark.parametrize("neurons", MODELS)
@pytest.mark.parametrize("critic", CRITICS)
def test_every_neuron_model_learns_from_both_losses(neurons: str, critic: str) -> None:
    """Every trainable weight gets a gradient, in a sequence with varying elapsed times."""
    policy = make_policy(TIMED, neurons=neurons, critic=critic, encoder=[5], critic_layers=[4])
    features, elapsed = observe(policy, draw(TIMED, STEPS, BATCH))
    actions = torch.randn(STEPS, BATCH, 2)
    values, log_prob, entropy, _ = policy.evaluate_actions(
        features,
        elapsed,
        policy.initial_actor_critic_state(BATCH),
        torch.as_tensor(starts()),
        actions,
    )
    assert entropy is not None
    (values.sum() + log_prob.sum() + entropy.sum()).backward()
    for name, weight in policy.named_parameters():
        if name.startswith("critic.body.circuit.output_mapping") or weight.numel() == 0:
            continue  # the value head reads a twin's neurons, not its outputs
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.abs().sum() > 0, name


def test_a_reservoir_trains_nothing_but_its_heads() -> None:
    policy = make_policy(
        encoder=[5], neuron_kwargs={"plasticity": "readout", "output_mapping": "affine"}
    )
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    features, elapsed = observe(policy, draw(PLAIN, STEPS, BATCH))
    values, log_prob, *_ = policy.evaluate_actions(
        features,
        elapsed,
        policy.initial_actor_critic_state(BATCH),
        torch.as_tensor(starts()),
        torch.randn(STEPS, BATCH, 2),
    )
    (values.sum() + log_prob.sum()).backward()
    policy.optimizer.step()
    changed = {
        name for name, value in policy.state_dict().items() if not torch.equal(value, before[name])
    }
    heads = ("action_net.", "critic.head.", "log_std", "actor.circuit.output_mapping.")
    assert {head for head in heads if any(name.startswith(head) for name in changed)} == set(heads)
    assert all(name.startswith(heads) for name in changed)


class TestCritic:
    @staticmethod
    def gradients(critic: str, of: str) -> dict[str, float]:
        """The size of the gradient by each weight, of the values or of the log-probabilities."""
        policy = make_policy(critic=critic, encoder=[6])
        features, elapsed = observe(policy, draw(PLAIN, STEPS, BATCH))
        values, log_prob, *_ = policy.evaluate_actions(
            features,
            elapsed,
            policy.initial_actor_critic_state(BATCH),
            torch.as_tensor(starts()),
            torch.randn(STEPS, BATCH, 2),
        )
        (values if of == "values" else log_prob).sum().backward()
        return {
            name: 0.0 if weight.grad is None else weight.grad.abs().sum().item()
            for name, weight in policy.named_parameters()
        }

    @pytest.mark.parametrize(
        ("critic", "reaches"), [("twin", False), ("shared", True), ("mlp", False)]
    )
    def test_only_a_shared_critic_teaches_the_actors_circuit(
        self, critic: str, reaches: bool
    ) -> None:
        gradients = self.gradients(critic, "values")
        actor = sum(size for name, size in gradients.items() if name.startswith("actor."))
        assert (actor > 0) == reaches
        assert any(size for name, size in gradients.items() if name.startswith("critic.head."))

    @pytest.mark.parametrize("critic", CRITICS)
    def test_actions_teach_the_actor_alone(self, critic: str) -> None:
        gradients = self.gradients(critic, "log_prob")
        assert sum(size for name, size in gradients.items() if name.startswith("critic.")) == 0
        assert sum(size for name, size in gradients.items() if name.startswith("actor.")) > 0

    @pytest.mark.parametrize(("critic", "own"), [("twin", 12), ("shared", 0), ("mlp", 0)])
    def test_only_a_twin_has_a_state_of_its_own(self, critic: str, own: int) -> None:
        policy = make_policy(critic=critic)
        assert policy.critic.state_size == own
        assert policy.initial_actor_critic_state(2).shape == (2, 12 + own)
        weights = policy.state_dict()
        assert any(name.startswith("critic.body.circuit.") for name in weights) == (own > 0)

    @pytest.mark.parametrize("critic", CRITICS)
    def test_values_depend_on_the_past_and_the_elapsed_time(self, critic: str) -> None:
        policy = make_policy(critic=critic)
        features, _ = observe(policy, draw(PLAIN, 1, BATCH))
        fresh, now = torch.ones(1, BATCH), torch.full((1, BATCH), NOMINAL)
        base = policy.predict_values(features, now, policy.initial_actor_critic_state(BATCH), fresh)
        late = policy.predict_values(
            features, 2 * now, policy.initial_actor_critic_state(BATCH), fresh
        )
        state = torch.ones(BATCH, policy.state_size)
        remembering = policy.predict_values(features, now, state, 0 * fresh)
        assert ((base - late).abs() > 1e-4).all()
        assert ((base - remembering).abs() > 1e-4).all()


def test_elapsed_time_is_an_input_of_an_mlp_critic() -> None:
    """And not only through the actor's neurons."""
    policy = make_policy(critic="mlp")
    features, activity = torch.randn(1, BATCH, 3), torch.randn(1, BATCH, 12)
    state, elapsed = torch.zeros(BATCH, 0), torch.full((1, BATCH), NOMINAL)
    on_time, late = (
        policy.critic(Signal(features, time, torch.zeros(1, BATCH)), state, activity)[0]
        for time in (elapsed, 2 * elapsed)
    )
    assert ((late - on_time).abs() > 1e-3).all()


def test_a_wiring_of_fixed_size_fits_between_encoder_and_action_head() -> None:
    policy = make_policy(wiring={"kind": "tap_withdrawal"}, encoder=[4])
    assert predict_all(policy, draw(PLAIN, STEPS, BATCH), starts()).shape == (STEPS, BATCH, 2)


IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
CLOCK = TIMED["elapsed_time"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neurons": "rnn"}, "neurons must be one of .*cfc.*, got 'rnn'"),
        ({"critic": "big"}, "critic must be one of twin, shared, mlp, got 'big'"),
        ({"wiring": {"kind": "mesh"}}, "unknown kind of wiring 'mesh'"),
        ({"wiring": {"kind": "tap_withdrawal"}}, r"4 sensory .* but 64 .* encoder=\[4\]"),
        ({"observations": IMAGE}, "images must have their channels first"),
        (
            {"observations": spaces.Dict({"privileged": IMAGE, "a": PLAIN})},
            "'privileged' is an image",
        ),
        ({"observations": spaces.Dict({"elapsed_time": CLOCK})}, "has only elapsed_time"),
        (
            {"observations": spaces.Dict({"joints": PLAIN, "elapsed_time": PLAIN})},
            r"elapsed_time must be one number of seconds, got a space of shape \(3,\)",
        ),
        ({"use_sde": True}, "use_sde is not supported"),
        ({"encoder": [8, 0]}, r"encoder must list positive layer sizes.*got \[8, 0\]"),
        ({"encoder": [True]}, "encoder must list positive layer sizes"),
        ({"encoder": [1] * 65}, "encoder must list at most 64 layers, got 65"),
        ({"critic_layers": [2.5]}, r"critic_layers must list positive.*got \[2.5\]"),
        (
            {"critic": "mlp", "critic_wiring": {"kind": "dense"}},
            "critic_wiring needs critic='twin'",
        ),
        ({"nominal_interval": 0.0}, "nominal_interval must be greater than 0, got 0"),
        ({"actions": PARTS}, "actions must be Box, Discrete, MultiDiscrete or MultiBinary"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy(**arguments)


def test_layer_sizes_are_a_list() -> None:
    with pytest.raises(
        TypeError, match=r"encoder must list layer sizes, such as \[64, 64\], got 8"
    ):
        make_policy(encoder=8)


@pytest.mark.parametrize("shape", [(BATCH + 1, 12), (BATCH, 24), (12,)])
def test_a_state_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    policy = make_policy()
    with pytest.raises(ValueError, match=r"state must be \(batch, size\) = \(3, 12\), got"):
        policy.predict(draw(PLAIN, 1, BATCH)[0], np.zeros(shape, np.float32))


def test_numbers_that_are_not_finite_are_refused() -> None:
    policy, (observation,) = make_policy(), draw(PLAIN, 1, BATCH)
    _, state = policy.predict(observation)
    with pytest.raises(ValueError, match="the state of predict is not finite"):
        policy.predict(observation, np.full_like(state, np.nan))
    with pytest.raises(ValueError, match="the observation of predict is not finite"):
        policy.predict(np.full_like(observation, np.nan), state)
    torch.nn.init.constant_(policy.action_net.bias, torch.nan)
    with pytest.raises(ValueError, match="the action is not finite, so weights are not"):
        policy.predict(observation, state)


def test_a_state_may_be_in_double_precision() -> None:
    policy, (observation,) = make_policy(), draw(PLAIN, 1, BATCH)
    _, state = policy.predict(observation)
    expected, _ = policy.predict(observation, state, deterministic=True)
    found, _ = policy.predict(observation, state.astype(np.float64), deterministic=True)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("starts", [[], np.ones(BATCH + 1, bool), np.ones((BATCH, 1)), "x", {}])
def test_episode_starts_that_do_not_fit_are_refused(starts: Any) -> None:
    with pytest.raises(ValueError, match="episode_start must be a bool for each of 3 observations"):
        make_policy().predict(draw(PLAIN, 1, BATCH)[0], None, starts)


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        (np.zeros(2, np.float32), "a dict of elapsed_time, joints, mode; got an array"),
        (np.zeros((4, 2), np.float32), "got an array"),
        ({"joints": np.zeros(2, np.float32)}, "got a dict of joints"),
        ({"joints": 0, "mode": 0, "dt": 0}, "got a dict of joints, mode, dt"),
        (({}, {}), "got a tuple; a Gymnasium env's reset returns"),
    ],
)
def test_other_observations_are_refused_with_what_to_pass(observation: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make_policy(TIMED).predict(observation)
    if not isinstance(observation, np.ndarray):
        with pytest.raises(
            ValueError, match=text if isinstance(observation, tuple) else "an array; got"
        ):
            make_policy(PLAIN).predict(observation)


def test_a_feature_that_may_be_meant_as_the_elapsed_time_is_named() -> None:
    for name in ("dt", "delta_time", "Elapsed"):
        with pytest.warns(UserWarning, match=f"'{name}' is a feature .* name it 'elapsed_time'"):
            make_policy(spaces.Dict({"joints": PLAIN, name: spaces.Box(0, 1, (1,))}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_policy(spaces.Dict({**TIMED.spaces, "dt": spaces.Box(0, 1, (1,))}))


@pytest.mark.parametrize("name", ACTIONS)
def test_one_action_is_an_array_in_the_action_space(name: str) -> None:
    """As in SB3, also where its shape is ()."""
    action, _ = make_policy(actions=ACTIONS[name]).predict(draw(PLAIN, 1, 1)[0, 0])
    assert isinstance(action, np.ndarray)
    assert action.shape == ACTIONS[name].shape
    assert ACTIONS[name].contains(action)


def test_a_state_that_is_forgotten_is_reported_once() -> None:
    seen, some, every = draw(PLAIN, 1, BATCH)[0], np.arange(BATCH) == 0, np.ones(BATCH, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy = make_policy()
        for _ in range(3):  # episodes, each of one step at least
            _, state = policy.predict(seen)
            policy.predict(seen, state)
        for _ in range(3):  # of one step each
            policy.predict(seen, None, every)
    for start in (None, some):
        policy = make_policy()
        policy.predict(seen, None, every)
        policy.predict(seen, None, start)
        with pytest.warns(UserWarning, match=r"without a state again.*state = model\.predict"):
            policy.predict(seen, None, start)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            policy.predict(seen, None, start)


def test_neurons_may_have_a_time_scale_of_their_own() -> None:
    policy = make_policy(nominal_interval=0.05, neuron_kwargs={"time_scale": 0.4})
    assert policy.actor_circuit.time_scale == 0.4
    assert make_policy(nominal_interval=0.05).actor_circuit.time_scale == 0.05


@pytest.mark.parametrize("encoder", [None, [6]])
def test_an_encoder_may_learn_from_the_elapsed_time_and_a_bare_circuit_gets_features_alone(
    encoder: list[int] | None,
) -> None:
    policy = make_policy(TIMED, encoder=encoder, neurons="gru")
    policy.actor_circuit.elapsed_weight.data.zero_()  # the neurons' own ear for the time
    features = torch.randn(1, BATCH, len(policy.normalizer.mean))
    state = policy.actor_circuit.initial_state(BATCH)

    def activity(intervals: float) -> torch.Tensor:
        elapsed = torch.full((1, BATCH), intervals * NOMINAL)
        return policy.actor(Signal(features, elapsed, torch.zeros(1, BATCH)), state)[0]

    # At one interval the clock is zero, and random weights would stay as they are.
    assert torch.equal(activity(2.0), activity(1.0))
    if encoder is not None:
        policy.actor.encoder[0].weight.data[:, -1] = 0.1  # learned
        assert not torch.equal(activity(2.0), activity(1.0))
