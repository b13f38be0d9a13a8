"""The frozen description of a circuit: its neurons, and its synapses with their polarities."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from liquid_control.wiring.checks import at_most, whole_number

if TYPE_CHECKING:
    import networkx as nx

Polarities: TypeAlias = npt.NDArray[np.int8]

_KEYS = (
    "motor_count",
    "layers",
    "sensory_names",
    "neuron_names",
    "sensory_synapses",
    "recurrent_synapses",
)


@dataclass(frozen=True, eq=False, repr=False)
class Wiring:
    """Synapses of a circuit, as polarities: -1 inhibits, +1 excites, 0 is no synapse.

    Neurons are ordered by layer, in the order of computation; the last `motor_count` of them are
    the outputs. A wiring is immutable, and wirings with the same content are equal.

    sensory: (I, N), synapses from sensory to other neurons.
    recurrent: (N, N); [i, j] is the synapse i -> j.
    motor_count: number of outputs, M.
    layers: names and sizes; the sizes sum to N.
    sensory_names, neuron_names: I and N different names; by default layer and number.

    Raises TypeError for polarities that are not whole numbers, ValueError for other values,
    shapes, sizes or names that do not fit each other.
    """

    sensory: Polarities
    recurrent: Polarities
    motor_count: int
    layers: tuple[tuple[str, int], ...]
    sensory_names: tuple[str, ...] = ()
    neuron_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sensory = _frozen_polarities("sensory", self.sensory)
        recurrent = _frozen_polarities("recurrent", self.recurrent)
        _check_shapes(sensory, recurrent)
        inputs, neurons = sensory.shape
        layers = _checked_layers(self.layers, neurons)
        motor_count = whole_number("motor_count", self.motor_count, at_least=1)
        at_most("motor_count", motor_count, neurons, "the number of neurons is")
        sensory_names = tuple(self.sensory_names) or _numbered("sensory", inputs)
        neuron_names = tuple(self.neuron_names) or sum(
            (_numbered(name, size) for name, size in layers), ()
        )
        _check_names(sensory_names, neuron_names, inputs, neurons)
        # The class is frozen, so normalised values can only be set this way.
        for name, value in (
            ("sensory", sensory),
            ("recurrent", recurrent),
            ("motor_count", motor_count),
            ("layers", layers),
            ("sensory_names", sensory_names),
            ("neuron_names", neuron_names),
        ):
            object.__setattr__(self, name, value)

    @property
    def sensory_count(self) -> int:
        """Number of sensory neurons, I."""
        return int(self.sensory.shape[0])

    @property
    def neuron_count(self) -> int:
        """Number of neurons other than sensory, N."""
        return int(self.sensory.shape[1])

    @property
    def synapse_count(self) -> int:
        """Number of synapses, those from sensory neurons included."""
        return int(np.count_nonzero(self.sensory) + np.count_nonzero(self.recurrent))

    @property
    def layer_slices(self) -> Mapping[str, slice]:
        """The slice of each layer among the neurons, in the order of computation."""
        ends = accumulate((size for _, size in self.layers), initial=0)
        names = (name for name, _ in self.layers)
        return MappingProxyType(
            {name: slice(*ends) for name, ends in zip(names, pairwise(ends), strict=True)}
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content as lists, numbers and names; synapses are [from, to, polarity]."""
        return {
            "motor_count": self.motor_count,
            "layers": [list(layer) for layer in self.layers],
            "sensory_names": list(self.sensory_names),
            "neuron_names": list(self.neuron_names),
            "sensory_synapses": _synapse_list(self.sensory),
            "recurrent_synapses": _synapse_list(self.recurrent),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Wiring:
        """Rebuild a wiring from `to_dict`.

        Raises ValueError for unknown or missing keys and numbers that do not fit, TypeError for
        values that are not lists as in `to_dict`.
        """
        if set(content) != set(_KEYS):
            raise ValueError(
                f"a wiring has the keys {', '.join(_KEYS)}; got {', '.join(map(str, content))}"
            )
        sensory_names = tuple(_listed(content, "sensory_names", "different names"))
        neuron_names = tuple(_listed(content, "neuron_names", "different names"))
        inputs, neurons = len(sensory_names), len(neuron_names)
        return cls(
            sensory=_polarity_matrix(content, "sensory_synapses", (inputs, neurons)),
            recurrent=_polarity_matrix(content, "recurrent_synapses", (neurons, neurons)),
            motor_count=content["motor_count"],
            layers=tuple(
                (name, size) for name, size in _listed(content, "layers", "[name, size]", 2)
            ),
            sensory_names=sensory_names,
            neuron_names=neuron_names,
        )

    def graph(self) -> nx.DiGraph[str]:
        """Return a networkx graph; nodes carry `layer` and `motor`, edges `polarity`."""
        # Imported here: networkx takes longer to load than the rest of the wirings together.
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.sensory_names, layer="sensory", motor=False)
        first_motor = self.neuron_count - self.motor_count
        for layer, where in self.layer_slices.items():
            for index in range(where.start, where.stop):
                motor = index >= first_motor
                graph.add_node(self.neuron_names[index], layer=layer, motor=motor)
        for sources, polarities in (
            (self.sensory_names, self.sensory),
            (self.neuron_names, self.recurrent),
        ):
            for source, target, polarity in _synapse_list(polarities):
                graph.add_edge(sources[source], self.neuron_names[target], polarity=polarity)
        return graph

    def _content(self) -> tuple[Any, ...]:
        return (
            self.sensory.tobytes(),
            self.recurrent.tobytes(),
            self.motor_count,
            self.layers,
            self.sensory_names,
            self.neuron_names,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wiring):
            return NotImplemented
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies call the constructor, because NumPy does not copy read-only flags.
        return Wiring, (
            self.sensory,
            self.recurrent,
            self.motor_count,
            self.layers,
            self.sensory_names,
            self.neuron_names,
        )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{size} {name}" for name, size in self.layers)
        return (
            f"Wiring({self.sensory_count} sensory, {sizes}; "
            f"{self.motor_count} outputs, {self.synapse_count} synapses)"
        )


def _frozen_polarities(name: str, values: npt.ArrayLike) -> Polarities:
    given = np.asarray(values)
    if not np.issubdtype(given.dtype, np.integer):
        raise TypeError(f"{name} must hold whole numbers, got an array of {given.dtype}")
    if not np.isin(given, (-1, 0, 1)).all():
        raise ValueError(f"{name} may hold -1, 0 and +1 only, got {np.unique(given)}")
    polarities = np.array(given, dtype=np.int8, order="C")
    polarities.flags.writeable = False
    return polarities


def _check_shapes(sensory: Polarities, recurrent: Polarities) -> None:
    if sensory.ndim != 2 or 0 in sensory.shape:
        raise ValueError(f"sensory must have the shape (inputs, neurons), got {sensory.shape}")
    neurons = sensory.shape[1]
    if recurrent.shape != (neurons, neurons):
        raise ValueError(
            f"recurrent must have the shape {(neurons, neurons)} to go with sensory of "
            f"{sensory.shape}, got {recurrent.shape}"
        )


def _checked_layers(layers: Sequence[tuple[str, int]], neurons: int) -> tuple[tuple[str, int], ...]:
    checked = tuple(
        (name, whole_number(f"size of layer {name!r}", size, at_least=1)) for name, size in layers
    )
    if len({name for name, _ in checked}) != len(checked):
        raise ValueError(f"layers need different names, got {[name for name, _ in checked]}")
    if sum(size for _, size in checked) != neurons:
        raise ValueError(f"layer sizes must sum to {neurons} neurons, got {checked}")
    return checked


def _check_names(
    sensory_names: tuple[str, ...], neuron_names: tuple[str, ...], inputs: int, neurons: int
) -> None:
    if len(sensory_names) != inputs or len(neuron_names) != neurons:
        raise ValueError(
            f"{inputs} sensory_names and {neurons} neuron_names are needed, "
            f"got {len(sensory_names)} and {len(neuron_names)}"
        )
    names = sensory_names + neuron_names
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be strings, got {names}")
    if len(set(names)) != len(names):
        raise ValueError(f"every neuron, sensory ones included, needs its own name, got {names}")


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(count))


def _synapse_list(polarities: Polarities) -> list[list[int]]:
    sources, targets = np.nonzero(polarities)
    values = polarities[sources, targets]
    return [[int(number) for number in row] for row in zip(sources, targets, values, strict=True)]


def _listed(content: Mapping[str, Any], key: str, what: str, columns: int = 0) -> Sequence[Any]:
    """Return a list of a wiring's content, of rows of so many columns if there are any."""
    rows = content[key]
    if not isinstance(rows, list | tuple):
        raise TypeError(f"{key} must list {what}, got {rows!r}")
    for row in rows if columns else ():
        if not isinstance(row, list | tuple) or len(row) != columns:
            raise TypeError(f"{key} must list {what}, got {row!r} in it")
    return rows


def _polarity_matrix(content: Mapping[str, Any], key: str, shape: tuple[int, int]) -> Polarities:
    matrix = np.zeros(shape, dtype=np.int8)
    for row in _listed(content, key, "[from, to, polarity]", 3):
        if not all(isinstance(each, SupportsIndex) for each in row):
            raise TypeError(f"{key} must hold whole numbers, got {row!r}")
        source, target, polarity = map(operator.index, row)
        if not (0 <= source < shape[0] and 0 <= target < shape[1]):
            raise ValueError(f"synapse {source} -> {target} does not fit {shape} neurons")
        if polarity not in (-1, 1) or matrix[source, target]:
            raise ValueError(
                f"synapse {source} -> {target} needs one polarity, -1 or +1, got {polarity!r}"
                f"{' for a second time' if matrix[source, target] else ''}"
            )
        matrix[source, target] = polarity
    return matrix
