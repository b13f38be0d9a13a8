"""The description computes what the policy computes, which double precision shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from liquid_control import LiquidPolicy
from liquid_control.export.description import ExportError
from liquid_control.export.policies import describe_policy
from liquid_control.neurons import CfC
from liquid_control.wiring import Wiring, tap_withdrawal

from . import cases
from .interpreter import Interpreter

STEPS = 60
ACTIONS = {
    "unbounded": spaces.Box(-np.inf, np.inf, (2,)),
    "discrete": spaces.Discrete(5),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary(4),
}


def agrees(policy: Any, tolerance: float = 1e-5) -> None:
    """Compare actions, states and motor activity of a whole recording."""
    interpreter = Interpreter(describe_policy(policy))
    state = None
    for observation, elapsed, start in cases.record(policy, STEPS):
        if start:
            interpreter.reset()
        action, state = policy.predict(observation, state, np.array([start]), deterministic=True)
        computed = interpreter.step(cases.flat(observation), elapsed)
        np.testing.assert_allclose(computed, np.ravel(action), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(interpreter.state, state[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("encoder", [None, [7]], ids=["bare", "encoder"])
def test_every_kind_of_neuron_is_described(name: str, encoder: Any) -> None:
    agrees(cases.make_policy(encoder=encoder, **cases.CIRCUITS[name]))


@pytest.mark.parametrize("name", cases.SOFT)
def test_every_soft_policy_is_described(name: str) -> None:
    agrees(cases.soft_policy(**cases.SOFT[name]))


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_space_is_described(name: str) -> None:
    agrees(cases.make_policy(actions=ACTIONS[name], wiring={**cases.WIRING, "motor": 5}))


@pytest.mark.parametrize("kind", ["ltc", "cfc"])
@pytest.mark.parametrize("mapping", [None, "linear", "affine"])
def test_every_mapping_is_described(kind: str, mapping: Any) -> None:
    options = {"input_mapping": mapping, "output_mapping": mapping}
    agrees(cases.make_policy(neurons=kind, neuron_kwargs=options))


@pytest.mark.parametrize(
    "space", [cases.MIXED, cases.VECTOR, spaces.Discrete(4)], ids=["dict", "box", "discrete"]
)
@pytest.mark.parametrize("normalize", [True, False])
def test_every_observation_space_is_described(space: Any, normalize: bool) -> None:
    agrees(cases.make_policy(observations=space, normalize_observations=normalize, encoder=[6]))


@pytest.mark.parametrize("neurons", ["cfc", "gru", "lstm", "ltc"])
def test_layers_that_are_coupled_backwards_are_described(neurons: str) -> None:
    wiring = tap_withdrawal()
    assert np.tril(wiring.recurrent, -1).any()
    encoder = [wiring.sensory_count]
    agrees(cases.make_policy(neurons=neurons, wiring={"kind": "tap_withdrawal"}, encoder=encoder))


@pytest.mark.parametrize("neurons", ["cfc", "gru", "lstm", "ltc", "ctrnn", "lrc"])
def test_layers_without_synapses_are_described(neurons: str) -> None:
    sensory, recurrent = np.zeros((5, 6), np.int8), np.zeros((6, 6), np.int8)
    sensory[0, 2] = 1
    wiring = Wiring(sensory, recurrent, 2, (("a b", 2), ("ä", 2), ("motor", 2)))
    spec = {"kind": "explicit", "wiring": wiring.to_dict()}
    agrees(cases.make_policy(neurons=neurons, wiring=spec))


def test_noise_of_zeros_gives_the_most_likely_action_and_others_the_policy_s_samples() -> None:
    policy = cases.make_policy()
    description = describe_policy(policy, sampled=True)
    assert description.action.noise == 3
    noisy, plain = Interpreter(description), Interpreter(describe_policy(policy))
    observation, elapsed, _ = cases.record(policy, 1)[0]
    seen = cases.flat(observation)
    expected = plain.step(seen, elapsed)
    np.testing.assert_array_equal(noisy.step(seen, elapsed, np.zeros(3)), expected)
    torch.manual_seed(3)
    action, _ = policy.predict(observation, None, np.array([True]), deterministic=False)
    torch.manual_seed(3)
    noisy.reset()
    sampled = noisy.step(seen, elapsed, torch.randn(1, 3).numpy()[0])
    np.testing.assert_allclose(sampled, action, atol=1e-5)


def test_gumbel_noise_samples_from_the_policy_s_distribution() -> None:
    policy = cases.make_policy(actions=spaces.Discrete(3))
    interpreter = Interpreter(describe_policy(policy, sampled=True))
    observation, elapsed, _ = cases.record(policy, 1)[0]
    tensors, _ = policy.obs_to_tensor(observation)
    features, times = policy.observe(tensors)
    with torch.no_grad():
        policy.forward(features, times, policy.initial_actor_state(1), torch.ones(1))
    expected = policy.distribution.distribution.probs[0].numpy()
    counts = np.zeros(3)
    for noise in np.random.default_rng(0).gumbel(size=(4000, 3)):
        interpreter.reset()
        counts[int(interpreter.step(cases.flat(observation), elapsed, noise)[0])] += 1
    np.testing.assert_allclose(counts / 4000, expected, atol=0.03)


class Other(CfC):
    """Neurons of a user."""


class OtherPolicy(LiquidPolicy):
    """A policy of a user."""


def test_what_cannot_be_exported_is_named() -> None:
    policy = cases.make_policy()
    policy.actor.circuit.__class__ = Other
    with pytest.raises(ExportError, match="Other neurons cannot be exported, CfC, LTC"):
        describe_policy(policy)
    with pytest.raises(ExportError, match="a OtherPolicy cannot be exported"):
        describe_policy(cases.make_policy(OtherPolicy))
    policy = cases.make_policy(encoder=[4])
    policy.actor.encoder[1] = torch.nn.ELU()
    with pytest.raises(ExportError, match=r"the encoder cannot be exported.*ELU"):
        describe_policy(policy)
    policy = cases.make_policy(encoder=[4])
    policy.actor.encoder[1] = torch.nn.ReLU()
    with pytest.raises(ExportError, match=r"the encoder cannot be exported.*relu"):
        describe_policy(policy)
    policy = cases.make_policy()
    policy.action_net.register_forward_hook(lambda *_: None)
    with pytest.raises(ExportError, match="action_net has hooks"):
        describe_policy(policy)
    policy = cases.make_policy(observations=spaces.Discrete(3, start=1))
    with pytest.raises(ExportError, match="counts from 1"):
        describe_policy(policy)
    policy = cases.make_policy(observations=spaces.MultiDiscrete([3, 4], start=[0, 2]))
    with pytest.raises(ExportError, match=r"counts from \[0 2\]"):
        describe_policy(policy)
    space = spaces.Dict({"motor": cases.VECTOR})
    unnamed = spaces.Dict({"": spaces.Box(-1.0, 1.0, (2,))})
    with pytest.raises(ExportError, match="an observation's key '' cannot be exported"):
        describe_policy(cases.make_policy(observations=unnamed))
    with pytest.raises(ExportError, match="'motor' cannot be exported"):
        describe_policy(cases.make_policy(observations=space))
    space = spaces.Box(-2, 2, (2,), np.int32)
    with pytest.raises(ExportError, match="actions of int32"):
        describe_policy(cases.make_policy(actions=space))


def test_weights_that_are_not_finite_are_named_where_they_act() -> None:
    policy = cases.make_policy()
    torch.nn.init.constant_(policy.critic.head[1].weight, torch.nan)
    describe_policy(policy)  # the critic is not exported
    with torch.no_grad():
        policy.action_net.bias[0] = torch.inf
    with pytest.raises(ExportError, match=r"action_net.bias of the policy .* 1 of its \d numbers"):
        describe_policy(policy)
