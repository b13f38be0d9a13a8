"""The properties of an ONNX file.

All facts are in `liquid_control`, as JSON. Those that other tools read are also separate
properties, as comma-separated lists: `observation_names`, `joint_names` and `action_scale` as in
mjlab's exporter, `units` as in Isaac Lab's descriptors and `element_names` as in LEAPP, for
observations and actions each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from liquid_control.deploy import Metadata

FACTS = "liquid_control"


def properties(metadata: Metadata) -> dict[str, str]:
    """Return the properties of a file."""
    low, high = metadata.action["low"], metadata.action["high"]
    found = {
        FACTS: metadata.to_json(),
        "task": metadata.task,
        "observation_names": ",".join(part["name"] for part in metadata.observation),
        "joint_names": ",".join(metadata.joint_names),
        "elapsed_time.units": "s",
        "state_reset": "zeros; episode_start resets before the step",
        "nominal_interval": f"{metadata.nominal_interval:.9g}",
        "trained_interval": ",".join(f"{each:.9g}" for each in metadata.trained_interval),
    }
    for name, signal in {part["name"]: part for part in metadata.observation}.items():
        found |= _elements(name, signal)
    found |= _elements("action", metadata.action)
    if low:
        scale = ((above - below) / 2 for below, above in zip(low, high, strict=True))
        found["action_scale"] = ",".join(f"{each:.9g}" for each in scale)
    return found


def _elements(name: str, signal: Mapping[str, Any]) -> dict[str, str]:
    """Return the properties of one input or output, such as "action.units"."""
    return {
        f"{name}.{key}": ",".join(signal[key])
        for key in ("element_names", "units")
        if key in signal
    }
