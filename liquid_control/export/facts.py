"""The facts of a policy that its exported files carry."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from liquid_control.deploy import Metadata
from liquid_control.export.description import Description

LIBRARIES = ("liquid-control", "torch", "numpy", "onnx")


def metadata_of(
    description: Description,
    *,
    task: str = "",
    trained_interval: tuple[float, float] | None = None,
    recipe_sha256: str | None = None,
    certificate: Mapping[str, Any] | None = None,
    rounding: Mapping[str, float] | None = None,
) -> Metadata:
    """Return the facts of a policy.

    Args:
        description: of the policy.
        task: its name.
        trained_interval: shortest and longest interval of the training, in seconds; by default the
            nominal one.
        recipe_sha256: hash of the recipe.
        certificate: see `certificate`.
        rounding: see `Metadata`.
    """
    action, nominal = description.action, description.nominal_interval
    return Metadata(
        task=task,
        neurons=description.neurons,
        neuron_names=description.neuron_names,
        observation=tuple(
            {
                "name": part.name,
                "kind": part.kind,
                "shape": list(part.shape),
                "sizes": list(part.sizes),
            }
            for part in description.parts
        ),
        action={
            "kind": action.kind,
            "shape": list(action.shape),
            "sizes": list(action.sizes),
            "low": list(action.low),
            "high": list(action.high),
        },
        state_size=description.state_size,
        motor_size=description.vectors[description.motor],
        noise={"size": action.noise, "kind": action.noise_kind},
        nominal_interval=nominal,
        is_timed=description.is_timed,
        shortest=description.shortest,
        longest=None if description.longest == float("inf") else description.longest,
        trained_interval=trained_interval or (nominal, nominal),
        recipe_sha256=recipe_sha256,
        versions={"python": platform.python_version(), **_versions()},
        certificate=certificate,
        policy_sha256=description.policy_sha256 or None,
        weights=description.weights,
        rounding=rounding,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:  # an extra, or a checkout that is not installed
            continue
    return found
