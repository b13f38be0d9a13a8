"""What an exported policy says about itself, as data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metadata:
    """Facts of an exported policy, which its files carry.

    Attributes:
        task: its name.
        neurons: name of the neurons, such as "cfc".
        neuron_names: of the first numbers of the state.
        observation: its parts in order, each with name, kind, shape and sizes, and, where they are
            known, element_names and units of its numbers.
        action: kind, shape, sizes, low and high, and likewise element_names and units.
        state_size: numbers in the state; zeros begin an episode.
        motor_size: numbers in the motor activity.
        noise: numbers of noise that each step takes, and their kind.
        nominal_interval: seconds.
        is_timed: whether the policy takes the elapsed time.
        shortest: elapsed times must be longer, in seconds.
        longest: elapsed times must be shorter, in seconds; None for no bound.
        trained_interval: shortest and longest interval of the training, in seconds.
        recipe_sha256: hash of the recipe.
        versions: of what made the export.
        certificate: in which conditions the policy keeps its return, if it was measured.
        joint_names: that actions drive, as the simulated robot has them, where that is known.
        policy_sha256: hash of the policy's weights, before they were rounded to `weights`.
        weights: how the file has them: "float32", "int8" or "int4".
        rounding: what rounding weights costs: "error", the largest of any action relative to its
            range, "mean_error", and, if measured, the nominal "return" and "float_return".
    """

    task: str
    neurons: str
    neuron_names: tuple[str, ...]
    observation: tuple[Mapping[str, Any], ...]
    action: Mapping[str, Any]
    state_size: int
    motor_size: int
    noise: Mapping[str, Any]
    nominal_interval: float
    is_timed: bool
    shortest: float
    longest: float | None
    trained_interval: tuple[float, float]
    recipe_sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None
    joint_names: tuple[str, ...] = ()
    policy_sha256: str | None = None
    weights: str = "float32"
    rounding: Mapping[str, float] | None = None

    @property
    def observation_size(self) -> int:
        """How many numbers an observation has."""
        return sum(math.prod(part["shape"]) for part in self.observation)

    @property
    def action_size(self) -> int:
        """How many numbers an action has."""
        return math.prod(self.action["shape"])

    def clamped(self, elapsed_time: float) -> float:
        """Return seconds within the intervals of the training, which the policy gets."""
        low, high = self.trained_interval
        return min(max(elapsed_time, low), high)

    def to_json(self) -> str:
        """Return the facts as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            content = json.loads(text)
            for name in ("neuron_names", "observation", "trained_interval", "joint_names"):
                content[name] = tuple(content.get(name, ()))
            return cls(**content)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"the metadata of the policy cannot be read: {error}") from error
