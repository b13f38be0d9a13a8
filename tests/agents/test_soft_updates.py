"""Updates of LiquidSAC in the kernels are those of autograd."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from liquid_control import LiquidSAC
from liquid_control.agents.soft_updates import SoftUpdates
from liquid_control.kernels import extension
from liquid_control.kernels.soft_learner import SoftLearner
from liquid_control.policies.fused_soft import FusedSoftPolicy, why_not_fused
from tests.agents.scripted import ALIGNED, LONG, SPACE, WITHIN, Scripted

pytestmark = pytest.mark.skipif(extension.load() is None, reason="no compiled kernels")

LENGTH = 5
SCRIPTS = [WITHIN, ALIGNED, LONG]


class Privileged(Scripted):
    """The critics see the second feature, and the actor does not."""

    observation_space = spaces.Dict(
        {
            "observation": spaces.Box(-np.inf, np.inf, (1,)),
            "privileged": spaces.Box(-np.inf, np.inf, (1,)),
            "elapsed_time": SPACE["elapsed_time"],
        }
    )

    def reset(self, **options: Any) -> Any:
        seen, info = super().reset(**options)
        return self._split(seen), info

    def step(self, action: Any) -> Any:
        seen, *rest = super().step(action)
        return self._split(seen), *rest

    @staticmethod
    def _split(seen: Any) -> Any:
        first, second = np.split(seen["observation"], 2)
        return seen | {"observation": first, "privileged": second}


def build(env: Any = None, **options: Any) -> LiquidSAC:
    """A small agent that has made the first updates, in PyTorch."""
    policy_kwargs = {
        "wiring": {"kind": "auto_ncp", "neurons": 10},
        "critic_layers": [19, 9],
        "encoder": [7],
    } | options.pop("policy_kwargs", {})
    options = {"burn_in": 2, "learning_rate": 1e-2, "gradient_steps": 2} | options
    model = LiquidSAC(
        "LiquidPolicy",
        Scripted.playing(SCRIPTS) if env is None else env,
        buffer_size=2000,
        learning_starts=63,
        batch_size=26 * LENGTH,
        sequence_length=LENGTH,
        seed=0,
        device="cpu",
        policy_kwargs=policy_kwargs,
        **options,
    )
    model.learn(66)
    assert model._n_updates > 0
    return model


def updated(env: Any, in_kernels: bool, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return gradients of an update, and weights and log after more of them."""
    model = build(None if env is None else env(), **options)
    if not in_kernels:
        model._in_kernels.begin = lambda policy: False  # type: ignore[method-assign]
    assert model._in_kernels.begin(model.policy) == in_kernels
    model.train(1, model.batch_size)
    gradients = {
        name: None if each.grad is None else each.grad.clone()
        for name, each in model.policy.named_parameters()
    }
    model.train(3, model.batch_size)
    log = {k: v for k, v in model.logger.name_to_value.items() if k.startswith("train")}
    log["log_ent_coef"] = 0.0 if model.log_ent_coef is None else model.log_ent_coef.item()
    return gradients, {**model.policy.state_dict(), **log}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"policy_kwargs": {"neurons": "lstm"}},
        {"policy_kwargs": {"neuron_kwargs": {"memory": "lstm"}}},
        {"policy_kwargs": {"wiring": {"kind": "dense", "neurons": 8}, "encoder": []}},
        {"policy_kwargs": {"critic_wiring": {"kind": "auto_ncp", "neurons": 14}}},
        {"policy_kwargs": {"n_critics": 1, "critic_layers": [33]}},
        {"policy_kwargs": {"n_critics": 3, "critic_layers": [16, 20, 5]}},
        {"policy_kwargs": {"actor_layers": [6, 5]}},
        {"policy_kwargs": {"derivatives": [0.0]}},
        {"policy_kwargs": {"neuron_kwargs": {"plasticity": "readout"}}},
        {"burn_in": 0, "gamma": 0.9, "tau": 0.3, "target_update_interval": 2},
        {"ent_coef": 0.2},
        {"ent_coef": "auto_0.5", "target_entropy": 1.0, "recurrent_learning_rate": 1e-3},
        {"normalize_observations": False},
    ],
    ids=str,
)
def test_every_option(options: dict[str, Any]) -> None:
    assert_same_updates(None, options)


def test_critics_that_see_more() -> None:
    assert_same_updates(lambda: Privileged.playing(SCRIPTS), {})


def assert_same_updates(env: Any, options: dict[str, Any]) -> None:
    gradients, after = updated(env, in_kernels=True, **options)
    expected, expected_after = updated(env, in_kernels=False, **options)
    assert gradients.keys() == expected.keys()
    for name, each in gradients.items():
        assert_close(each, expected[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    assert after.keys() == expected_after.keys()
    for name, each in after.items():
        found, wanted = torch.as_tensor(each), torch.as_tensor(expected_after[name])
        assert_close(found, wanted, rtol=1e-3, atol=2e-4)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    def trained(threads: int) -> dict[str, torch.Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            model = build()
            model.train(3, model.batch_size)
            assert torch.get_num_threads() == threads
            return model.policy.state_dict()
        finally:
            torch.set_num_threads(before)

    assert_close(trained(1), trained(3), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("field", "reported"), [("rewards", "loss"), ("features", "loss"), ("actions", "loss")]
)
def test_an_update_of_numbers_that_are_not_finite_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, field: str, reported: str
) -> None:
    model = build()
    sample = model.replay_buffer.sample

    def broken(count: int) -> Any:
        sequences = sample(count)
        getattr(sequences, field)[3, 1] = torch.nan
        return sequences

    monkeypatch.setattr(model.replay_buffer, "sample", broken)
    before = {name: each.clone() for name, each in model.policy.state_dict().items()}
    with pytest.raises(ValueError, match=f"the {reported} of update {model._n_updates} is nan"):
        model.train(2, model.batch_size)
    assert_close(model.policy.state_dict(), before, rtol=0, atol=0)


def test_noise_is_in_single_precision_whatever_the_default_is() -> None:
    def trained(default: torch.dtype) -> dict[str, torch.Tensor]:
        model = build()
        torch.manual_seed(0)
        torch.set_default_dtype(default)
        try:
            assert model._in_kernels.begin(model.policy)
            model.train(1, model.batch_size)
        finally:
            torch.set_default_dtype(torch.float32)
        return model.policy.state_dict()

    assert_close(trained(torch.float64), trained(torch.float32))


def test_a_minibatch_without_a_sequence_is_refused() -> None:
    model = build()
    with pytest.raises(ValueError, match=f"got 0; a minibatch needs at least {LENGTH} steps"):
        model.train(1, batch_size=LENGTH - 1)


def test_gradients_are_left_alone_where_pytorch_makes_the_steps() -> None:
    model = build(policy_kwargs={"optimizer_kwargs": {"weight_decay": 0.1}})
    model.policy.optimizer.zero_grad()
    assert not model._in_kernels.begin(model.policy)
    assert all(each.grad is None for each in model.policy.parameters())


def test_weights_that_a_user_moves_in_memory_are_the_ones_that_learn() -> None:
    model = build()
    model.train(1, model.batch_size)
    assert model._in_kernels._fused is not None
    learner = model._in_kernels._fused.learner
    moved = next(model.actor.head.parameters())
    moved.data = moved.data.clone()
    before = moved.detach().clone()
    model.train(1, model.batch_size)
    assert model._in_kernels._fused.learner is not learner
    assert (moved != before).any()


def test_copies_of_the_updates_have_no_addresses() -> None:
    model = build()
    assert model._in_kernels.begin(model.policy)
    copied = deepcopy(model._in_kernels)
    assert vars(copied).keys() == vars(SoftUpdates()).keys()
    assert copied._fused is None
    assert copied.begin(model.policy)


@pytest.mark.parametrize("name", ["_update", "_losses"])
def test_a_replaced_method_is_called_at_every_update(name: str) -> None:
    model = build()
    method, calls = getattr(model, name), []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return method(*arguments)

    setattr(model, name, counted)
    model.train(3, model.batch_size)
    assert len(calls) == 3


def test_a_hook_of_the_optimizer_is_called_at_every_update() -> None:
    model, calls = build(), []
    model.policy.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    model.train(3, model.batch_size)
    assert len(calls) == 3


def test_only_what_the_kernels_support_is_fused() -> None:
    def reason(**policy_kwargs: Any) -> str:
        model = build(policy_kwargs=policy_kwargs)
        assert FusedSoftPolicy.of(model.policy) is None
        return why_not_fused(model.policy) or ""

    assert reason(share_encoder=True) == "actor and critics share an encoder"
    assert reason(neurons="ltc") == "LTC neurons map the motor neurons"
    assert reason(neurons="gru") == "GRU neurons compute weights from others"
    assert "layer of its action head or its critics" in reason(critic_layers=[600])
    model = build()
    model.policy.critic.register_forward_hook(lambda *_: None)
    assert why_not_fused(model.policy) == "a module has hooks"
    model = build()
    model.policy.double()
    assert why_not_fused(model.policy) == "its parameters are not float32"


def test_an_update_is_one_call_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls, learn = build(), [], SoftLearner.learn

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return learn(*arguments)

    monkeypatch.setattr(SoftLearner, "learn", counted)
    model.train(3, model.batch_size)
    assert len(calls) == 3


def test_a_talkative_agent_says_why_it_does_not_use_the_kernels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for neurons in ("cfc", "ltc"):
        build(policy_kwargs={"neurons": neurons}, verbose=1)
        said = "Updates run in PyTorch, not in the compiled kernels alone: LTC neurons"
        assert (said in capsys.readouterr().out) == (neurons == "ltc")
