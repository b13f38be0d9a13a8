"""Rows of the comparison of agents, and the table that holds them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

Observe = Literal["full", "positions", "velocities"]
Rates = Literal["nominal", "varying"]

POINTS = 20
"""Points of a learning curve, at equal distances."""

FIRST_UNTUNED = 200
"""Seeds below this choose learning rates; those from it on are reported."""


@dataclass(frozen=True)
class Training:
    """What a training is: the key of a row.

    Attributes:
        task: of Gymnasium.
        observe: part of the observation that the agent gets.
        rates: the nominal interval, or intervals from half to twice as long.
        clock: whether the agent observes the elapsed time.
        algorithm: class of the agent.
        policy: neurons of the circuit, or the network of SB3's agents.
        learning_rate: at the start of a linear schedule to zero (PPO), or constant (SAC).
        seed: of the training.
        steps: control steps over all environments.
    """

    task: str
    observe: Observe
    rates: Rates
    clock: bool
    algorithm: str
    policy: str
    learning_rate: float
    seed: int
    steps: int

    @property
    def agent(self) -> str:
        """Its name in figures and on the command line."""
        return f"{self.algorithm}:{self.policy}"


@dataclass(frozen=True)
class Result(Training):
    """A row: a training and what was measured; None where it was not.

    Returns are means over 20 episodes on unseen seeds, with deterministic actions, if nothing else
    is said.

    Attributes:
        commit: that trained.
        training_return: mean of the last 100 training episodes.
        deterministic_return: under the conditions of the training.
        deviation: of these returns.
        at_quarter, at_half, at_nominal, at_double, at_fourfold: constant intervals, as ratios of
            the nominal one, rounded to whole physics steps.
        noise_10, noise_30, noise_100: noise of the sensors, per cent of running deviations.
        lost_10, lost_30, lost_50: per cent of observations that are lost; the last one is held.
        curve: returns of training episodes after each twentieth of the steps.
        cpu_seconds: of the training.
        parameters: of the actor.
        synapses: of its circuit, with weights of their own; None without a circuit.
        microseconds: of a decision for one robot, by `predict`.
    """

    commit: str = ""
    training_return: float | None = None
    deterministic_return: float | None = None
    deviation: float | None = None
    at_quarter: float | None = None
    at_half: float | None = None
    at_nominal: float | None = None
    at_double: float | None = None
    at_fourfold: float | None = None
    noise_10: float | None = None
    noise_30: float | None = None
    noise_100: float | None = None
    lost_10: float | None = None
    lost_30: float | None = None
    lost_50: float | None = None
    curve: tuple[int, ...] = ()
    cpu_seconds: int | None = None
    parameters: int | None = None
    synapses: int | None = None
    microseconds: float | None = None

    @property
    def training(self) -> Training:
        """The key of the row."""
        return Training(**{field.name: getattr(self, field.name) for field in fields(Training)})


NAMES = [field.name for field in fields(Result)]
TYPES = get_type_hints(Result)


def read(path: Path) -> list[Result]:
    """Return the rows of a table, none if there is no table yet.

    Raises:
        ValueError: The file has other columns, or a cell is not what its column holds.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != NAMES:
            raise ValueError(f"{path} has the columns {reader.fieldnames}, not {NAMES}")
        return [
            Result(**{name: _from_cell(name, cell) for name, cell in row.items()}) for row in reader
        ]


def append(path: Path, result: Result) -> None:
    """Append a row to a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begins = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if begins:
            writer.writerow(NAMES)
        writer.writerow([_to_cell(getattr(result, name)) for name in NAMES])


def reported(results: Sequence[Result]) -> list[Result]:
    """Return the rows that are reported: seeds that nothing was tuned on, at the tuned rate.

    The learning rate of an agent is the one with the highest mean return over its tuning seeds; one
    that was not tuned has the rate of most of its rows.
    """
    return [
        row
        for row in results
        if row.seed >= FIRST_UNTUNED and row.learning_rate == _tuned_rate(row, results)
    ]


def _tuned_rate(row: Result, results: Sequence[Result]) -> float:
    alike = [
        each
        for each in results
        if (each.task, each.observe, each.rates, each.clock, each.agent, each.steps)
        == (row.task, row.observe, row.rates, row.clock, row.agent, row.steps)
    ]
    tuning = [each for each in alike if each.seed < FIRST_UNTUNED]
    returns: dict[float, list[float]] = {}
    for each in tuning or alike:
        returns.setdefault(each.learning_rate, []).append(each.training_return or 0.0)
    if tuning:
        return max(returns, key=lambda rate: sum(returns[rate]) / len(returns[rate]))
    return max(returns, key=lambda rate: len(returns[rate]))


def _to_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1 else str(value)


def _from_cell(name: str, cell: str) -> Any:
    return PARSERS.get(TYPES[name], str)(cell)


def _optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda cell: parse(cell) if cell else None


PARSERS: dict[Any, Callable[[str], Any]] = {
    bool: {"True": True, "False": False}.__getitem__,
    int: int,
    float: float,
    float | None: _optional(float),
    int | None: _optional(int),
    tuple[int, ...]: lambda cell: tuple(map(int, cell.split())),
}
