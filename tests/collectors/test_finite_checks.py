"""A number that is not finite changes no weight, wherever it comes up and whatever the neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from liquid_control import LiquidPPO, LiquidSAC, envs

NEURONS = ("cfc", "ltc", "ctrnn", "lrc", "lstm", "gru")
SMALL: dict[type[Any], dict[str, Any]] = {
    LiquidPPO: {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    LiquidSAC: {"learning_starts": 16, "batch_size": 16, "sequence_length": 4, "burn_in": 2},
}


def agent_of(kind: type[Any], neurons: str) -> Any:
    interval = envs.Uniform(0.02, 0.08)
    venv = envs.make_vec("InvertedPendulum-v5", 2, interval=interval, seed=0, threads=1)
    policy = {"wiring": {"kind": "auto_ncp", "neurons": 8}, "neurons": neurons}
    return kind("LiquidPolicy", venv, seed=0, policy_kwargs=policy, **SMALL[kind])


def broken_step(part: str) -> Callable[[Any, float], None]:
    """Let the next steps return `value` for the second environment."""

    def break_(agent: Any, value: float) -> None:
        step_wait = agent.env.step_wait

        def broken() -> Any:
            observations, rewards, dones, infos = step_wait()
            (rewards if part == "rewards" else observations[part])[1] = value
            return observations, rewards, dones, infos

        agent.env.step_wait = broken

    return break_


def broken_actions(agent: Any, value: float) -> None:
    """Let the second environment's next actions be `value`."""

    def broken(_: nn.Module, __: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        output[0][1] = value
        return output

    acting = agent.policy.actor if isinstance(agent, LiquidSAC) else agent.policy
    acting.register_forward_hook(broken)


def broken_loss(agent: Any, value: float) -> None:
    """Let the agent's next losses be `value`."""
    losses = agent._losses if isinstance(agent, LiquidSAC) else agent._loss

    def broken(*arguments: Any) -> Any:
        first, *others = losses(*arguments)
        return (first + value, *others)

    setattr(agent, losses.__name__, broken)


def broken_gradient(agent: Any, value: float) -> None:
    """Let the gradient of one weight be `value`, and the loss what it is."""
    weight = next(each for each in agent.policy.parameters() if each.requires_grad)
    weight.register_hook(lambda gradient: torch.full_like(gradient, value))


def huge_observation(agent: Any, value: float) -> None:
    """Let the second environment's next observations overflow in single precision."""
    broken_step("observation")(agent, np.copysign(1e200, value))


BREAKS = {
    "observation of environment 1": broken_step("observation"),
    "observation of environment 1 not finite": huge_observation,
    "elapsed_time of environment 1": broken_step("elapsed_time"),
    "rewards of environment 1": broken_step("rewards"),
    "actions of environment 1": broken_actions,
    "the loss of update": broken_loss,
    "the gradient of update": broken_gradient,
}


def cases() -> Iterator[Any]:
    """Every agent, place and value; neurons take turns, and the rest of them is slow."""
    everywhere = product((LiquidPPO, LiquidSAC), BREAKS, (torch.nan, torch.inf))
    for turn, (kind, quantity, value) in enumerate(everywhere):
        for index, neurons in enumerate(NEURONS):
            marks = () if index == turn % len(NEURONS) else pytest.mark.slow
            name = f"{kind.__name__}-{neurons}-{quantity}-{value}"
            yield pytest.param(kind, neurons, quantity, value, marks=marks, id=name)


@pytest.mark.parametrize(("kind", "neurons", "quantity", "value"), [*cases()])
def test_no_weight_is_changed_and_where_it_was_is_reported(
    kind: type[Any], neurons: str, quantity: str, value: float
) -> None:
    agent = agent_of(kind, neurons).learn(32)
    before = {name: each.clone() for name, each in agent.policy.state_dict().items()}
    BREAKS[quantity](agent, value)
    with pytest.raises(ValueError, match=f"{quantity} .* no weight was changed by it"):
        agent.learn(64, reset_num_timesteps=False)
    for key, each in agent.policy.state_dict().items():
        assert torch.isfinite(each).all(), key
        if "normalizer" not in key:
            assert each.equal(before[key]), key


@pytest.mark.parametrize("rate", [1e38, 1e30])
@pytest.mark.parametrize("kind", [LiquidPPO, LiquidSAC])
def test_updates_that_leave_no_finite_weights_are_undone(
    kind: type[Any], rate: float, tmp_path: Path
) -> None:
    agent = agent_of(kind, "cfc").learn(32)
    before = {name: each.clone() for name, each in agent.policy.named_parameters()}
    agent.lr_schedule = lambda _: rate
    with pytest.raises(ValueError, match=r"update .* weights from before .* resume from the last"):
        agent.learn(64, reset_num_timesteps=False)
    for key, each in agent.policy.named_parameters():
        assert each.equal(before[key]), key
    if kind is LiquidSAC:
        assert torch.isfinite(agent.log_ent_coef).all()
    agent.save(tmp_path / "agent")
    assert kind.load(tmp_path / "agent").num_timesteps > 32


@pytest.mark.parametrize("kind", [LiquidPPO, LiquidSAC])
def test_weights_are_checked_after_each_update(kind: type[Any]) -> None:
    agent = agent_of(kind, "cfc")
    step = agent.policy.optimizer.step

    def broken() -> None:
        step()
        next(agent.policy.parameters()).data.flatten()[-1] = torch.nan

    agent.policy.optimizer.step = broken  # the first step is PyTorch's
    with pytest.raises(ValueError, match=r"update \d+ changed the norm of the weights to nan"):
        agent.learn(64)


@pytest.mark.parametrize("kind", [LiquidPPO, LiquidSAC])
def test_weights_that_are_not_finite_are_not_saved(kind: type[Any], tmp_path: Path) -> None:
    agent = agent_of(kind, "cfc")
    next(agent.policy.actor_circuit.parameters()).data.flatten()[0] = torch.inf
    with pytest.raises(ValueError, match="of policy is not finite, so the agent is not saved"):
        agent.save(tmp_path / "agent")
    assert not list(tmp_path.iterdir())
