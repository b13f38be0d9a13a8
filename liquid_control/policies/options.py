"""Options of the policies, with defaults and bounds.

Defaults are defined only here. Recipes derive their keys from these classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from annotated_types import Ge, Gt, Le, Predicate

from liquid_control.policies.observations import FURTHEST
from liquid_control.wiring.registry import fill_wiring

SelfOptions = TypeVar("SelfOptions", bound="Options")
SelfCircuitOptions = TypeVar("SelfCircuitOptions", bound="CircuitOptions")

# As in pydantic, whose import would take a twentieth of PyTorch's import time.
PositiveInt: TypeAlias = Annotated[int, Gt(0)]
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegativeInt: TypeAlias = Annotated[int, Ge(0)]
NonNegativeFloat: TypeAlias = Annotated[float, Ge(0)]
FINITE = Predicate(math.isfinite)
FiniteFloat: TypeAlias = Annotated[float, FINITE]

CRITICS = ("twin", "shared", "mlp")
MOST_DERIVATIVES = 8
LONGEST_LAG = 1000  # control steps
MOST_LAYERS = 64
MOST_LAGS = 16
DEFAULT_WIRING: Mapping[str, Any] = {"kind": "auto_ncp", "neurons": 64}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of options. Values are checked against their types, with bounds (`PositiveInt`).

    Raises:
        TypeError: a number, a bool or a string is something else. Types with containers and
            classes are left to the subclass.
        ValueError: a number is out of bounds.
    """

    @classmethod
    def among(cls: type[SelfOptions], arguments: Mapping[str, Any]) -> SelfOptions:
        """Return the options among a constructor's arguments, which are its `locals()`."""
        return cls(**{each.name: arguments[each.name] for each in fields(cls)})

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            _check_type(name, value, hint)
            if isinstance(value, np.generic):
                object.__setattr__(self, name, value.item())  # the fields are frozen
            for number in value if isinstance(value, tuple) else (value,):
                if _is_number(number):
                    for bound in _bounds(hint):
                        _check_bound(name, number, bound)


def _is_number(value: Any, kind: type = Real) -> bool:
    """Whether a value is a number, NumPy's included; bools are none here."""
    return isinstance(value, kind) and not isinstance(value, bool)


_SIMPLE: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("an integer", lambda value: _is_number(value, Integral)),
    float: ("a number", _is_number),
    bool: ("True or False", lambda value: isinstance(value, bool | np.bool_)),
    str: ("a string", lambda value: isinstance(value, str)),
    NoneType: ("None", lambda value: value is None),
    Callable: ("a schedule", callable),
}
"""How to name a type, and to recognise its values."""


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Raise a TypeError if a type is made of simple ones, and a value is of none of them."""
    kinds = [_SIMPLE.get(kind) for kind in _kinds(hint)]
    known = [kind for kind in kinds if kind is not None]
    if len(known) == len(kinds) and not any(holds(value) for _, holds in known):
        words = " or ".join(words for words, _ in known)
        raise TypeError(f"{name} must be {words}, got {value!r}")


def _kinds(hint: Any) -> Iterator[Any]:
    """Yield the types in a union, without what annotates them and without their own parts."""
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _kinds(get_args(hint)[0])
    elif origin in (Union, UnionType):
        for part in get_args(hint):
            yield from _kinds(part)
    else:
        yield origin or hint


def _bounds(hint: Any) -> Iterator[Gt | Ge | Le | Predicate]:
    """Yield the bounds in a type and its component types."""
    if isinstance(hint, (Gt, Ge, Le)) or hint == FINITE:
        yield hint
    for part in get_args(hint):
        yield from _bounds(part)


def _check_bound(name: str, value: float, bound: Gt | Ge | Le | Predicate) -> None:
    if isinstance(bound, Predicate):
        holds, words = math.isfinite(value), "finite"
    elif isinstance(bound, Gt):
        holds, words = value > bound.gt, f"greater than {bound.gt}"  # type: ignore[operator]
    elif isinstance(bound, Ge):
        holds, words = value >= bound.ge, f"at least {bound.ge}"  # type: ignore[operator]
    else:
        holds, words = value <= bound.le, f"at most {bound.le}"  # type: ignore[operator]
    if not holds:
        raise ValueError(f"{name} must be {words}, got {value}")


def check_mapping(name: str, value: Mapping[str, Any] | None) -> None:
    """Raise a TypeError unless a value is a dict of arguments or None."""
    if not isinstance(value, Mapping | None):
        raise TypeError(f"{name} must be a dict of arguments, got {value!r}")


def check_sizes(name: str, sizes: Sequence[int] | None) -> tuple[int, ...]:
    """Return layer sizes as a tuple; None means no layer."""
    if sizes is not None and not isinstance(sizes, Sequence):
        raise TypeError(f"{name} must list layer sizes, such as [64, 64], got {sizes!r}")
    sizes = tuple(sizes or ())
    if len(sizes) > MOST_LAYERS:
        raise ValueError(f"{name} must list at most {MOST_LAYERS} layers, got {len(sizes)}")
    if not all(_is_number(size, Integral) and size > 0 for size in sizes):
        raise ValueError(
            f"{name} must list positive layer sizes, such as [64, 64], got {list(sizes)}"
        )
    return tuple(map(int, sizes))


def check_seconds(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """Return time constants as a tuple."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must list seconds, such as [0.0], got {values!r}")
    for value in values:
        if not (isinstance(value, Real) and 0 <= value < math.inf):
            raise ValueError(
                f"{name} must list seconds of at least 0, such as [0.0], got {value!r}"
            )
    return tuple(map(float, values))


def check_lags(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Return control steps ago as a tuple."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must list control steps ago, such as [1, 2, 4], got {values!r}")
    for value in values:
        if not _is_number(value, Integral) or not 1 <= value <= LONGEST_LAG:
            raise ValueError(
                f"{name} must list control steps ago, such as [1, 2, 4], each from 1 to "
                f"{LONGEST_LAG}, got {value!r}"
            )
    if len(values) > MOST_LAGS:
        raise ValueError(f"{name} must list at most {MOST_LAGS} lags, got {len(values)}")
    if len({*values}) < len(values):
        raise ValueError(f"{name} must list each number of control steps once, got {list(values)}")
    return tuple(map(int, values))


@dataclass(frozen=True, kw_only=True)
class CircuitOptions(Options):
    """Options of every policy; all of them are JSON-able.

    Attributes:
        neurons: "cfc", "ltc", "ctrnn", "lrc", "lstm" or "gru".
        wiring: `kind` and arguments of a wiring; sensory and motor count are filled in where
            missing.
        neuron_kwargs: further arguments of the neuron model, such as `{"ode_steps": 3}`.
        encoder: sizes of tanh layers before each circuit. Their inputs are the features and the
            elapsed time, the last layer's outputs are the sensory neurons.
        critic_wiring: wiring of the critic's circuit, if it differs from the actor's.
        nominal_interval: seconds; the circuits' unit of time. Agents take it from the task.
        allow_any_interval: accept elapsed times that are more than 100 times longer or shorter than
            the nominal interval. Agents take it from the task.
        derivatives: time constants in seconds of filtered derivatives of the observation, which are
            additional features; 0 is the difference quotient. Needs `normalize_observations`,
            since their scale differs.
        normalize_observations: keep running moments of the observations and normalise with them.
        optimizer_kwargs: arguments of Adam besides the learning rate.
        image_layers: filters, kernel size and stride of the convolutions over each image, separate
            for actor and critic; by default those of SB3's NatureCNN.
        image_features: tanh neurons after the convolutions, for each image.
        critic_history: lags in control steps, such as [1, 2, 4]; critics also see the observation
            and the action of that many steps ago. Actors do not. Not for images.
    """

    neurons: str = "cfc"
    wiring: Mapping[str, Any] = field(default_factory=lambda: DEFAULT_WIRING)
    neuron_kwargs: Mapping[str, Any] | None = None
    encoder: Sequence[int] | None = None
    derivatives: Sequence[NonNegativeFloat] = ()
    critic_wiring: Mapping[str, Any] | None = None
    nominal_interval: Annotated[float, Gt(0), FINITE] = 1.0
    allow_any_interval: bool = False
    normalize_observations: bool = True
    optimizer_kwargs: Mapping[str, Any] | None = None
    image_layers: Sequence[Sequence[int]] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    image_features: PositiveInt = 64
    critic_history: Sequence[int] = ()

    @classmethod
    def of(cls, policy: str, options: Mapping[str, Any]) -> Self:
        """Return the options of a policy; TypeError for one that it does not have."""
        known = [each.name for each in fields(cls)]
        for name in options.keys() - known:
            nearest = [f"did you mean {each!r}?" for each in get_close_matches(name, known, 1)]
            hint = nearest or [f"it takes {', '.join(known)}"]
            raise TypeError(f"{policy} got an unexpected keyword argument {name!r}; {hint[0]}")
        return cls(**options)

    def __post_init__(self) -> None:
        super().__post_init__()
        fill_wiring(self.wiring)
        for name in ("neuron_kwargs", "optimizer_kwargs"):
            check_mapping(name, getattr(self, name))
        if "lr" in (self.optimizer_kwargs or {}):
            raise ValueError("optimizer_kwargs has no 'lr'; set the agent's learning_rate instead")
        if check_seconds("derivatives", self.derivatives) and not self.normalize_observations:
            raise ValueError(
                "derivatives need normalize_observations=True, since their scale is not that of "
                "the observations"
            )
        if len(self.derivatives) > MOST_DERIVATIVES:
            raise ValueError(
                f"derivatives lists {len(self.derivatives)} time constants; give at most "
                f"{MOST_DERIVATIVES}, since each has as many features as the observation"
            )
        if check_lags("critic_history", self.critic_history) and not self.normalize_observations:
            raise ValueError(
                "critic_history needs normalize_observations=True, since the scale of actions is "
                "not that of the observations"
            )
        longest = FURTHEST * self.nominal_interval
        if not self.allow_any_interval and any(tau > longest for tau in self.derivatives):
            raise ValueError(
                f"derivatives are time constants in seconds, at most {FURTHEST} times the nominal "
                f"interval of {self.nominal_interval} s, got {list(self.derivatives)}; divide "
                "milliseconds by 1000"
            )

    def with_motor(self: SelfCircuitOptions, motor: int) -> SelfCircuitOptions:
        """Return the options with a number of motor neurons if the wirings do not specify it."""
        wiring, critic = self.wiring, self.critic_wiring
        return replace(
            self,
            wiring=fill_wiring(wiring, motor=motor),
            critic_wiring=None if critic is None else fill_wiring(critic, motor=motor),
        )


@dataclass(frozen=True, kw_only=True)
class LiquidPolicyOptions(CircuitOptions):
    """Options of `LiquidPolicy`, besides those of `CircuitOptions`.

    Attributes:
        critic: "twin" (a separate circuit), "shared" (a head on the actor's neurons) or "mlp" (a
            feed-forward network over the observation and the activity of the actor's neurons).
            `critic_wiring` needs "twin".
        critic_layers: sizes of tanh layers between the neurons and the value.
        log_std_init: logarithm of the initial standard deviation of continuous actions.

    Raises:
        ValueError: an option has a value that cannot work.
    """

    wiring: Mapping[str, Any] = field(default_factory=lambda: {**DEFAULT_WIRING, "neurons": 96})
    encoder: Sequence[int] | None = (64,)
    critic: str = "mlp"
    critic_layers: Sequence[int] | None = (64, 64)
    log_std_init: Annotated[float, Ge(-20), Le(20)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic not in CRITICS:
            raise ValueError(f"critic must be one of {', '.join(CRITICS)}, got {self.critic!r}")
        if self.critic_wiring is not None and self.critic != "twin":
            raise ValueError(f"critic_wiring needs critic='twin', got critic={self.critic!r}")


@dataclass(frozen=True, kw_only=True)
class SoftLiquidPolicyOptions(CircuitOptions):
    """Options of `SoftLiquidPolicy`, besides those of `CircuitOptions`.

    Attributes:
        actor_layers: sizes of tanh layers between the motor neurons and the action.
        critic_layers: sizes of the relu layers of each critic's head, at least one.
        n_critics: number of heads; the least of their values is used.
        share_encoder: feed the actor's circuit from the critics' encoder, which only the critics
            train, with their convolutions over images; needs `encoder`.

    Raises:
        ValueError: an option has a value that cannot work.
    """

    actor_layers: Sequence[int] | None = None
    critic_layers: Sequence[int] = (128, 128)
    n_critics: PositiveInt = 2
    share_encoder: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.critic_layers:
            raise ValueError("critic_layers must list at least one layer, such as [128], got none")
        if self.share_encoder and not self.encoder:
            raise ValueError(
                "share_encoder needs an encoder to share; give its layer sizes, such as "
                "encoder=[64]"
            )
