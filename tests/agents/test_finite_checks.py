"""A number that is not finite changes no weight, wherever it comes up and whatever the neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from liquid_control import LiquidPPO, LiquidSAC, envs

NEURONS = ("cfc", "ltc", "ctrnn", "lstm", "gru")
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
    """Let the next steps tell `value` of the second environment."""

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


BREAKS = {
    "observation of environment 1": broken_step("observation"),
    "elapsed_time of environment 1": broken_step("elapsed_time"),
    "rewards of environment 1": broken_step("rewards"),
    "actions of environment 1": broken_actions,
    "the loss of update": broken_loss,
    "the gradient of update": broken_gradient,
}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(("told", "break_"), BREAKS.items(), ids=BREAKS)
@pytest.mark.parametrize("neurons", NEURONS)
@pytest.mark.parametrize("kind", [LiquidPPO, LiquidSAC])
def test_no_weight_is_changed_and_where_it_was_is_told(
    kind: type[Any], neurons: str, told: str, break_: Callable[[Any, float], None], value: float
) -> None:
    agent = agent_of(kind, neurons).learn(32)
    before = {name: each.clone() for name, each in agent.policy.state_dict().items()}
    break_(agent, value)
    with pytest.raises(ValueError, match=f"{told} .* no weight was changed by it"):
        agent.learn(64, reset_num_timesteps=False)
    for key, each in agent.policy.state_dict().items():
        assert torch.isfinite(each).all(), key
        if "normalizer" not in key:
            assert each.equal(before[key]), key
