"""What a policy can stand: its return over control interval, delay and dropout."""

from __future__ import annotations

import io
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.policies.observations import ELAPSED_TIME
from liquid_control.policies.stateful import StatefulPolicy

KEPT = 0.8  # of the nominal return
CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Condition:
    """A fixed control interval and delay, in seconds, and the share of lost observations."""

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
        low: the mean return is at least this, with a confidence of `CONFIDENCE`.
        episodes: that were measured.
    """

    interval: float
    delay: float
    dropout: float
    mean: float
    low: float
    episodes: int

    @property
    def condition(self) -> Condition:
        """The condition that was measured."""
        return Condition(self.interval, self.delay, self.dropout)


@dataclass(frozen=True)
class Certificate:
    """Returns in all conditions, and the box in which the policy keeps `KEPT` of the nominal one.

    Attributes:
        nominal: mean return at the nominal interval, without delay and dropout.
        needed: the mean return that counts as kept.
        cells: what was measured.
        box: lowest and highest value of "interval", "delay" and "dropout"; in each condition that
            was measured within it, the return is kept with confidence. None if it is not even in
            the nominal one.
    """

    nominal: float
    needed: float
    cells: tuple[Cell, ...]
    box: Mapping[str, tuple[float, float]] | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able numbers."""
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
        intervals: seconds, with the nominal one among them.
        delays: seconds, with 0 among them.
        dropouts: shares, with 0 among them.
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
    """Return what the mean is above with a confidence of `CONFIDENCE`, by the bootstrap.

    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
    """
    rng = np.random.default_rng(0)
    drawn = rng.choice(returns, (RESAMPLES, len(returns)))
    return float(np.quantile(drawn.mean(axis=1), 1 - CONFIDENCE))


def _box(
    cells: Sequence[Cell], needed: float, nominal: Condition, axes: Sequence[Sequence[float]]
) -> Mapping[str, tuple[float, float]] | None:
    """Return the box with most conditions around the nominal one, all of which are kept."""
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


def measure_returns(
    policy: StatefulPolicy, env: VecEnv, condition: Condition, seed: int = 0
) -> NDArray[np.float64]:
    """Return the undiscounted return of the first episode of each environment, (envs,).

    The policy gets observations that were measured at least `condition.delay` seconds ago: until
    there is one, the first of the episode. A lost observation is as for `ControlLoop`: the action
    is held, the neurons stand still, and the next observation carries the whole elapsed time.

    Args:
        policy: of an agent.
        env: monitored tasks at a fixed interval of `condition.interval` seconds.
        condition: delay and dropout.
        seed: of the dropout.
    """
    rng = np.random.default_rng(seed)
    behind = math.ceil(condition.delay / condition.interval - 1e-6)
    count = env.num_envs
    returns, running = np.zeros(count), np.ones(count, dtype=bool)
    latest = env.reset()
    waiting = deque([latest] * behind)
    state: Any = None
    action: Any = None
    lost_time = np.zeros(count, np.float32)
    starts = np.ones(count, dtype=bool)
    while running.any():
        waiting.append(latest)
        seen = waiting.popleft()
        lost = rng.random(count) < condition.dropout
        if action is None:
            lost[:] = False  # there is nothing to hold yet
        given = _with_time(seen, lost_time)
        chosen, after = policy.predict(given, state, starts, deterministic=True)
        if action is None:
            action, state = chosen, after
        action = _where(lost, action, chosen)
        state = _where(lost, state, after)
        lost_time = np.where(lost, lost_time + condition.interval, 0.0).astype(np.float32)
        starts = np.zeros(count, dtype=bool)
        latest, _, ended, infos = env.step(action)
        for index in np.flatnonzero(running & ended):
            returns[index] = infos[index]["episode"]["r"]
        running &= ~ended
    return returns


def _with_time(observation: Any, more: NDArray[np.float32]) -> Any:
    """Add seconds to the elapsed time that observations carry, if they do."""
    if not isinstance(observation, dict) or ELAPSED_TIME not in observation:
        return observation
    elapsed = observation[ELAPSED_TIME]
    return {**observation, ELAPSED_TIME: elapsed + more.reshape(-1, *[1] * (elapsed.ndim - 1))}


def _where(chosen: NDArray[np.bool_], first: Any, second: Any) -> Any:
    return np.where(chosen.reshape(-1, *[1] * (np.ndim(first) - 1)), first, second)


def page(certificate: Certificate, task: str, nominal_interval: float) -> str:
    """Return the certificate as Markdown."""
    lines = [f"# Certificate of a policy for {task}", "", *_summary(certificate), ""]
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
        f"The mean return at the nominal interval is {certificate.nominal:.4g}, without delay and "
        f"with all observations. Keeping {KEPT:.0%} of it means {certificate.needed:.4g}."
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
