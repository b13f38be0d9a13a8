"""Rows of the comparison of agents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

Observe = Literal["full", "positions", "velocities"]
Rates = Literal["nominal", "varying"]

POINTS = 20
"""Points of a learning curve, at equal distances."""

FIRST_UNTUNED = 200
"""Seeds below this choose learning rates; those from it on are reported."""


@dataclass(frozen=True)
class Training:
    """What a training is.

    Attributes:
        task: of Gymnasium.
        observe: part of the observation that the agent gets.
        rates: the nominal interval, or intervals from half (HalfCheetah and Ant: 0.4 times) to
            twice as long.
        clock: whether the agent observes the elapsed time.
        algorithm: class of the agent.
        policy: neurons of the circuit, or the network of SB3's agents.
        learning_rate: at the start of a linear schedule to zero; constant for SB3's SAC.
        seed: of the training.
        steps: control steps over all environments.
        gamma: discount per nominal interval; SB3's agents discount per step.
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
    gamma: float = 0.99

    @property
    def key(self) -> Training:
        """Itself; at the nominal rate with a clock, which always shows the same time there."""
        given = {field.name: getattr(self, field.name) for field in fields(Training)}
        return Training(**given | {"clock": self.clock or self.rates == "nominal"})

    @property
    def agent(self) -> str:
        """Its name on the command line."""
        return f"{self.algorithm}:{self.policy}"

    @property
    def settings(self) -> str:
        """What is not as usual."""
        gamma = [] if self.gamma == Training.gamma else [f"gamma {self.gamma:g}"]
        return ", ".join([*gamma, *([] if self.key.clock else ["no clock"])])

    @property
    def name(self) -> str:
        """Its name in tables and figures."""
        return ", ".join(filter(None, (self.agent, self.settings)))


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
            the nominal one, rounded to whole physics steps (0.2 and 0.4 on HalfCheetah and Ant).
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
        """What the row is of."""
        return Training(**{field.name: getattr(self, field.name) for field in fields(Training)})

    def steps_to(self, level: float) -> float:
        """Return the first point of the curve with this return, in steps; infinity if none has."""
        points = (place for place, reached in enumerate(self.curve, 1) if reached >= level)
        return next(points, math.inf) * self.steps / POINTS

    def minutes_to(self, level: float) -> float:
        """Return the same in minutes of processor time."""
        return self.steps_to(level) / self.steps * (self.cpu_seconds or math.nan) / 60


def reported(results: Sequence[Result]) -> list[Result]:
    """Return the rows that are reported: seeds that chose no learning rate, at the chosen one.

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
        if (each.task, each.observe, each.rates, each.name, each.steps)
        == (row.task, row.observe, row.rates, row.name, row.steps)
    ]
    tuning = [each for each in alike if each.seed < FIRST_UNTUNED]
    returns: dict[float, list[float]] = {}
    for each in tuning or alike:
        returns.setdefault(each.learning_rate, []).append(each.training_return or 0.0)
    if tuning:
        return max(returns, key=lambda rate: sum(returns[rate]) / len(returns[rate]))
    return max(returns, key=lambda rate: len(returns[rate]))
