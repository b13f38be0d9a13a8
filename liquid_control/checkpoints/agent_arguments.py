"""Convert constructor arguments of agents to JSON and back, and check saved arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from inspect import Parameter, signature
from operator import mul
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq

from liquid_control.checkpoints.errors import CheckpointError
from liquid_control.checkpoints.manifest import dumps
from liquid_control.checkpoints.sb3_json import (
    UNKNOWN,
    schedule_from_json,
    schedule_to_json,
    without_numpy,
)

if TYPE_CHECKING:  # imported when a file is read: it takes a twentieth of PyTorch's time
    from pydantic import TypeAdapter

# Arguments of a constructor that `load` and `resume` pass themselves.
PASSED = {"self", "policy", "env", "device", "_init_setup_model"}
# Arguments that say where an agent runs rather than what it is, or are part of policy_kwargs.
ELSEWHERE = PASSED | {
    "verbose",
    "tensorboard_log",
    "normalize_observations",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
}
LARGEST = torch.finfo(torch.float32).max
CRITIC = "critic_layers"
MOST_MISSING = 2**25  # weights of a critic that is not in the file, of at most `INPUTS` inputs
INPUTS = 1024
NO_SIZES = {
    "seed",
    "nominal_interval",
    "derivatives",
    "critic_history",
}  # of a policy, though they may be integers
VARIADIC = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}


def names_of(agent: type[BaseAlgorithm]) -> set[str]:
    """Return the names of a constructor's arguments, including those passed to its parents."""
    names: set[str] = set()
    for each in agent.__mro__:
        if "__init__" in vars(each):
            parameters = signature(vars(each)["__init__"]).parameters.values()
            kinds = {parameter.name: parameter.kind for parameter in parameters}
            names |= {name for name, kind in kinds.items() if kind not in VARIADIC}
            if Parameter.VAR_KEYWORD not in kinds.values():
                break
    return names


def to_json(value: Any) -> Any:
    """Return an argument as JSON, or `UNKNOWN` if that is impossible."""
    if isinstance(value, TrainFreq):
        return [value.frequency, value.unit.value]
    value = without_numpy(schedule_to_json(value))
    try:
        dumps(value)
    except (TypeError, ValueError):
        return UNKNOWN
    return value


def from_json(value: Any) -> Any:
    """Invert `to_json`."""
    is_train_freq = isinstance(value, list) and len(value) == 2 and value[1] in {"step", "episode"}
    return tuple(value) if is_train_freq else schedule_from_json(value)


def check_types(agent: type[BaseAlgorithm], arguments: Mapping[str, Any]) -> None:
    """Reject saved arguments whose types differ from those the constructor declares."""
    from pydantic import ValidationError

    declared = _declared(agent)
    for name in declared.keys() & arguments.keys():
        try:
            declared[name].validate_python(arguments[name])
        except ValidationError as error:
            value = f"{arguments[name]!r:.80}"
            raise CheckpointError(f"{name} is {value}: {error.errors()[0]['msg']}") from error


@cache
def _declared(agent: type[BaseAlgorithm]) -> dict[str, TypeAdapter[Any]]:
    """Return type adapters for the arguments of an agent's first class in this package."""
    from pydantic import ConfigDict, TypeAdapter

    strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
    ours = next(each for each in agent.__mro__ if each.__module__.startswith("liquid_control."))
    parameters = signature(ours, eval_str=True).parameters.values()
    return {
        each.name: TypeAdapter(each.annotation, config=strict)
        for each in parameters
        if each.name not in ELSEWHERE
    }


def check_numbers(
    arguments: Mapping[str, Any], weights: int, *, without_critics: bool = False
) -> None:
    """Reject numbers beyond single precision, and layers beyond the weights, which fill memory.

    Args:
        arguments: of an agent, as JSON.
        weights: number of those in the file.
        without_critics: whether the critics' weights are not among them.
    """
    for name, number in _numbers(arguments, ""):
        if abs(number) > LARGEST:
            raise CheckpointError(f"{name} is {number}, which is beyond single precision")
    policy = dict(arguments["policy_kwargs"])
    if without_critics:
        sizes = [INPUTS, *(size for _, size in _numbers(policy.pop(CRITIC, None), CRITIC))]
        if (missing := sum(map(mul, sizes, sizes[1:]))) > MOST_MISSING:
            raise CheckpointError(f"{CRITIC} make critics of {missing} weights, which it lacks")
    for name, number in _numbers(policy, ""):
        if isinstance(number, int) and number > weights and name not in NO_SIZES:
            raise CheckpointError(f"{name} is {number}, but its policy has {weights} weights")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, int | float]]:
    """Yield the numbers in JSON, each with its closest key."""
    if isinstance(value, int | float):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part, name)
