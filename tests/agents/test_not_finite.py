"""A loss or a gradient that is not finite changes no weight, whatever the neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.agents.test_saving import ppo, sac

NEURONS = ("cfc", "ltc", "ctrnn", "lstm", "gru")


def broken_loss(agent: Any, value: float) -> None:
    """Let the agent's next losses be `value`."""
    losses = agent._losses if hasattr(agent, "_losses") else agent._loss

    def broken(*arguments: Any) -> Any:
        first, *others = losses(*arguments)
        return (first + value, *others)

    setattr(agent, losses.__name__, broken)


def broken_gradient(agent: Any, value: float) -> None:
    """Let the gradient of one weight be `value`, and the loss what it is."""
    weight = next(each for each in agent.policy.parameters() if each.requires_grad)

    def broken(gradient: Tensor) -> Tensor:
        return torch.full_like(gradient, value)

    weight.register_hook(broken)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("break_", [broken_loss, broken_gradient])
@pytest.mark.parametrize("neurons", NEURONS)
@pytest.mark.parametrize("make", [ppo, sac])
def test_no_weight_is_changed_and_the_update_is_told(
    make: Callable[..., Any],
    neurons: str,
    break_: Callable[[Any, float], None],
    value: float,
) -> None:
    wiring = {"wiring": {"kind": "auto_ncp", "neurons": 8}, "neurons": neurons}
    agent = make(seed=0, policy_kwargs=wiring).learn(48)
    before = {name: each.clone() for name, each in agent.policy.state_dict().items()}
    break_(agent, value)
    name = break_.__name__.removeprefix("broken_")
    with pytest.raises(ValueError, match=f"the {name} of update .* no weight was changed by it"):
        agent.train(1, 16) if make is sac else agent.train()
    for key, each in agent.policy.state_dict().items():
        if "normalizer" not in key:
            assert each.equal(before[key]), key
