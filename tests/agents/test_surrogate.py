"""Training with the fused passes is training with autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from liquid_control import LiquidPPO
from liquid_control.kernels import extension
from liquid_control.kernels.learner import Learner
from liquid_control.policies.fused import FusedPolicy
from liquid_control.policies.options import CRITICS
from tests.agents.scripted import ALIGNED, LONG, WITHIN, Scripted, Tick
from tests.policies.conftest import ACTIONS

pytestmark = [
    pytest.mark.skipif(extension.load() is None, reason="no compiled kernels"),
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
]


CIRCUIT = {"kind": "auto_ncp", "neurons": 12}


def learn(env: Any, **options: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any], LiquidPPO]:
    """Train for one iteration; return weights, log and agent."""
    model = LiquidPPO(
        "LiquidPolicy",
        env,
        n_steps=12,
        batch_size=8,
        sequence_length=4,
        seed=0,
        device="cpu",
        **{"n_epochs": 2, "policy_kwargs": {"wiring": CIRCUIT}} | options,
    )
    model.learn(12 * model.n_envs)
    weights = {name: each.detach() for name, each in model.policy.named_parameters()}
    return weights, dict(model.logger.name_to_value), model


def assert_same_training(monkeypatch: pytest.MonkeyPatch, env: Any, **options: Any) -> None:
    weights, log, model = learn(env(), **options)
    assert FusedPolicy.of(model.policy) is not None
    monkeypatch.setattr(FusedPolicy, "of", lambda policy: None)
    monkeypatch.setattr(model.policy.optimizer.__class__, "memory", lambda self: None)
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


IN_ONE_CALL: dict[str, dict[str, Any]] = {
    **{critic: {"policy_kwargs": {"critic": critic}} for critic in CRITICS},
    "lstm": {"policy_kwargs": {"neurons": "lstm"}},
    "memory": {"policy_kwargs": {"neuron_kwargs": {"memory": "lstm"}, "encoder": None}},
    "readout": {"policy_kwargs": {"neuron_kwargs": {"plasticity": "readout"}}},
    "derivatives": {"policy_kwargs": {"derivatives": [0.0], "critic": "twin", "encoder": [8]}},
    "ltc": {
        "policy_kwargs": {
            "neurons": "ltc",
            "neuron_kwargs": {"input_mapping": None, "output_mapping": None},
        }
    },
    "options": {"clip_range_vf": 0.1, "ent_coef": 0.1, "normalize_advantage": False},
    "raw observations": {"normalize_observations": False, "max_grad_norm": 0.01},
    "stopped": {"target_kl": 1e-6},
    "stopped late": {"target_kl": 2e-4, "n_epochs": 9},
}


@pytest.mark.parametrize("options", IN_ONE_CALL.values(), ids=IN_ONE_CALL)
def test_an_epoch_in_one_call_does_what_its_updates_do_one_by_one(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Bit for bit, and the gradients as well. The last minibatch of an epoch is smaller."""
    policy = {"wiring": CIRCUIT} | options.get("policy_kwargs", {})
    calls: list[Learner] = []
    learn_in_kernels = Learner.learn

    def counted(learner: Learner, *arguments: Any) -> Any:
        calls.append(learner)
        return learn_in_kernels(learner, *arguments)

    def run() -> tuple[dict[str, torch.Tensor], dict[str, Any], list[torch.Tensor | None]]:
        env = Scripted.playing([WITHIN, ALIGNED, LONG])
        *_, model = learn(env, **options | {"policy_kwargs": policy})
        model.learn(12 * model.n_envs, reset_num_timesteps=False)
        log = dict(model.logger.name_to_value)
        log = {name: number for name, number in log.items() if name.startswith("train/")}
        state = {name: each.clone() for name, each in model.policy.state_dict().items()}
        return state, log, [weight.grad for weight in model.policy.parameters()]

    monkeypatch.setattr(Learner, "learn", counted)
    weights, log, gradients = run()
    assert calls
    monkeypatch.setattr(FusedPolicy, "learner", lambda _: None)
    calls.clear()
    expected, expected_log, expected_gradients = run()
    assert not calls
    for name, each in weights.items():
        assert torch.equal(each, expected[name]), name
    assert log == expected_log
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert (gradient is None) == (other is None)
        assert gradient is None or other is None or torch.equal(gradient, other)


@pytest.mark.parametrize("critic", CRITICS)
def test_an_epoch_gives_the_same_bits_with_any_number_of_threads(critic: str) -> None:
    def trained(threads: int) -> dict[str, torch.Tensor]:
        env = Scripted.playing([WITHIN, ALIGNED, LONG])
        *_, model = learn(env, policy_kwargs={"critic": critic, "encoder": [5]})
        torch.set_num_threads(threads)
        try:
            model.train()
            return dict(model.policy.state_dict())
        finally:
            torch.set_num_threads(1)

    torch.testing.assert_close(trained(1), trained(2), rtol=0, atol=0)


@pytest.mark.parametrize("field", ["returns", "advantages", "log_prob"])
def test_an_epoch_in_one_call_stops_where_a_loss_is_not_finite(field: str) -> None:
    *_, model = learn(Scripted.playing([WITHIN, ALIGNED, LONG]))
    fused = FusedPolicy.of(model.policy)
    assert fused is not None
    assert fused.learner() is not None
    getattr(model.rollout_buffer.rollout, field)[3, 1] = torch.nan
    before = [weight.clone() for weight in model.policy.parameters()]
    with pytest.raises(ValueError, match="the loss of update 3 is nan"):
        model.train()
    assert all(map(torch.equal, before, model.policy.parameters()))


def test_a_hook_of_the_optimizer_is_called_at_every_update() -> None:
    *_, model = learn(Scripted.playing([WITHIN, ALIGNED, LONG]))
    calls: list[int] = []
    model.policy.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    model.train()
    assert len(calls) >= 2 * 5


@pytest.mark.parametrize("name", ["_loss", "_step"])
def test_a_replaced_method_is_called_at_every_update(name: str) -> None:
    *_, model = learn(Scripted.playing([WITHIN, ALIGNED, LONG]))
    method, calls = getattr(model, name), []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return method(*arguments)

    setattr(model, name, counted)
    model.train()
    assert len(calls) == 2 * 5


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
