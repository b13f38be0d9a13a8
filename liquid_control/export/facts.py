"""The facts of a policy that its exported files carry."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from liquid_control.deploy.metadata import Elements, Metadata, Numbers, Rounding
from liquid_control.export.description import Description
from liquid_control.export.policies import OBSERVATION


@dataclass(frozen=True)
class Signals:
    """Names and units of a policy's observations and actions, where known.

    Attributes:
        observation_names: of the numbers of the part "observation".
        observation_units: likewise; "" if unknown.
        action_names: of the numbers of an action.
        action_units: likewise.
        joint_names: of the joints that actions drive.
    """

    observation_names: tuple[str, ...] = ()
    observation_units: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    joint_names: tuple[str, ...] = ()


LIBRARIES = ("liquid-control", "torch", "numpy", "onnx")


def metadata_of(
    description: Description,
    *,
    task: str = "",
    trained_interval: tuple[float, float] | None = None,
    recipe_sha256: str | None = None,
    certificate: Mapping[str, Any] | None = None,
    rounding: Rounding | None = None,
    signals: Signals | None = None,
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
        signals: names and units; those that do not fit the policy are omitted.
    """
    action, nominal = description.action, description.nominal_interval
    known = signals or Signals()
    seen = known.observation_names, known.observation_units
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
                **_elements(*(seen if part.name == OBSERVATION else ((), ())), part.size),
            }
            for part in description.parts
        ),
        action={
            "kind": action.kind,
            "shape": list(action.shape),
            "sizes": list(action.sizes),
            "low": list(action.low),
            "high": list(action.high),
            **_elements(known.action_names, known.action_units, action.size),
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
        joint_names=known.joint_names,
        policy_sha256=description.policy_sha256 or None,
        weights=description.weights,
        rounding=rounding,
    )


def signals_in(metadata: Metadata) -> Signals:
    """Return the names and units in the facts of a policy."""
    seen: Iterable[Numbers] = (each for each in metadata.observation if each["name"] == OBSERVATION)
    observation, action = (
        (tuple(each.get("element_names", ())), tuple(each.get("units", ())))
        for each in (next(iter(seen), Numbers(kind="", shape=[], sizes=[])), metadata.action)
    )
    return Signals(*observation, *action, metadata.joint_names)


def _elements(names: Sequence[str], units: Sequence[str], size: int) -> Elements:
    """Return names and units of some numbers, if their counts match."""
    found: Elements = {}
    if len(names) == size:
        found["element_names"] = list(names)
    if len(units) == size:
        found["units"] = list(units)
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:  # an extra, or a checkout that is not installed
            continue
    return found
