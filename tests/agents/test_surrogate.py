"""Training with the fused passes is training with autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from liquid_control import LiquidPPO
from liquid_control.kernels import extension
from liquid_control.policies.fused import FusedPolicy
from liquid_control.policies.options import CRITICS
from tests.agents.scripted import ALIGNED, LONG, WITHIN, Scripted, Tick
from tests.policies.conftest import ACTIONS

pytestmark = [
    pytest.mark.skipif(extension.load() is None, reason="no compiled kernels"),
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
]


def learn(env: Any, **options: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any], LiquidPPO]:
    """Train for one iteration; return weights, log and agent."""
    model = LiquidPPO(
        "LiquidPolicy",
        env,
        n_steps=12,
        batch_size=8,
        sequence_length=4,
        n_epochs=2,
        seed=0,
        device="cpu",
        **{"policy_kwargs": {"wiring": {"kind": "auto_ncp", "neurons": 12}}} | options,
    )
    model.learn(12 * model.n_envs)
    weights = {name: each.detach() for name, each in model.policy.named_parameters()}
    return weights, dict(model.logger.name_to_value), model


def assert_same_training(monkeypatch: pytest.MonkeyPatch, env: Any, **options: Any) -> None:
    weights, log, model = learn(env(), **options)
    assert FusedPolicy.of(model.policy) is not None
    monkeypatch.setattr(FusedPolicy, "of", lambda policy: None)
    monkeypatch.setattr(model.policy.optimizer.__class__, "_states", lambda self: None)
    expected, expected_log, _ = learn(env(), **options)
    for name, each in weights.items():
        torch.testing.assert_close(each, expected[name], rtol=1e-3, atol=1e-5)
    for name, number in log.items():
        if name.startswith("train/"):
            assert number == pytest.approx(expected_log[name], rel=1e-3, abs=1e-5), name
    assert log.keys() == expected_log.keys()


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_every_action_space(monkeypatch: pytest.MonkeyPatch, space: Any) -> None:
    def env() -> Tick:
        tick = Tick()
        tick.action_space = space
        return tick

    assert_same_training(monkeypatch, env)


@pytest.mark.parametrize(
    "options",
    [
        *({"policy_kwargs": {"critic": critic}} for critic in CRITICS),
        {"clip_range_vf": 0.1, "vf_coef": 2.0, "ent_coef": 0.1},
        {"normalize_advantage": False, "max_grad_norm": 1e9},
        {"recurrent_learning_rate": 0.0, "clip_range": 0.01},
        {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}},
        {"policy_kwargs": {"neurons": "ltc"}, "target_kl": 0.02},
    ],
    ids=str,
)
def test_every_option(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """The last minibatch is smaller: nine sequences come by twos."""
    assert_same_training(monkeypatch, lambda: Scripted.playing([WITHIN, ALIGNED, LONG]), **options)


def test_a_user_may_assign_another_optimizer() -> None:
    model = LiquidPPO(
        "LiquidPolicy", "CartPole-v1", n_steps=16, batch_size=16, n_epochs=1, device="cpu"
    )
    weights = list(model.policy.parameters())
    model.policy.optimizer = torch.optim.SGD(weights, lr=0.1)  # type: ignore[assignment]
    before = weights[0].detach().clone()
    model.learn(16)
    assert not torch.equal(weights[0], before)


def test_a_talkative_agent_says_why_it_does_not_use_the_kernels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"}
    for backend in ("auto", "pytorch"):
        model = LiquidPPO("LiquidPolicy", "CartPole-v1", verbose=1, **options)
        model.policy.actor_circuit.backend = backend
        model.learn(16)
        said = "Updates run in PyTorch, not in the compiled kernels: the kernels do not support"
        assert (said in capsys.readouterr().out) == (backend == "pytorch")
