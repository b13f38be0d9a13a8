"""The description of a policy's acting step that does not depend on any framework.

A step is a list of statements on named vectors of single-precision numbers. The backends generate
C and ONNX from it; neither knows what a neuron is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from liquid_control.export.expressions import Apply, Expression, Floats, Parameter, Source

Indices: TypeAlias = NDArray[np.int64]


class ExportError(ValueError):
    """A policy, or a part of it, cannot be exported; the message gives the part and reason."""


@dataclass(frozen=True, eq=False)
class Assign:
    """Compute a scalar, such as the elapsed time in units of the circuit."""

    scalar: str
    value: Expression


@dataclass(frozen=True, eq=False)
class Map:
    """Compute the entries `start` to `stop` of vectors, each from the entries at its index.

    All formulas read the vectors' previous values.

    Attributes:
        title: of the computation.
        start: first entry.
        stop: the one after the last.
        results: vectors and the formulas of their entries.
    """

    title: str
    start: int
    stop: int
    results: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, eq=False)
class Sum:
    """Sum the contributions of synapses from the entries of one vector to those of others.

    Synapses are ordered by their targets: those into entry `start + i` are the ones from
    `starts[i]` up to `starts[i + 1]`.

    Attributes:
        title: of the sum.
        name: of the synapses, a part of the names of constants.
        source: their source vector.
        start: first entry of the targets.
        starts: (entries + 1,).
        sources: (synapses,), entries of the source.
        parameters: (parameters, synapses).
        contributions: target vectors, and a synapse's contribution to each, formulas of `Source`
            and `Parameter`.
        initial: initial values of the targets, (targets, entries); None to add to current ones.
        scales: (parameters, entries); each parameter is a whole number times the scale of its
            target. None for unrounded parameters.
    """

    title: str
    name: str
    source: str
    start: int
    starts: Indices
    sources: Indices
    parameters: Floats
    contributions: tuple[tuple[str, Expression], ...]
    initial: Floats | None
    scales: Floats | None = None

    @property
    def stop(self) -> int:
        """The entry after the last target."""
        return self.start + len(self.starts) - 1

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the target vectors."""
        return tuple(target for target, _ in self.contributions)

    @property
    def is_linear(self) -> bool:
        """Whether each contribution is the parameter of the same index times the source."""
        return all(
            isinstance(each, Apply)
            and each.function == "mul"
            and isinstance(each.arguments[0], Parameter)
            and each.arguments[0].index == index
            and isinstance(each.arguments[1], Source)
            for index, (_, each) in enumerate(self.contributions)
        )

    def matrix(self, size: int) -> Floats:
        """Return weights of linear synapses (size, targets, entries), zero without a synapse.

        Args:
            size: of the source vector.
        """
        dense = np.zeros((size, len(self.parameters), len(self.starts) - 1), np.float32)
        entries = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        dense[self.sources, :, entries] = self.parameters.T
        return dense


@dataclass(frozen=True, eq=False)
class Dense:
    """Compute a vector as a matrix times another, plus a bias.

    Attributes:
        title: of the computation.
        name: of the layer, a part of the names of constants.
        source: a vector of `inputs` entries.
        target: a vector of `outputs` entries.
        weight: (outputs, inputs).
        bias: (outputs,).
        scales: (outputs,), as in `Sum`.
    """

    title: str
    name: str
    source: str
    target: str
    weight: Floats
    bias: Floats
    scales: Floats | None = None


@dataclass(frozen=True, eq=False)
class ArgMax:
    """Set one entry of a vector to the index of the largest among entries of another.

    Attributes:
        title: of the computation.
        source: the vector to search.
        start: first entry; indices count from it.
        stop: the one after the last.
        target: a vector.
        index: the entry of the target.
    """

    title: str
    source: str
    start: int
    stop: int
    target: str
    index: int


@dataclass(frozen=True, eq=False)
class Repeat:
    """Execute statements several times."""

    title: str
    times: int
    body: tuple[Statement, ...]


Statement: TypeAlias = Assign | Map | Sum | Dense | ArgMax | Repeat


@dataclass(frozen=True)
class Part:
    """One part of the observation, as in training.

    Attributes:
        name: its key, or "observation".
        kind: "box", "discrete", "multi_discrete" or "multi_binary".
        shape: of the array; () for one whole number.
        sizes: how many values each number of a discrete kind has.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Action:
    """The action that the policy returns.

    Attributes:
        kind: "box", "discrete", "multi_discrete" or "multi_binary".
        shape: of the array; () for one whole number.
        sizes: how many values each number of a discrete kind has.
        low: least value of each number of a box.
        high: greatest value of each number of a box.
        noise: number of noise inputs of a sampled action, of the kind `noise_kind`.
        noise_kind: "normal", "gumbel" or "logistic".
    """

    kind: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    noise: int
    noise_kind: str

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Description:
    """A policy's acting step for one robot.

    The statements read the vector `observation`, the raw numbers of all parts in order; the scalar
    `elapsed_time`, in seconds; if `is_sampled`, the vector `noise`; and the vectors of the state,
    which they advance. They write the vector `action`, within its bounds. At the start of an
    episode, the state is zero.

    Attributes:
        neurons: name of the neurons, such as "cfc".
        parts: of the observation.
        action: the returned action.
        nominal_interval: seconds; the elapsed time of the first step of an episode.
        is_timed: whether the policy takes the elapsed time; else each step lasts the nominal one.
        shortest: elapsed times are longer than this, in seconds.
        longest: elapsed times are shorter than this, in seconds.
        states: vectors of the state and their sizes, in the order of the policy's state.
        vectors: all other vectors and their sizes.
        statements: one step.
        motor: the vector of motor activity, the input of the action head.
        is_sampled: whether actions are sampled with noise as an input.
        neuron_names: of the first vector of the state.
        policy_sha256: hash of the weights with which the policy acts.
        weights: "float32", or their rounded kind; see `quantized`.
    """

    neurons: str
    parts: tuple[Part, ...]
    action: Action
    nominal_interval: float
    is_timed: bool
    shortest: float
    longest: float
    states: Mapping[str, int]
    vectors: Mapping[str, int]
    statements: tuple[Statement, ...]
    motor: str
    is_sampled: bool
    neuron_names: tuple[str, ...] = field(default=())
    policy_sha256: str = ""
    weights: str = "float32"

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return sum(part.size for part in self.parts)

    @property
    def state_size(self) -> int:
        """Numbers in the state."""
        return sum(self.states.values())

    def size(self, vector: str) -> int:
        """Return the number of entries of a vector."""
        if vector == "observation":
            return self.observation_size
        if vector == "noise":
            return self.action.noise
        return self.states.get(vector, 0) or self.vectors[vector]

    @property
    def multiply_adds(self) -> int:
        """Products of weights and activities in one step, without functions."""
        return sum(
            times * (each.weight.size if isinstance(each, Dense) else each.parameters.size)
            for times, each in flat(self.statements)
            if isinstance(each, Dense | Sum)
        )

    @property
    def parameter_count(self) -> int:
        """Weights of synapses and layers, with biases."""
        return sum(
            each.weight.size + each.bias.size
            if isinstance(each, Dense)
            else each.parameters.size + (0 if each.initial is None else each.initial.size)
            for _, each in flat(self.statements)
            if isinstance(each, Dense | Sum)
        )


def flat(statements: Sequence[Statement], times: int = 1) -> Iterator[tuple[int, Statement]]:
    """Yield each statement once, with the number of times that it is executed."""
    for statement in statements:
        if isinstance(statement, Repeat):
            yield from flat(statement.body, times * statement.times)
        else:
            yield times, statement


def linear(*targets: str) -> tuple[tuple[str, Expression], ...]:
    """Return the contributions of synapses with one weight for each target."""
    return tuple((target, Parameter(index) * Source()) for index, target in enumerate(targets))


def as_floats(values: Any) -> Floats:
    """Return numbers in single precision."""
    return np.asarray(values, dtype=np.float32)
