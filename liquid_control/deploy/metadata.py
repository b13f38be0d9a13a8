"""The metadata of an exported policy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, NotRequired

from annotated_types import Ge
from typing_extensions import TypedDict

Count = Annotated[int, Ge(0)]
Seconds = Annotated[float, Ge(0)]


class Elements(TypedDict, total=False):
    """Names and units of numbers."""

    element_names: list[str]
    units: list[str]


class Numbers(Elements):
    """Numbers of an observation or an action."""

    kind: str
    shape: list[Count]
    sizes: list[Count]


class ObservationPart(Numbers):
    """A part of an observation."""

    name: str


class ActionNumbers(Numbers):
    """An action and its bounds."""

    low: list[float]
    high: list[float]


class Noise(TypedDict):
    """The noise that a step takes."""

    size: Count
    kind: str


Rounding = TypedDict(
    "Rounding",
    {
        "error": float,
        "mean_error": float,
        "return": NotRequired[float],
        "float_return": NotRequired[float],
    },
)


@dataclass(frozen=True)
class Metadata:
    """Facts of an exported policy, stored in its files.

    Attributes:
        task: its name.
        neurons: name of the neurons, such as "cfc".
        neuron_names: of the first numbers of the state.
        observation: its parts in order, each with name, kind, shape and sizes, and, where known,
            element_names and units of its numbers.
        action: kind, shape, sizes, low and high, and likewise element_names and units.
        state_size: numbers in the state; zeros begin an episode.
        motor_size: numbers in the motor activity.
        noise: number of noise inputs of each step, and their kind.
        nominal_interval: seconds.
        is_timed: whether the policy takes the elapsed time.
        shortest: elapsed times must be longer, in seconds.
        longest: elapsed times must be shorter, in seconds; None for no bound.
        trained_interval: shortest and longest interval of the training, in seconds.
        recipe_sha256: hash of the recipe.
        versions: of the software that made the export.
        certificate: conditions in which the policy keeps its return, if measured.
        joint_names: the driven joints of the simulated robot, where known.
        policy_sha256: hash of the policy's weights, before they were rounded to `weights`.
        weights: their kind in the file: "float32", "int8" or "int4".
        rounding: effects of rounding weights: "error", the largest of any action relative to its
            range, "mean_error", and, if measured, the nominal "return" and "float_return".
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {
        "extra": "forbid",
        "strict": True,
        "allow_inf_nan": False,
    }

    task: str
    neurons: str
    neuron_names: tuple[str, ...]
    observation: tuple[ObservationPart, ...]
    action: ActionNumbers
    state_size: Count
    motor_size: Count
    noise: Noise
    nominal_interval: Seconds
    is_timed: bool
    shortest: Seconds
    longest: Seconds | None
    trained_interval: tuple[Seconds, Seconds]
    recipe_sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None
    joint_names: tuple[str, ...] = ()
    policy_sha256: str | None = None
    weights: str = "float32"
    rounding: Rounding | None = None

    @property
    def observation_size(self) -> int:
        """Number of entries of an observation."""
        return sum(math.prod(part["shape"]) for part in self.observation)

    @property
    def action_size(self) -> int:
        """Number of entries of an action."""
        return math.prod(self.action["shape"])

    def clamped(self, elapsed_time: float) -> float:
        """Return an elapsed time clamped to the intervals of the training."""
        low, high = self.trained_interval
        return min(max(elapsed_time, low), high)

    def to_json(self) -> str:
        """Return the facts as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Metadata:
        """Read the facts that `to_json` wrote.

        Raises:
            ValueError: the text is invalid.
        """
        from pydantic import TypeAdapter, ValidationError  # takes longer than the rest of this

        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the text"
            raise ValueError(
                f"the metadata of the policy cannot be read: {place}: {first['msg']}"
            ) from error
