"""The arguments that registered tasks declare, with their types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

import gymnasium as gym
from annotated_types import Ge, Le

from liquid_control.envs.task_env import registered_task
from liquid_control.envs.tasks import GYMNASIUM, Task

FrameSkip: TypeAlias = Annotated[int, Ge(1), Le(1000)]
EpisodeSteps: TypeAlias = Annotated[int, Ge(1), Le(1_000_000)]


def declared_arguments(task: str) -> Mapping[str, Any]:
    """Return the types of the arguments that a task declares, by name; imports no module.

    All tasks have `max_episode_steps`. Gymnasium's v5 tasks and those of `register` also have
    `frame_skip` and those fields of their `Task` that are numbers. Other arguments, such as
    `xml_file`, may open files or windows.

    Args:
        task: A name as in `make`. A module in front of it is ignored, so its tasks are known only
            after its import.
    """
    arguments: dict[str, Any] = {"max_episode_steps": EpisodeSteps}
    if kind := _task_class(task.rpartition(":")[2]):
        plain, full = get_type_hints(kind), get_type_hints(kind, include_extras=True)
        names = [each.name for each in dataclasses.fields(kind) if _is_numeric(plain[each.name])]
        arguments |= {"frame_skip": FrameSkip} | {name: full[name] for name in names}
    return arguments


def _is_numeric(hint: Any) -> bool:
    """Return whether a type consists of numbers, None and tuples."""
    if parts := get_args(hint):
        return all(map(_is_numeric, parts))
    return hint in {bool, float, int, NoneType, Ellipsis}


def _task_class(name: str) -> type[Task] | None:
    """Return the batched implementation of a registered task."""
    try:
        entry_point = gym.spec(name).entry_point
    except (gym.error.Error, ValueError):
        return None
    by_entry_point = {f"{env.__module__}:{env.__name__}": task for env, task in GYMNASIUM.items()}
    if isinstance(entry_point, str):
        return by_entry_point.get(entry_point)
    return registered_task(entry_point)
