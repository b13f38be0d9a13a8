"""A delay of measurements or of commands, in seconds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from liquid_control.envs.parts import Part, draw, number
from liquid_control.envs.substeps import FURTHEST


@dataclass(frozen=True)
class Delay(Part):
    """Delays measurements or commands by seconds that are drawn for each episode.

    Among `sensors`, an observation was measured that long ago; until the first measurement arrives,
    the observation is that of the reset. Among `actuators`, a command takes effect that much later;
    until then the actuators have zero, or the bound nearest to it. In both, a delay acts between
    physics steps: it is rounded to the nearest whole number of these, and is the same at every
    control rate.

    Attributes:
        low: The shortest delay in seconds, at least 0.
        high: The longest delay in seconds; None: every delay is `low`.
    """

    kind = "delay"
    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        number(self, "low", 0.0)
        if self.high is None:
            object.__setattr__(self, "high", self.low)
        number(self, "high", 0.0)
        if self.low > self.longest:
            raise ValueError(f"low {self.low} s is above high {self.high} s; swap them")

    @property
    def longest(self) -> float:
        """The longest delay in seconds."""
        assert self.high is not None
        return self.high

    def most(self, timestep: float) -> int:
        """Return the largest number of physics steps of a delay."""
        return round(self.longest / timestep)

    def draw(self, rng: np.random.Generator, timestep: float) -> int:
        """Draw the delay of an episode, in physics steps of `timestep` seconds."""
        return round(float(draw(rng, (self.low, self.longest))) / timestep)

    def check(self, name: str, nominal: float, timestep: float) -> None:
        """Raise a ValueError for a delay that cannot be in seconds; warn if it never acts.

        Args:
            name: Of the delay, for the message.
            nominal: The nominal control interval in seconds.
            timestep: Duration of a physics step in seconds.
        """
        if self.longest and not self.most(timestep):
            warnings.warn(
                f"{name} is at most {self.longest:g} s, less than half a physics step of "
                f"{timestep:g} s, so it delays nothing",
                stacklevel=2,
            )
        if self.longest > FURTHEST * nominal:
            raise ValueError(
                f"{name} of {self.longest:g} seconds is more than {FURTHEST} times the nominal "
                f"interval of {nominal:g} seconds; delays are in seconds, not milliseconds"
            )
