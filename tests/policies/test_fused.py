"""A fused policy computes what autograd does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from liquid_control import LiquidPolicy
from liquid_control.kernels import extension
from liquid_control.neurons import CTRNN, GRU, LRC, NEURONS
from liquid_control.policies.fused import FusedPolicy, why_not_fused
from liquid_control.policies.networks import TwinCritic
from liquid_control.policies.options import CRITICS
from tests.policies.conftest import ACTIONS, PLAIN, draw, make_policy

pytestmark = pytest.mark.skipif(extension.load() is None, reason="no compiled kernels")

STEPS, BATCH = 7, 5


def sequences(policy: LiquidPolicy) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, elapsed times, a state and sparse resets."""
    torch.manual_seed(1)
    return (
        torch.randn(STEPS, BATCH, 3),
        policy.nominal_interval * (0.2 + 1.8 * torch.rand(STEPS, BATCH)),
        torch.rand(BATCH, policy.state_size).to(policy.action_net.weight.dtype) - 0.5,
        torch.rand(STEPS, BATCH) < 0.2,
    )


def by_autograd(policy: LiquidPolicy) -> tuple[Tensor, Tensor]:
    motor, values, _ = policy.unroll(*sequences(policy))
    return policy.action_net(motor.flatten(0, 1)), values.reshape(-1, 1)


def gradients(policy: LiquidPolicy) -> dict[str, Tensor]:
    return {
        name: weight.grad.clone()
        for name, weight in policy.named_parameters()
        if weight.grad is not None and name != "log_std"
    }


def assert_agree(policy: LiquidPolicy, fused: FusedPolicy) -> None:
    """Compare the results, and the gradients of a random weighing of them."""
    policy.zero_grad()
    expected = by_autograd(policy)
    weighing = [torch.randn_like(each) for each in expected]
    torch.autograd.backward(expected, weighing)
    wanted = gradients(policy)
    policy.zero_grad()
    found = fused.evaluate(*sequences(policy))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-4, atol=1e-5)
    fused.backward(*weighing)
    own = gradients(policy)
    assert own.keys() == wanted.keys()
    for name, gradient in own.items():
        scale = wanted[name].abs().max().item()
        torch.testing.assert_close(
            gradient, wanted[name], rtol=1e-3, atol=1e-4 * scale, msg=lambda text, n=name: n + text
        )
    assert scale > 0


def assert_acts_alike(policy: LiquidPolicy, fused: FusedPolicy) -> None:
    """Act for several steps, with the same noise, from the states that come of it.

    Observations come in the order of Fortran as well: an environment may return them so.
    """
    features, elapsed_time, state, starts = sequences(policy)
    features = features.transpose(1, 2).contiguous().transpose(1, 2)
    states = [policy.actor_part(state)] * 2
    for step in zip(features, elapsed_time, starts, strict=True):
        before, acted = torch.get_rng_state(), []
        for each, act in enumerate((policy, fused.act)):
            torch.set_rng_state(before)
            with torch.no_grad():
                actions, states[each] = act(*step[:2], states[each], step[2])
            acted.append(actions)
        torch.testing.assert_close(*acted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


def assert_chooses_alike(policy: LiquidPolicy, fused: FusedPolicy) -> None:
    """Act in one call for several steps, with the same noise."""
    features, elapsed_time, state, starts = sequences(policy)
    state = policy.actor_part(state)
    for step in zip(features, elapsed_time, starts, strict=True):
        before = torch.get_rng_state()
        with torch.no_grad():
            actions, after = policy(*step[:2], state, step[2])
        torch.set_rng_state(before)
        acted = fused.choose(*step[:2], state, step[2])
        assert acted is not None
        state = acted.state
        torch.testing.assert_close(acted.actions, actions, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state, after, rtol=1e-4, atol=1e-5)
        bounded = acted.bounded.numpy()
        torch.testing.assert_close(bounded, policy.for_env(acted.actions), rtol=0, atol=0)


OPTIONS: dict[str, dict[str, Any]] = {
    "cfc": {"neuron_kwargs": {}},
    "cfc pure": {"neuron_kwargs": {"mode": "pure"}},
    "cfc with memory": {"neuron_kwargs": {"memory": "lstm"}},
    "ltc without mappings": {
        "neurons": "ltc",
        "neuron_kwargs": {"input_mapping": None, "output_mapping": None},
    },
    "cfc with mapping": {"neuron_kwargs": {"output_mapping": "affine"}},
    **{f"{each} alone": {"neurons": each, "encoder": None} for each in NEURONS},
    **{each: {"neurons": each} for each in NEURONS},
    "frozen": {"neuron_kwargs": {"plasticity": "readout"}},
}


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_results_and_gradients_agree(options: dict[str, Any], critic: str) -> None:
    policy = make_policy(PLAIN, critic=critic, **options)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    assert_acts_alike(policy, fused)
    if fused.can_choose:
        assert_chooses_alike(policy, fused)
    assert_agree(policy, fused)


def test_which_circuits_act_in_one_call() -> None:
    """Those whose parameters are the kernels', and that map no motor neurons."""
    grouped = set()
    for name in NEURONS:
        fused = FusedPolicy.of(make_policy(PLAIN, neurons=name))
        assert fused is not None
        if fused.can_choose:
            grouped.add(name)
    assert grouped == {"cfc", "lstm"}


def test_weights_may_move_in_memory_between_two_steps() -> None:
    policy = make_policy(PLAIN)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    assert policy.log_std is not None
    for weight in (policy.log_std, *policy.actor.parameters(), *policy.action_net.parameters()):
        weight.data = 0.5 * weight.data
    assert_chooses_alike(policy, fused)
    policy.log_std = nn.Parameter(torch.full_like(policy.log_std, -2.0))
    assert_chooses_alike(policy, fused)


def test_episode_starts_may_be_numbers() -> None:
    policy = make_policy(PLAIN)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    features, elapsed_time, state, starts = (each[0] for each in sequences(policy))
    state = torch.rand(BATCH, policy.actor_circuit.state_size)
    starts = torch.tensor([True, False, True, False, False])
    states = []
    for each in (starts, starts.long(), starts.double(), starts.repeat_interleave(2)[::2]):
        acted = fused.choose(features, elapsed_time, state, each)
        assert acted is not None
        states.append(acted.state)
    assert all(torch.equal(each, states[0]) for each in states)


def test_rows_that_do_not_fit_are_left_to_pytorch() -> None:
    policy = make_policy(PLAIN)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    features, elapsed_time, _, starts = (each[0] for each in sequences(policy))
    given = features, elapsed_time, policy.initial_actor_state(BATCH), starts
    assert fused.choose(*given) is not None
    for index, each in enumerate(given):
        for wrong in (each[:-1], each[:, :-1] if each.dim() == 2 else each[:, None]):
            assert fused.choose(*given[:index], wrong, *given[index + 1 :]) is None


@pytest.mark.parametrize("place", ["features", "elapsed_time", "weights"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e9])
def test_what_must_be_rejected_is_not_acted_on(place: str, number: float) -> None:
    policy = make_policy(PLAIN, log_std_init=0.0)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    features, elapsed_time, state, starts = (each[0] for each in sequences(policy))
    state, starts = policy.initial_actor_state(BATCH), starts.expand(BATCH).contiguous()
    assert fused.choose(features, elapsed_time, state, starts) is not None
    if place == "features":
        features[-1, -1] = number
    elif place == "elapsed_time":
        elapsed_time[-1] = number
    else:
        with torch.no_grad():
            policy.action_net.bias[-1] = number
    is_fine = number == -1e9 and place != "elapsed_time"
    assert (fused.choose(features, elapsed_time, state, starts) is not None) == is_fine


@pytest.mark.parametrize("options", [{}, {"derivatives": [0.0]}], ids=["", "with derivatives"])
@pytest.mark.parametrize("key", ["privileged", "action_mask"])
def test_it_acts_alike_on_keys_that_its_circuit_does_not_see(
    key: str, options: dict[str, Any]
) -> None:
    masked = key == "action_mask"
    part = spaces.MultiBinary(4) if masked else spaces.Box(-1.0, 1.0, (2,))
    observations = spaces.Dict({"observation": PLAIN, key: part})
    policy = make_policy(observations, ACTIONS["discrete" if masked else "box"], **options)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    state, starts = policy.initial_actor_state(BATCH), torch.ones(BATCH, dtype=torch.bool)
    before, states, acted = (None, starts), [state, state], []
    for step in range(3):
        drawn = {
            name: torch.as_tensor(each[0])
            for name, each in draw(observations, 1, BATCH, step).items()
        }
        if masked:
            drawn[key][:, step] = 1
        features, elapsed_time = policy.observe(drawn, *before)
        acted = []
        for each, act in enumerate((policy, fused.act)):
            torch.manual_seed(step)
            with torch.no_grad():
                actions, states[each] = act(features, elapsed_time, states[each], starts)
            acted.append(actions)
        torch.testing.assert_close(*acted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)
        starts = torch.zeros(BATCH, dtype=torch.bool)
        before = features, starts


def through_data(policy: LiquidPolicy) -> None:
    for weight in policy.parameters():
        weight.data = 0.9 * weight.data


def in_place(policy: LiquidPolicy) -> None:
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(0.9)


@pytest.mark.parametrize("neurons", NEURONS)
@pytest.mark.parametrize("change", [in_place, through_data], ids=lambda each: each.__name__)
def test_the_next_pass_uses_the_values_of_now(
    change: Callable[[LiquidPolicy], None], neurons: str
) -> None:
    policy = make_policy(PLAIN, neurons=neurons)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    assert_agree(policy, fused)
    change(policy)
    assert_agree(policy, fused)


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("options", [*OPTIONS.values(), {"derivatives": [0.0]}])
def test_states_between_sequences_agree(options: dict[str, Any], critic: str) -> None:
    policy, length = make_policy(PLAIN, critic=critic, **options), 2
    features, elapsed_time, state, starts = sequences(policy)
    if policy.derivatives.size:
        features = torch.randn(STEPS, BATCH, policy.observed)
    steps = slice(STEPS // length * length)
    columns = features[steps], elapsed_time[steps], state, starts[steps]
    with torch.no_grad():
        expected = policy.states(*columns, length)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    seen = fused.seen(features[steps], elapsed_time[steps], starts[steps])
    found = fused.states(seen, features[steps], state, length)
    circuit = policy.actor_circuit
    if isinstance(circuit, CTRNN | GRU | LRC) or getattr(circuit, "mode", None) == "pure":
        assert found is None
        return
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("critic", CRITICS)
def test_inputs_may_be_computed_before(critic: str) -> None:
    policy = make_policy(PLAIN, critic=critic)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    features, elapsed_time, state, starts = sequences(policy)
    seen = fused.seen(features, elapsed_time, starts)
    known = seen.features.flatten(0, 1), seen.clock.flatten(0, 1)
    results = [
        [each.clone() for each in fused.evaluate(features, elapsed_time, state, starts, inputs)]
        for inputs in ((), known)
    ]
    assert all(map(torch.equal, *results))


def test_a_pass_without_a_backward_pass_changes_no_gradient() -> None:
    policy = make_policy(PLAIN, critic="twin")
    fused = FusedPolicy.of(policy)
    assert fused is not None
    assert policy.log_std is not None
    actions, values = fused.evaluate(*sequences(policy))
    fused.backward(actions.clone(), values.clone(), torch.ones_like(policy.log_std))
    before = [weight.grad.clone() for weight in policy.parameters() if weight.grad is not None]
    in_place(policy)
    fused.evaluate(*sequences(policy))
    after = [weight.grad for weight in policy.parameters() if weight.grad is not None]
    assert len(after) == len(list(policy.parameters()))
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_every_action_space(actions: Any) -> None:
    policy = make_policy(PLAIN, actions)
    fused = FusedPolicy.of(policy)
    assert fused is not None
    assert_acts_alike(policy, fused)
    assert_agree(policy, fused)


class Other(LiquidPolicy):
    """A subclass may compute something else."""


def hook(policy: LiquidPolicy) -> None:
    policy.critic.head.register_forward_hook(lambda *_: None)


def hook_of_a_weight(policy: LiquidPolicy) -> None:
    policy.action_net.weight.register_hook(lambda gradient: 0 * gradient)


def pytorch(policy: LiquidPolicy) -> None:
    policy.actor_circuit.backend = "pytorch"


def another_head(policy: LiquidPolicy) -> None:
    policy.action_net = nn.Sequential(policy.action_net, nn.Softplus())


class Residual(nn.Sequential):
    """A stack that adds something of its own."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 3 * super().forward(inputs) + 1  # type: ignore[no-any-return]


def residual_encoder(policy: LiquidPolicy) -> None:
    policy.actor.encoder = Residual(*policy.actor.encoder)  # type: ignore[misc]


class OtherCritic(TwinCritic):
    """A subclass may compute something else."""


def another_critic(policy: LiquidPolicy) -> None:
    policy.critic.__class__ = OtherCritic


def shared_weights(policy: LiquidPolicy) -> None:
    policy.critic.body.encoder = policy.actor.encoder  # type: ignore[union-attr]


def another_distribution(policy: LiquidPolicy) -> None:
    policy.distribution = SquashedDiagGaussianDistribution(2)


def hook_after_a_gradient(policy: LiquidPolicy) -> None:
    policy.action_net.weight.register_post_accumulate_grad_hook(lambda _: None)


def own_forward(policy: LiquidPolicy) -> None:
    policy.action_net.forward = lambda inputs: inputs  # type: ignore[method-assign]


def own_method(policy: LiquidPolicy) -> None:
    policy.evaluate_actions = lambda *_: None  # type: ignore[method-assign,assignment]


def own_privacy(policy: LiquidPolicy) -> None:
    policy._for_actor = lambda features: 0 * features  # type: ignore[method-assign]


def half(policy: LiquidPolicy) -> None:
    policy.bfloat16()


def subclass(policy: LiquidPolicy) -> None:
    policy.__class__ = Other


@pytest.mark.parametrize(
    "change",
    [
        hook,
        hook_of_a_weight,
        hook_after_a_gradient,
        pytorch,
        another_head,
        residual_encoder,
        another_critic,
        another_distribution,
        shared_weights,
        own_forward,
        own_method,
        own_privacy,
        half,
        subclass,
    ],
    ids=lambda each: each.__name__,
)
def test_autograd_does_the_rest(change: Callable[[LiquidPolicy], None]) -> None:
    policy = make_policy(PLAIN, critic="twin")
    assert FusedPolicy.of(policy) is not None
    change(policy)
    assert FusedPolicy.of(policy) is None
    assert why_not_fused(policy)


def test_hooks_of_all_modules_are_called() -> None:
    policy = make_policy(PLAIN)
    handle = register_module_forward_hook(lambda *_: None)
    try:
        assert why_not_fused(policy) == "a module has hooks"
    finally:
        handle.remove()
    assert why_not_fused(policy) is None


@pytest.mark.parametrize("critic", CRITICS)
def test_double_precision_agrees_on_single_precision_inputs(critic: str) -> None:
    policy = make_policy(PLAIN, critic=critic).double()
    fused = FusedPolicy.of(policy)
    assert fused is not None
    assert_acts_alike(policy, fused)
    assert_agree(policy, fused)


@pytest.mark.parametrize(
    "options",
    [
        {"critic_layers": [600]},
        {"encoder": [600]},
        {"neurons": "ctrnn", "neuron_kwargs": {"input_mapping": "linear"}},
        {"neurons": "ltc", "neuron_kwargs": {"solver": "rk4"}},
    ],
    ids=str,
)
def test_autograd_does_what_the_kernels_do_not(options: dict[str, Any]) -> None:
    assert FusedPolicy.of(make_policy(PLAIN, **options)) is None
