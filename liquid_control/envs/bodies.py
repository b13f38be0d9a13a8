"""Randomisation of robots' bodies: factors of a model's values, drawn for each episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import mujoco
import numpy as np
from numpy.typing import NDArray

from liquid_control.envs.episode import Column, Episode
from liquid_control.envs.parts import Factors, Part, Range, draw, factors, ranges

Array: TypeAlias = NDArray[np.float64]

_LIGHTEST = 1e-6


@dataclass(frozen=True)
class Factored(Part):
    """Factors that multiply values of the model; each may be omitted.

    A factor is a number or a range (low, high). A mapping has a factor for each named part of the
    robot and leaves the others unchanged; any other factor applies to all parts.

    Attributes:
        mass: Of bodies, by name; their inertia is multiplied as well.
        friction: Of geoms, by name, and of pairs of geoms: sliding, torsional and rolling.
        damping: Of joints, by name.
        gain: Of actuators, by their name or that of their joint: the force that a command gives.
        gravity: A factor or a range.
    """

    mass: float | Factors | None = None
    friction: float | Factors | None = None
    damping: float | Factors | None = None
    gain: float | Factors | None = None
    gravity: float | Range | None = None

    def __post_init__(self) -> None:
        for name in QUANTITIES:
            factors(self, name)
        if isinstance(self.gravity, Mapping):
            raise TypeError(f"gravity acts on all bodies; give one factor, got {self.gravity!r}")
        for low, _ in ranges(self.mass).values():
            if low < _LIGHTEST:
                raise ValueError(
                    f"mass must be at least {_LIGHTEST:g}, since a body without mass cannot be "
                    f"simulated, got {self.mass!r}"
                )

    def factors(self) -> Iterator[tuple[str, str, Range]]:
        """Yield the quantity, the name (or "" for all) and the range of each factor."""
        for quantity in QUANTITIES:
            for name, bounds in ranges(getattr(self, quantity)).items():
                yield quantity, name, bounds


@dataclass(frozen=True)
class Randomize(Factored):
    """Multiplies values of the model by factors that are drawn for each episode.

    bodies=envs.Randomize(mass=(0.7, 1.3), gain={"bthigh": (0.8, 1.2)}, gravity=(0.9, 1.1))
    """

    kind = "randomize"


@dataclass(frozen=True)
class Quantity:
    """A quantity that a factor multiplies.

    Attributes:
        fields: The fields of MjModel; its first axis counts elements.
        element: The kind of elements that have names, or "" for none.
        derived: Whether other constants of the model depend on it.
    """

    fields: tuple[str, ...]
    element: str
    derived: bool = False


QUANTITIES = {
    "mass": Quantity(("body_mass", "body_inertia"), "body", derived=True),
    "friction": Quantity(("geom_friction",), "geom"),
    "damping": Quantity(("dof_damping",), "joint"),
    "gain": Quantity(("actuator_gainprm", "actuator_biasprm"), "actuator"),
    "gravity": Quantity(("opt.gravity",), ""),
}
_PAIRS = "pair_friction"  # multiplied where all frictions are


class Bodies:
    """The factors of many simulations of a model, and the resulting values.

    Args:
        model: The MjModel, whose current values are multiplied.
        parts: The factors that may change, for the episode or within it, by a prefix for errors.
        num_envs: Number of simulations.

    Attributes:
        factors: Of every element, (num_envs, elements), of each quantity that may change.

    Raises:
        ValueError: If a name is unknown, or an actuator has no gain that can be multiplied.
    """

    def __init__(self, model: Any, parts: Mapping[str, Factored], num_envs: int) -> None:
        self._model = model
        used = {quantity for part in parts.values() for quantity, *_ in part.factors()}
        self.quantities = [name for name in QUANTITIES if name in used]
        self._base = {
            field: values(model, field).copy()
            for name in self.quantities
            for field in _fields(name)
            if values(model, field).size
        }
        self.factors = {
            name: np.ones((num_envs, len(self._base[QUANTITIES[name].fields[0]])))
            for name in self.quantities
        }
        derived = [name for name in self.quantities if QUANTITIES[name].derived]
        self._sources = {field for name in derived for field in _fields(name)}
        if "gain" in used:
            _check_gains(model)
        for prefix, part in parts.items():
            for quantity, name, _ in part.factors():
                try:
                    self.elements(quantity, name)
                except ValueError as error:
                    raise ValueError(f"{prefix}{error}") from error

    @property
    def fields(self) -> list[str]:
        """The fields of MjModel that change."""
        return list(self._base)

    def elements(self, quantity: str, name: str) -> Any:
        """Return the index of the elements that a factor multiplies; ValueError if none has it."""
        kind = QUANTITIES[quantity].element
        if not name:
            return slice(None)
        model, found = self._model, []
        names = [getattr(model, kind)(index).name for index in range(_count(model, kind))]
        if kind == "actuator":
            joints = [_driven(model, index) for index in range(model.nu)]
            found = [i for i, both in enumerate(zip(names, joints, strict=True)) if name in both]
            names = [one or other for one, other in zip(names, joints, strict=True)]
        elif name in names:
            found = [names.index(name)]
        if not found:
            known = ", ".join(filter(None, names)) or "none with a name"
            raise ValueError(f"{quantity}.{name}: the model has no {kind} {name!r}; it has {known}")
        if kind == "joint":
            return np.flatnonzero(np.isin(model.dof_jntid, found))
        return np.array(found)

    def write(self, index: int, fields: Mapping[str, Array]) -> bool:
        """Write the values of a simulation to fields of its model.

        Returns:
            whether constants of the model that depend on them have to be recomputed.
        """
        is_stale = False
        for name, stored in fields.items():
            new = self._of(index, name)
            is_stale |= name in self._sources and not np.array_equal(stored, new)
            stored[...] = new
        return is_stale

    def _of(self, index: int, field: str) -> Array:
        """Return the values of a field in a simulation, of the same shape as in MjModel."""
        base = self._base[field]
        quantity = next(name for name in self.quantities if field in _fields(name))
        factor = self.factors[quantity][index]
        if field == _PAIRS:
            factor = self._pairs(factor)
        product: Array = base * factor.reshape(-1, *([1] * (base.ndim - 1)))
        return product

    def _pairs(self, factor: Array) -> Array:
        """Return the factor of each pair of geoms, the larger of the two."""
        model = self._model
        larger: Array = np.maximum(factor[model.pair_geom1], factor[model.pair_geom2])
        return larger


class Drawing:
    """The factors of a `Randomize`, drawn for the episodes of many simulations.

    Args:
        part: The ranges.
        bodies: Stores the factors.
        num_envs: Number of simulations.

    Attributes:
        drawn: Columns of the factors of the current episodes, by name.
    """

    def __init__(self, part: Randomize, bodies: Bodies, num_envs: int) -> None:
        self._bodies = bodies
        self._factors = [
            (quantity, bodies.elements(quantity, name), bounds, np.ones(num_envs))
            for quantity, name, bounds in part.factors()
        ]
        self.drawn = {
            ".".join(filter(None, ("bodies", quantity, name))): Column(factor)
            for (quantity, name, _), (*_, factor) in zip(part.factors(), self._factors, strict=True)
        }

    def draw(self, index: int, episode: Episode) -> None:
        """Draw the factors of an episode of a simulation."""
        for factors_of in self._bodies.factors.values():
            factors_of[index] = 1.0
        rng = episode.stream("bodies") if self._factors else None
        for quantity, elements, bounds, drawn in self._factors:
            assert rng is not None
            drawn[index] = draw(rng, bounds)
            self._bodies.factors[quantity][index, elements] *= drawn[index]


def values(model: Any, field: str) -> Array:
    """Return a field of MjModel with a leading axis of elements, not copied."""
    array: Array
    if field.startswith("opt."):
        array = getattr(model.opt, field.removeprefix("opt."))[None]
    else:
        array = getattr(model, field)
    return array


def apply(model: Any, bodies: Bodies, index: int, scratch: Any) -> None:
    """Write the values of a simulation to a model; `scratch`, an MjData of it, is overwritten."""
    if bodies.write(index, {field: values(model, field) for field in bodies.fields}):
        mujoco.mj_setConst(model, scratch)


def _fields(quantity: str) -> tuple[str, ...]:
    fields = QUANTITIES[quantity].fields
    return (*fields, _PAIRS) if quantity == "friction" else fields


def _count(model: Any, kind: str) -> int:
    return int(
        {"body": model.nbody, "geom": model.ngeom, "joint": model.njnt, "actuator": model.nu}[kind]
    )


def _driven(model: Any, actuator: int) -> str:
    """Return the name of the joint that an actuator drives."""
    if model.actuator_trntype[actuator] != mujoco.mjtTrn.mjTRN_JOINT:
        return ""
    return str(model.joint(model.actuator_trnid[actuator, 0]).name)


def _check_gains(model: Any) -> None:
    """Reject actuators whose gain is not a factor of their force."""
    linear = {mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtGain.mjGAIN_AFFINE}
    affine = {mujoco.mjtBias.mjBIAS_NONE, mujoco.mjtBias.mjBIAS_AFFINE}
    for index in range(model.nu):
        gain, bias = model.actuator_gaintype[index], model.actuator_biastype[index]
        if mujoco.mjtGain(gain) not in linear or mujoco.mjtBias(bias) not in affine:
            name = model.actuator(index).name or f"actuator {index}"
            raise ValueError(
                f"gain: the force of {name!r} is not a multiple of a gain, such as a muscle's; "
                f"leave gain out"
            )


assert tuple(QUANTITIES) == tuple(field.name for field in dataclasses.fields(Factored))
