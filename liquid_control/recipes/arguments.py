"""Arguments of tasks in recipes: their types, and those that run code or open files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from liquid_control.envs.arguments import declared_arguments
from liquid_control.recipes.errors import RecipeError
from liquid_control.recipes.text import one_line, printable, short

# Arguments of `make_vec` that a recipe has elsewhere; in env.kwargs they would also replace the
# seed and the intervals of evaluations.
ELSEWHERE = {
    "task": "set task",
    "seed": "set seed",
    "interval": "set env.interval",
    "observe": "set env.observe",
    "sensors": "set env.sensors",
    "actuators": "set env.actuators",
    "bodies": "set env.bodies",
    "events": "set env.events",
    "privileged": "set env.privileged",
    "num_envs": "set env.num_envs",
    "threads": "set env.threads",
    "render_mode": "the commands choose it",
}


def check_kwargs(task: str, kwargs: Mapping[str, JsonValue]) -> None:
    """Check `env.kwargs` by the types that the task declares; other arguments are the task's own.

    Raises:
        RecipeError: If a value is invalid, or the recipe has the argument elsewhere.
    """
    declared = declared_arguments(task)
    for name, value in kwargs.items():
        if name in ELSEWHERE:
            raise RecipeError(f"env.kwargs.{name}: cannot be given here; {ELSEWHERE[name]}")
        if name in declared:
            _check_type(name, value, declared[name])
        elif name == "xml_file":
            _check_file(name, value)


def needs_trust(data: Mapping[str, Any], imported: Collection[str] = ()) -> Iterator[str]:
    """Yield what building the environments of a recipe may run or open, with its key.

    This is a module before the task, arguments that the task does not declare, recorded intervals,
    and the cluster that simulates them.

    Args:
        data: The keys of a recipe, valid or not.
        imported: Modules that the user has imported.
    """
    task, env = data.get("task"), data.get("env")
    module = module_of(data)
    if module is not None and module not in imported:
        yield f"task imports the module {printable(module)}"
    if not isinstance(env, Mapping):
        return
    kwargs, interval = env.get("kwargs"), env.get("interval")
    if isinstance(kwargs, Mapping):
        declared = declared_arguments(task) if isinstance(task, str) else {}
        for name, value in kwargs.items():
            if name not in declared and name not in ELSEWHERE:
                key = printable(str(name))
                yield f"env.kwargs.{key} is {short(value)}, which the task does not declare"
    if env.get("address") not in (None, "auto"):  # "auto" is a cluster that the user has joined
        yield f"env.address connects to {short(env['address'])}"
    while isinstance(interval, Mapping):
        if "path" in interval:
            yield f"env.interval opens the file {short(interval['path'])}"
        interval = interval.get("interval")


def module_of(data: Mapping[str, Any]) -> str | None:
    """Return the module that a recipe's task imports, or None."""
    task = data.get("task")
    module, colon, _ = task.rpartition(":") if isinstance(task, str) else ("", "", "")
    return module if colon else None


def _check_type(name: str, value: JsonValue, declared: Any) -> None:
    try:
        # As JSON, so that a list is a tuple, and otherwise strictly.
        TypeAdapter(declared).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise RecipeError(f"env.kwargs.{name}: {message}, got {short(value)}") from error
    except PydanticSchemaGenerationError:
        return  # a type of the task's own


def _check_file(name: str, value: JsonValue) -> None:
    """Reject a path whose reading fails or, as with a pipe, may never end."""
    try:
        is_file = isinstance(value, str) and Path(expand_model_path(value)).is_file()
    except (OSError, ValueError) as error:
        raise RecipeError(f"env.kwargs.{name}: {one_line(error)}") from error
    if not is_file:
        raise RecipeError(f"env.kwargs.{name}: {short(value)} is not a regular file")
