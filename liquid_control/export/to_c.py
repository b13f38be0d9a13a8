"""Generates a policy in C99 that needs no other library, and no memory but what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from liquid_control.export.c_functions import functions_text
from liquid_control.export.c_statements import Writer
from liquid_control.export.c_tables import comment, number
from liquid_control.export.description import Action, Description, ExportError, Part

FIELDS = {
    "x": "activity of the neurons",
    "cell": "memory of the neurons",
    "previous_action": "in [-1, 1]",
    "previous_features": "the last observation and its derivatives",
    "continues": "0 at the start of an episode, then 1",
    "action": "the last one",
}
"""Comments for the vectors of the state."""

WEIGHTS = {
    "float32": "floats",
    "int8": "8 bits, and a float as scale for each neuron and gate",
    "int4": "4 bits, and a float as scale for each neuron and gate",
}
"""What the header says about them."""

TEMPLATES = Environment(
    loader=PackageLoader("liquid_control.export", ""),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class CSources:
    """A policy in C.

    Attributes:
        header: text of policy.h.
        source: text of policy.c.
        flash: bytes of constants.
        circuit: bytes of those of the circuit: without the normaliser, the encoder and the head.
        state: bytes of a robot's state.
        stack: bytes of vectors during a step.
    """

    header: str
    source: str
    flash: int
    circuit: int
    state: int
    stack: int


def to_c(
    description: Description,
    facts: Sequence[str] = (),
    trained_interval: tuple[float, float] | None = None,
) -> CSources:
    """Generate policy.h and policy.c.

    Args:
        description: of a policy without noise.
        facts: lines of text for the header, such as the name of the task.
        trained_interval: shortest and longest interval of the training, in seconds; by default the
            nominal one.

    Raises:
        ExportError: the description takes noise as an input.
    """
    if description.is_sampled:
        raise ExportError("policies in C take no noise; describe one with sampled=False")
    writer = Writer(description)
    body = writer.step()
    tables, work = writer.formulas.tables.values(), writer.formulas.work
    functions = writer.formulas.functions | {"all_finite"}
    if any(part.sizes for part in description.parts):
        functions.add("is_index")
    state = 4 * (description.state_size + description.action.size)
    sizes = {
        "flash": sum(table.bytes for table in tables),
        "circuit": sum(table.bytes for table in tables if table.is_of_circuit),
        "state": state,
        "stack": state
        + 4 * (writer.functions_at_once + sum(description.vectors[name] for name in work)),
    }
    trained = trained_interval or (description.nominal_interval,) * 2
    elapsed = "elapsed_seconds" if description.is_timed else "POLICY_NOMINAL_INTERVAL"
    values = {
        **_values(description),
        **sizes,
        "facts": list(map(comment, facts)),
        "trained": [number(each) for each in trained],
        "functions": functions_text(functions),
        "tables": ["\n".join(table.text()) for table in tables],
        "work": [(name, description.vectors[name]) for name in work],
        "elapsed": elapsed if any("elapsed_time" in line for line in body) else None,
        "body": "\n".join(body),
    }
    header, source = (
        TEMPLATES.get_template(name).render(values) for name in ("policy.h.jinja", "policy.c.jinja")
    )
    return CSources(header, source, **sizes)


def _values(description: Description) -> dict[str, Any]:
    """Return what the templates say about a description."""
    action = description.action
    indices, index = [], 0
    for part in description.parts:
        indices += [
            (index + offset, size, comment(part.name)) for offset, size in enumerate(part.sizes)
        ]
        index += part.size
    resting = [0.0] * action.size
    if action.kind == "box":  # zero, or the bound that is nearest to it
        resting = [
            min(max(0.0, low), high) for low, high in zip(action.low, action.high, strict=True)
        ]
    results = [*description.states.items(), ("action", action.size)]
    return {
        "observation_size": description.observation_size,
        "action_size": action.size,
        "neurons": description.states["x"],
        "nominal": number(description.nominal_interval),
        "shortest": number(description.shortest),
        "longest": number(min(description.longest, float(np.finfo(np.float32).max))),
        "layout": "; ".join(map(_layout, description.parts)),
        "action_layout": _action_layout(action),
        "fields": [(name, size, FIELDS.get(name, name)) for name, size in results],
        "multiply_adds": description.multiply_adds,
        "weights": WEIGHTS[description.weights],
        "indices": indices,
        "resting": [(i, number(value)) for i, value in enumerate(resting) if value],
        "results": results,
    }


def _layout(part: Part) -> str:
    values = f", from 0 to below {', '.join(map(str, part.sizes))}" if part.sizes else ""
    return comment(f"{part.name} ({part.size}{values})")


def _action_layout(action: Action) -> str:
    if action.kind == "box":
        return f"{action.size} numbers within the bounds of the task"
    if action.kind == "multi_binary":
        return f"{action.size} numbers, each 0 or 1"
    return f"{action.size} whole numbers from 0 to below {', '.join(map(str, action.sizes))}"
