"""The state of an Adam optimizer as tensors and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from liquid_control.checkpoints.errors import CheckpointError
from liquid_control.checkpoints.fields import check_like
from liquid_control.checkpoints.sb3_json import without_numpy

MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # of each parameter
AMSGRAD = {"max_exp_avg_sq"}  # further ones


def state_dict(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the state of each parameter as tensors, "<number>.<name>", and the groups as JSON."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, without_numpy(state["param_groups"])


def torch_state_dict(
    tensors: Mapping[str, Tensor], groups: Any, optimizer: Optimizer, what: str
) -> dict[str, Any]:
    """Convert the result of `state_dict` to a PyTorch `state_dict`.

    Args:
        tensors: of the parameters.
        groups: of parameters, with their settings.
        optimizer: an Adam with the same parameters and settings; it is not changed.
        what: the optimizer's name in errors.

    Raises:
        CheckpointError: parameters or settings differ, or a second moment or step is negative.
    """
    own = optimizer.state_dict()["param_groups"]
    if len(groups) != len(own):
        raise CheckpointError(f"its {what} has {len(groups)} groups; expected {len(own)}")
    for group, mine in zip(groups, own, strict=True):
        _check_settings(group, mine, what)
    likes: dict[str, Tensor] = {}
    for group, mine in zip(optimizer.param_groups, own, strict=True):
        moments = MOMENTS | AMSGRAD if mine.get("amsgrad") else MOMENTS
        for number, parameter in zip(mine["params"], group["params"], strict=True):
            if any(f"{number}.{moment}" in tensors for moment in moments):
                likes |= {f"{number}.{moment}": parameter for moment in moments}
                likes[f"{number}.step"] = torch.zeros(())
    check_like(tensors, likes, what)
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, moment = key.split(".")
        if moment != "exp_avg" and (tensor < 0).any():
            raise CheckpointError(f"{key} of its {what} is negative")
        state.setdefault(int(number), {})[moment] = tensor
    rates = [{**mine, "lr": group["lr"]} for group, mine in zip(groups, own, strict=True)]
    return {"state": dict(sorted(state.items())), "param_groups": rates}


def _check_settings(group: Mapping[str, Any], own: Mapping[str, Any], what: str) -> None:
    """Reject saved settings, apart from the learning rate, that differ from the optimizer's."""
    for name, value in group.items():
        is_rate = name == "lr" and type(value) in {int, float} and 0 <= value < math.inf
        given = tuple(value) if name == "betas" else value  # JSON has no tuples
        if not is_rate and (name not in own or given != own[name]):
            raise CheckpointError(f"{name} of its {what} is {value!r}; expected {own.get(name)}")
