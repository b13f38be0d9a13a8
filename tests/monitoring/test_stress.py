"""Returns before and after a change in mid-episode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from liquid_control import envs
from liquid_control.monitoring.stress import WINDOWS, Course, courses, in_windows


class Still:
    """An agent that does nothing."""

    def __init__(self, actions: int) -> None:
        self.actions = actions

    def predict(self, observation: Any, state: Any, start: Any, deterministic: bool) -> Any:
        return np.zeros((len(start), self.actions), np.float32), state


COURSE = Course(np.array([0.5, 1.0, 2.0]), np.array([1.0, 2.0, 6.0]), {})


def test_a_step_counts_by_its_part() -> None:
    assert COURSE.earned(0.0, 9.0) == 9.0
    assert COURSE.earned(0.25, 1.5) == pytest.approx(0.5 + 2.0 + 3.0)
    assert COURSE.earned(1.5, 1.5) == 0.0


def test_windows_share_the_return_and_those_that_do_not_exist_are_unknown() -> None:
    before, soon, later = in_windows([COURSE, COURSE], [1.0, 2.5], 0.5, 3.0).T[0]
    assert before == 3.0  # in one second
    assert soon == 6.0  # 3 in half a second
    assert later == pytest.approx(2.0)  # 3 in one and a half, of which the last earns nothing
    rates = in_windows([COURSE], 2.8, 0.5, 3.0)
    assert rates.shape == (len(WINDOWS), 1)
    assert rates[1, 0] == 0.0
    assert np.isnan(rates[2, 0])
    assert np.isnan(in_windows([COURSE], 9.0, 0.5, 3.0)[1, 0])


@pytest.mark.parametrize("interval", [None, envs.Uniform(0.02, 0.1)])
def test_courses_are_those_of_the_environments(interval: Any) -> None:
    """At any rate, an episode lasts as long, and its rewards are those that Monitor adds up."""
    make = {"interval": interval, "events": [envs.Change(at=(1.0, 3.0), gravity=0.5)], "seed": 0}
    venv = envs.make_vec("HalfCheetah-v5", 3, threads=0, max_episode_steps=120, **make)
    found = courses(Still(6), venv)  # type: ignore[arg-type]
    for course in found:
        assert course.ends[-1] == pytest.approx(6.0)
        assert 1.0 <= course.drawn["events.0.at"] <= 3.0
    moments = np.array([course.drawn["events.0.at"] for course in found])
    rates = in_windows(found, moments, 2.0, 6.0)
    seconds = np.stack([moments, np.full(3, 2.0), 4.0 - moments])
    sums = [course.rewards.sum() for course in found]
    np.testing.assert_allclose((rates * seconds).sum(axis=0), sums, rtol=1e-6)
    venv.close()
