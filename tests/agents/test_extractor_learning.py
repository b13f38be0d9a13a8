"""PPO of SB3, unmodified, with a circuit for its features extractor."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "any_sb3_algorithm.py"


@pytest.mark.slow
def test_the_example_balances_a_pendulum_that_shows_no_velocities() -> None:
    """At a varying rate: a mean return of at least 900 of 1000 over 20 unseen episodes."""
    example = runpy.run_path(str(EXAMPLE))
    assert example["score"](example["train"]()) >= 900
