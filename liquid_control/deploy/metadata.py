"""The metadata of an exported policy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict


class Elements(TypedDict, total=False):
    """Names and units of numbers."""

    element_names: list[str]
    units: list[str]


class Numbers(Elements):
    """Numbers of an observation or an action."""

    kind: str
    shape: list[int]
    sizes: list[int]


class ObservationPart(Numbers):
    """A part of an observation."""

    name: str


class ActionNumbers(Numbers):
    """An action and its bounds."""

    low: list[float]
    high: list[float]


class Noise(TypedDict):
    """The noise that a step takes."""

    size: int
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

    task: str
    neurons: str
    neuron_names: tuple[str, ...]
    observation: tuple[ObservationPart, ...]
    action: ActionNumbers
    state_size: int
    motor_size: int
    noise: Noise
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
            ValueError: the text is invalid; the message names the place.
        """
        try:
            content = json.loads(text, parse_constant=_no_number)
            if not isinstance(content, dict):
                raise TypeError(f"an object is needed, got {str(content)[:40]}")
            kinds = get_type_hints(cls)
            if unknown := content.keys() - kinds.keys():
                raise TypeError(f"{min(unknown)} is unknown")
            facts = cls(**{name: _read(each, kinds[name], name) for name, each in content.items()})
            facts._check()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the metadata of the policy cannot be read: {error}") from error
        return facts

    def _check(self) -> None:
        """Raise a TypeError if a number is out of its bounds."""
        for name, number in self._sizes():
            if number < 0:
                raise TypeError(f"{name} must not be negative, got {number}")
        if self.nominal_interval <= 0:
            raise TypeError(f"nominal_interval must be positive, got {self.nominal_interval}")
        low, high = self.trained_interval
        if not 0 < low <= high:
            raise TypeError(f"trained_interval must be positive, and in order, got {low}, {high}")
        if self.longest is not None and not self.shortest < self.longest:
            raise TypeError(f"longest must be above {self.shortest}, got {self.longest}")
        box = (self.certificate or {}).get("box") or {}
        if not isinstance(box, Mapping):
            raise TypeError(f"the box of the certificate must be an object, got {box!r:.40}")
        for name, bounds in box.items():
            _read(bounds, tuple[float, float], f"certificate.box.{name}")

    def _sizes(self) -> Iterator[tuple[str, float]]:
        """Yield the numbers that must not be negative, with their names."""
        for name in ("state_size", "motor_size", "nominal_interval", "shortest"):
            yield name, getattr(self, name)
        for numbers in (self.action, *self.observation):
            for number in (*numbers["shape"], *numbers["sizes"]):
                yield "a shape or size", number


def _read(value: Any, kind: Any, place: str) -> Any:
    """Return a value of JSON as one of a type; a TypeError names the place where it is none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:
        return None if value is None else _read(value, arguments[0], place)
    if is_typeddict(kind):
        kinds = get_type_hints(kind)
        if not isinstance(value, dict) or not kind.__required_keys__ <= value.keys() <= {*kinds}:
            raise TypeError(f"{place} needs the keys {', '.join(kinds)}, got {str(value)[:80]}")
        return {name: _read(each, kinds[name], f"{place}.{name}") for name, each in value.items()}
    if origin in (list, tuple) and isinstance(value, list):
        if origin is tuple and arguments[-1] is not ... and len(value) != len(arguments):
            raise TypeError(f"{place} needs {len(arguments)} values, got {len(value)}")
        return origin(_read(each, arguments[0], f"{place}.{i}") for i, each in enumerate(value))
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, dict):
        return {name: _read(each, arguments[1], f"{place}.{name}") for name, each in value.items()}
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise TypeError(
            f"{place} must be of type {getattr(kind, '__name__', kind)}, got {value!r:.40}"
        )
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
