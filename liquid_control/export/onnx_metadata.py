"""The properties that an ONNX file carries.

All facts are in `liquid_control`, as JSON. Those that other tools read have their names beside it:
`run_path`, `observation_names`, `joint_names` and `action_scale` are those of mjlab's exporter, as
lists separated by commas.
"""

from __future__ import annotations

from liquid_control.deploy import Metadata

FACTS = "liquid_control"


def properties(metadata: Metadata) -> dict[str, str]:
    """Return the properties of a file."""
    low, high = metadata.action["low"], metadata.action["high"]
    found = {
        FACTS: metadata.to_json(),
        "task": metadata.task,
        "observation_names": ",".join(part["name"] for part in metadata.observation),
        "units": "elapsed_time: seconds",
        "state_reset": "zeros; episode_start resets before the step",
        "nominal_interval": f"{metadata.nominal_interval:.9g}",
        "trained_interval": ",".join(f"{each:.9g}" for each in metadata.trained_interval),
    }
    if low:
        scale = ((above - below) / 2 for below, above in zip(low, high, strict=True))
        found["action_scale"] = ",".join(f"{each:.9g}" for each in scale)
    return found
