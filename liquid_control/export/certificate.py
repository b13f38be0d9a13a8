"""Robustness of a policy: its return over control interval, delay and dropout."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.policies.observations import ELAPSED_TIME

KEPT = 0.8  # of the nominal return
CONFIDENCE = 0.95
RESAMPLES = 2000


class Acting(Protocol):
    """A recurrent policy with SB3's `predict`."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Return actions and the next state."""


@dataclass(frozen=True)
class Condition:
    """A fixed control interval and delay, in seconds, and the share of dropped observations."""

    interval: float
    delay: float
    dropout: float


@dataclass(frozen=True)
class Cell:
    """The return in one condition.

    Attributes:
        interval: as in `Condition`.
        delay: as in `Condition`.
        dropout: as in `Condition`.
        mean: of the returns.
        low: lower bound of the mean return, with a confidence of `CONFIDENCE`.
        episodes: number of measured episodes.
    """

    interval: float
    delay: float
    dropout: float
    mean: float
    low: float
    episodes: int

    @property
    def condition(self) -> Condition:
        """The measured condition."""
        return Condition(self.interval, self.delay, self.dropout)


@dataclass(frozen=True)
class Certificate:
    """Returns in all conditions, and the box in which the policy keeps `KEPT` of the nominal one.

    Attributes:
        nominal: mean return at the nominal interval, without delay and dropout.
        needed: the mean return that counts as kept.
        cells: the measured returns.
        box: lowest and highest value of "interval", "delay" and "dropout"; in each measured
            condition within it, the return is kept with confidence. None if it is not kept even
            in the nominal condition.
    """

    nominal: float
    needed: float
    cells: tuple[Cell, ...]
    box: Mapping[str, tuple[float, float]] | None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return {
            "nominal_return": self.nominal,
            "needed_return": self.needed,
            "kept": KEPT,
            "confidence": CONFIDENCE,
            "cells": [asdict(cell) for cell in self.cells],
            "box": {name: list(bounds) for name, bounds in (self.box or {}).items()},
        }


def certify(
    measure: Callable[[Condition], NDArray[np.float64]],
    intervals: Sequence[float],
    delays: Sequence[float],
    dropouts: Sequence[float],
    nominal_interval: float,
) -> Certificate:
    """Measure the return in every condition, and find the box.

    Args:
        measure: returns of episodes in a condition.
        intervals: seconds, including the nominal one.
        delays: seconds, including 0.
        dropouts: shares, including 0.
        nominal_interval: seconds.
    """
    axes = [sorted(intervals), sorted(delays), sorted(dropouts)]
    cells = tuple(
        _cell(condition, measure(condition))
        for condition in itertools.starmap(Condition, itertools.product(*axes))
    )
    first = Condition(nominal_interval, 0.0, 0.0)
    nominal = next(cell.mean for cell in cells if cell.condition == first)
    needed = nominal - (1 - KEPT) * abs(nominal)
    return Certificate(nominal, needed, cells, _box(cells, needed, first, axes))


def _cell(condition: Condition, returns: NDArray[np.float64]) -> Cell:
    return Cell(
        **asdict(condition),
        mean=float(returns.mean()),
        low=lower_bound(returns),
        episodes=len(returns),
    )


def lower_bound(returns: NDArray[np.float64]) -> float:
    """Return the lower bound of the mean with a confidence of `CONFIDENCE`, by the bootstrap.

    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
    """
    rng = np.random.default_rng(0)
    drawn = rng.choice(returns, (RESAMPLES, len(returns)))
    return float(np.quantile(drawn.mean(axis=1), 1 - CONFIDENCE))


def _box(
    cells: Sequence[Cell], needed: float, nominal: Condition, axes: Sequence[Sequence[float]]
) -> Mapping[str, tuple[float, float]] | None:
    """Return the largest box around the nominal condition in which all returns are kept."""
    kept = {cell.condition for cell in cells if cell.low >= needed}
    best: tuple[int, Mapping[str, tuple[float, float]]] | None = None
    intervals, delays, dropouts = axes
    for low, high in itertools.product(intervals, intervals):
        if not low <= nominal.interval <= high:
            continue
        for delay, dropout in itertools.product(delays, dropouts):
            within = [
                cell.condition
                for cell in cells
                if low <= cell.interval <= high and cell.delay <= delay and cell.dropout <= dropout
            ]
            if kept.issuperset(within) and (best is None or len(within) > best[0]):
                bounds = {"interval": (low, high), "delay": (0.0, delay), "dropout": (0.0, dropout)}
                best = len(within), bounds
    return None if best is None else best[1]


def sensors_of(condition: Condition) -> list[dict[str, Any]]:
    """Return the sensors of `liquid_control.envs` that put a task into a condition.

    They follow a task's own, and append two numbers to the observation: its age before and after
    dropout.
    """
    return [
        {"kind": "delay", "low": condition.delay},
        {"kind": "age"},
        {"kind": "dropout", "probability": condition.dropout},
        {"kind": "age"},
    ]


def measure_returns(
    policy: Acting, env: VecEnv, trained_interval: tuple[float, float] = (0.0, np.inf)
) -> NDArray[np.float64]:
    """Return the undiscounted return of the first episode of each environment, (envs,).

    A dropped observation is treated as in `ControlLoop`: the action is held, the state does not
    change, and the next observation carries the whole elapsed time, clamped to the intervals of the
    training.

    Args:
        policy: of an agent, or `InC`.
        env: monitored tasks at a fixed interval, whose last sensors are those of `sensors_of`.
        trained_interval: shortest and longest interval of the training, in seconds.
    """
    count = env.num_envs
    returns, running = np.zeros(count), np.ones(count, dtype=bool)
    seen, ages = _without_ages(env.reset())
    action, state = policy.predict(seen, None, np.ones(count, dtype=bool), deterministic=True)
    goes_on = np.zeros(count, dtype=bool)
    while True:
        latest, _, ended, infos = env.step(action)
        for index in np.flatnonzero(running & ended):
            returns[index] = infos[index]["episode"]["r"]
        running &= ~ended
        if not running.any():
            return returns
        seen, ages = _without_ages(latest)
        if ELAPSED_TIME in seen:
            seen[ELAPSED_TIME] = np.clip(seen[ELAPSED_TIME], *trained_interval, dtype=np.float32)
        lost = ages[:, 1] > ages[:, 0]  # the age grows where the last observation is held
        chosen, after = policy.predict(seen, state, goes_on, deterministic=True)
        action, state = _where(lost, action, chosen), _where(lost, state, after)


def _without_ages(observation: Any) -> tuple[Any, NDArray[Any]]:
    """Split the two ages from observations."""
    seen = observation["observation"]
    return {**observation, "observation": seen[:, :-2]}, seen[:, -2:]


def _where(chosen: NDArray[np.bool_], first: Any, second: Any) -> Any:
    return np.where(chosen.reshape(-1, *[1] * (np.ndim(first) - 1)), first, second)


def page(
    certificate: Certificate,
    task: str,
    nominal_interval: float,
    rounding: Mapping[str, float] | None = None,
    weights: str = "",
) -> str:
    """Return the certificate as Markdown; `rounding` and `weights` as in `Metadata`."""
    lines = [f"# Certificate of a policy for {task}", "", *_summary(certificate), ""]
    if rounding is not None:
        lines += [_rounding(rounding, weights), ""]
    for dropout in sorted({cell.dropout for cell in certificate.cells}):
        lines += [f"## {dropout:.0%} of the observations lost", ""]
        lines += [*_table(certificate, dropout, nominal_interval), ""]
    episodes = certificate.cells[0].episodes
    legend = (
        f"Numbers are mean returns of {episodes} episodes that training has not seen; in brackets "
        f"what the mean is above, with {CONFIDENCE:.0%} confidence (bootstrap). **Bold**: that is "
        f"at least {certificate.needed:.4g}."
    )
    return "\n".join([*lines, legend, ""])


def figure(certificate: Certificate, task: str) -> bytes:
    """Return maps of the share of the nominal return that is kept, as a PNG image."""
    from matplotlib.figure import Figure  # takes long to import

    intervals, delays, dropouts = (
        sorted({getattr(cell, name) for cell in certificate.cells})
        for name in ("interval", "delay", "dropout")
    )
    means = {cell.condition: cell.mean for cell in certificate.cells}
    drawing = Figure(figsize=(3.2 * len(dropouts) + 1, 3.6), layout="constrained")
    maps = drawing.subplots(1, len(dropouts), squeeze=False)[0]
    scale = abs(certificate.nominal) or 1.0
    for axes, dropout in zip(maps, dropouts, strict=True):
        shares = [
            [
                1 + (means[Condition(interval, delay, dropout)] - certificate.nominal) / scale
                for delay in delays
            ]
            for interval in intervals
        ]
        image = axes.imshow(shares, origin="lower", aspect="auto", vmin=0, vmax=1.2)
        for (row, column), share in np.ndenumerate(np.array(shares)):
            colour = "black" if share > 0.7 else "white"
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(delays)), [f"{delay:g}" for delay in delays])
        axes.set_yticks(range(len(intervals)), [f"{interval:g}" for interval in intervals])
        axes.set(title=f"{dropout:.0%} lost", xlabel="delay, s")
    maps[0].set_ylabel("interval, s")
    drawing.colorbar(image, ax=list(maps), label="share of the nominal return")
    drawing.suptitle(f"Certificate for {task}")
    file = io.BytesIO()
    drawing.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _summary(certificate: Certificate) -> Iterator[str]:
    yield (
        f"The mean return at the nominal interval is {certificate.nominal:.4g}, with the recipe's "
        "sensors alone: delays and losses below come on top of theirs. Keeping "
        f"{KEPT:.0%} of it means {certificate.needed:.4g}."
    )
    yield ""
    if certificate.box is None:
        yield "The policy keeps it in no condition that was measured, with that few episodes."
        return
    (low, high), (_, delay), (_, dropout) = (
        certificate.box[name] for name in ("interval", "delay", "dropout")
    )
    yield (
        f"The policy keeps it at fixed intervals from {low:g} to {high:g} s, with a delay of up to "
        f"{delay:g} s and up to {dropout:.0%} of the observations lost, in every condition of the "
        "tables within that box. `ControlLoop` warns when a robot leaves it."
    )


def _rounding(rounding: Mapping[str, float], weights: str) -> str:
    return (
        f"Weights are rounded to {weights}, in every number of this page. Rounding moves actions "
        f"by at most {rounding['error']:.2g} of their range, on average by "
        f"{rounding['mean_error']:.2g}. With weights in single precision, the mean return of the "
        f"same episodes is {rounding['float_return']:.4g}."
    )


def _table(certificate: Certificate, dropout: float, nominal: float) -> Iterator[str]:
    cells = [cell for cell in certificate.cells if cell.dropout == dropout]
    delays = sorted({cell.delay for cell in cells})
    yield "| interval, s | " + " | ".join(f"delay {delay:g} s" for delay in delays) + " |"
    yield "| ---: |" + " ---: |" * len(delays)
    for interval in sorted({cell.interval for cell in cells}):
        row = [cell for cell in cells if cell.interval == interval]
        texts = []
        for cell in sorted(row, key=lambda each: each.delay):
            mean = f"{cell.mean:.4g}"
            kept = cell.low >= certificate.needed
            texts.append(f"{f'**{mean}**' if kept else mean} ({cell.low:.4g})")
        name = f"{interval:g}" + (" (nominal)" if interval == nominal else "")
        yield f"| {name} | " + " | ".join(texts) + " |"
