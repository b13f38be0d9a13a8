"""The control loop of a robot around an exported policy."""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from liquid_control.deploy.log import LogWriter
from liquid_control.deploy.metadata import Metadata
from liquid_control.deploy.ring import Ring, Row

KEPT = 60.0  # seconds in the ring, if steps follow each other as soon as in training
MOST = 1_000_000  # rows in it
ENOUGH = 10  # least number of steps to estimate conditions
TOLERANCE = 0.01  # of intervals and delays beyond the certificate's, in nominal intervals


class Policy(Protocol):
    """The interface of `CPolicy` and `OnnxPolicy`."""

    metadata: Metadata

    @property
    def state(self) -> NDArray[np.float32]:
        """The state, (state_size,)."""

    def reset(self) -> None:
        """Begin an episode."""

    def step(self, observation: NDArray[Any], elapsed_time: float) -> NDArray[Any]:
        """Return the action for the raw numbers of an observation."""


class ControlLoop:
    """Acts on one robot: measures the elapsed time, and handles missing or invalid observations.

        with ControlLoop(CPolicy(library, metadata), log=Path("robot.mcap")) as loop:
            while running:
                send(loop.step(read_sensors()))
                sleep_until_next_period()

    The elapsed time is the time since the previous observation. One outside the intervals of the
    training is clamped to them, and counted; a policy without elapsed time is given the nominal
    interval. If an observation is None, or the policy rejects it, the state does not change and the
    action is held or zero.

    Args:
        policy: the exported policy.
        missing: what to do without an observation: "hold" the last action, or return "zero", or the
            bound that is nearest to it.
        log: an MCAP file to write, or None; see `LogWriter` for one that exists.
        clock: seconds that never run backwards.

    Attributes:
        ring: as many steps as fit into a minute at the shortest interval of the training, so that
            they last longer at a longer one; see `Ring`.
        events: counts of "missing" (no observation), "refused" (one was not finite, or the
            arithmetic overflowed), "short" and "long" (intervals outside those of the training),
            and "interval", "delay" and "dropout", conditions that left the box of the certificate,
            each with a warning.

    Raises:
        ValueError: `missing` is something else.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        missing: Literal["hold", "zero"] = "hold",
        log: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if missing not in ("hold", "zero"):
            raise ValueError(f"missing must be 'hold' or 'zero', got {missing!r}")
        self.policy, self.events = policy, Counter[str]()
        self._clock, self._holds = clock, missing == "hold"
        self._facts = facts = policy.metadata
        self._rest = _resting_action(facts)
        self._none = np.full(facts.observation_size, np.nan, np.float32)
        self._box: dict[str, tuple[float, float]] = dict((facts.certificate or {}).get("box", {}))
        shortest = min(facts.trained_interval[0], facts.nominal_interval)
        rows = min(math.ceil(KEPT / shortest) + 1, MOST)
        sizes = facts.observation_size, facts.action_size, facts.state_size
        self.ring = Ring(rows, *sizes)
        self._log = None if log is None else LogWriter(log, facts)
        self.reset()

    def reset(self) -> None:
        """Begin an episode with the next step."""
        self.policy.reset()
        self._observed: float | None = None
        self._action: NDArray[Any] = self._rest.copy()
        self._outside: set[str] = set()

    def step(
        self, observation: NDArray[Any] | None, *, measured_at: float | None = None
    ) -> NDArray[Any]:
        """Return the action to hold until the next step, (action_size,).

        Args:
            observation: raw numbers of all parts, (observation_size,); None if there is none.
            measured_at: time of the measurement, in seconds of the clock; None or NaN if unknown.

        Raises:
            ValueError: the observation has another size.
        """
        now = self._clock()
        elapsed, seen = self._elapsed(now), self._none
        acted, starts = False, self._observed is None
        if observation is None:
            self.events["missing"] += 1
        else:
            seen = np.asarray(observation, np.float32).ravel()
            if len(seen) != self._facts.observation_size:
                raise ValueError(
                    f"an observation has {self._facts.observation_size} numbers, got {len(seen)}"
                )
            acted = self._act(seen, elapsed)
        if acted:
            self._observed = now
        elif not self._holds:
            self._action = self._rest.copy()
        delay = 0.0
        if measured_at is not None and math.isfinite(measured_at):
            delay = now - measured_at
        latency = self._clock() - now
        state = self.policy.state
        row = Row(now, elapsed, latency, delay, acted, starts, seen, self._action, state)
        self.ring.append(row)
        if self._log is not None:
            self._log.write(row)
        self._watch()
        return self._action.copy()

    def close(self) -> None:
        """Finish the log.

        Raises:
            OSError: a row could not be written.
        """
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OSError as fault:
            if error is None:
                raise
            warnings.warn(f"the log is incomplete: {fault}", stacklevel=2)  # `error` goes on

    def _elapsed(self, now: float) -> float:
        """Return the seconds since the previous observation."""
        return self._facts.nominal_interval if self._observed is None else now - self._observed

    def _act(self, observation: NDArray[Any], elapsed: float) -> bool:
        """Act on an observation; return whether the policy accepted it."""
        within = elapsed if self._facts.is_timed else self._facts.nominal_interval
        if self._facts.is_timed and self._observed is not None:
            within = self._facts.clamped(elapsed)
            if not math.isclose(within, elapsed, rel_tol=1e-6):
                self.events["short" if elapsed < within else "long"] += 1
        try:
            self._action = self.policy.step(observation, within)
        except ValueError:
            self.events["refused"] += 1
            return False
        return True

    def _watch(self) -> None:
        """Warn if a condition leaves the box of the certificate."""
        if len(self.ring) < ENOUGH:
            return
        for name, value in self.ring.conditions().items():
            low, high = self._box.get(name, (-math.inf, math.inf))
            slack = 0.0 if name == "dropout" else TOLERANCE * self._facts.nominal_interval
            if low - slack <= value <= high + slack:
                self._outside.discard(name)
            elif name not in self._outside:
                self._outside.add(name)
                self.events[name] += 1
                seconds = self.ring.duration
                last = "minute" if seconds <= KEPT else f"{seconds:.0f} s"
                warnings.warn(
                    f"{name}: {value:.4g} over the last {last} is outside of the certificate's "
                    f"{low:.4g} to {high:.4g}",
                    stacklevel=3,
                )


def _resting_action(facts: Metadata) -> NDArray[np.float32]:
    """Return zero, or the bound nearest to it."""
    rest = np.zeros(facts.action_size, np.float32)
    if facts.action["kind"] == "box":
        rest = np.clip(rest, facts.action["low"], facts.action["high"]).astype(np.float32)
    return rest
