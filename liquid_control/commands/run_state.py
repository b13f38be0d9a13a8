"""A run's run.json: the progress of its training, and its recipe."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt, ValidationError

from liquid_control.checkpoints.durable import write_text
from liquid_control.commands.run_folder import Run, steps_of
from liquid_control.monitoring import leaves
from liquid_control.recipes import CommandError, Recipe

Status: TypeAlias = Literal["training", "interrupted", "finished"]

# Keys that do not change what was trained so far.
SAFE = re.compile(
    r"(agent\.(total_timesteps|device)|checkpoint_every|(env\.)?threads"
    r"|env\.(workers|engine|address|worker_cpus)|(evaluation|monitoring)\..+)"
)


class RunState(BaseModel):
    """The state of a training, which only `train` and `resume` write."""

    model_config = ConfigDict(frozen=True)

    status: Status
    """"training" also after its process was killed; "finished" after the evaluation at its end."""
    steps: NonNegativeInt
    """Control steps when this was written."""
    recipe: dict[str, JsonValue]
    """The content of config.yaml at that time; it is only compared."""
    init: str | None = None
    """The run of the initial weights, and its control steps."""
    version: str = version("liquid-control")
    """The version of liquid_control that wrote this."""


def write_state(run: Run, state: RunState) -> None:
    """Write a run's state atomically."""
    write_text(run.state, state.model_dump_json(indent=2) + "\n")


def read_state(run: Run) -> RunState | None:
    """Return a run's state; None for a run of an earlier version, and for an unpacked policy.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return RunState.model_validate_json(run.state.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CommandError(f"{run.state} cannot be read: {where}: {first['msg']}") from error


def derived_state(run: Run, recipe: Recipe) -> RunState:
    """Return the state of a run without run.json: finished if it was trained and evaluated."""
    steps = steps_of(run.model) if run.model.exists() else 0
    finished = steps >= recipe.agent.total_timesteps and run.evaluation.exists()
    status: Status = "finished" if finished else "interrupted"
    return RunState(status=status, steps=steps, recipe=recipe.model_dump(mode="json"))


def check_changes(state: RunState, recipe: Recipe, run: Run) -> None:
    """Check that a recipe is that of a run's training, except for keys that may change.

    Raises:
        CommandError: another key differs, or `total_timesteps` is less than it was.
    """
    was, now = leaves(state.recipe), leaves(recipe.model_dump(mode="json"))
    agent = recipe.agent.model_dump(include={"algorithm", "total_timesteps"})
    default = Recipe.model_validate({"name": recipe.name, "task": recipe.task, "agent": agent})
    defaults = leaves(default.model_dump(mode="json"))  # of keys that earlier versions do not have
    before = {key: was.get(key, defaults.get(key, "not set")) for key in now | was}
    changes = [
        f"{key} was {value}, now {now.get(key, 'not set')}"
        for key, value in before.items()
        if value != now.get(key) and not SAFE.fullmatch(key)
    ]
    if changes:
        more = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise CommandError(
            f"{run.folder} was trained with another recipe: {'; '.join(changes[:3])}{more}; "
            "undo this, or train again (`train`, with `--init` to keep the weights)",
            page="how_to/resume.md",
        )
    total, new = was.get("agent.total_timesteps"), recipe.agent.total_timesteps
    if isinstance(total, int) and new < total:
        raise CommandError(
            f"{run.folder}: agent.total_timesteps was {total}, now {new}; it may only grow"
        )
