"""Logs of robots, through the policy once more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from liquid_control.deploy import ControlLoop, Metadata, read_log
from liquid_control.export import describe_policy
from liquid_control.export.facts import metadata_of
from liquid_control.monitoring import figures
from liquid_control.monitoring.film import frames
from liquid_control.monitoring.robot_log import Replay, influence, replay_log
from tests.export import cases

STEPS = 60


class InPyTorch:
    """The policy itself in the place of an exported one."""

    def __init__(self, policy: Any) -> None:
        self.metadata: Metadata = metadata_of(describe_policy(policy), trained_interval=(0.02, 0.1))
        self._policy = policy
        self.reset()

    def reset(self) -> None:
        self._state: Any = None
        self.state = np.zeros(self.metadata.state_size, np.float32)

    def step(self, observation: Any, elapsed_time: float) -> Any:
        if not np.isfinite(observation).all():
            raise ValueError("not finite")
        seen: Any = self._policy.observation_space
        if isinstance(seen, spaces.Dict):
            observation = {
                "observation": observation,
                "elapsed_time": np.float32([elapsed_time]),
            }
        start = np.array([self._state is None])
        action, self._state = self._policy.predict(
            observation, self._state, start, deterministic=True
        )
        self.state = self._state[0]
        return np.ravel(action).astype(np.float32)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def loop_of(policy: Any, **options: Any) -> tuple[ControlLoop, Clock]:
    clock = Clock()
    return ControlLoop(InPyTorch(policy), clock=clock, **options), clock


def drive(loop: ControlLoop, clock: Clock, steps: int = STEPS) -> None:
    """Act at jittered intervals, with lost and unusable observations, and a reset on the way."""
    rng = np.random.default_rng(0)
    for step in range(steps):
        seen = rng.normal(0.5, 2, 5).astype(np.float32)
        if step == 21:
            seen[0] = np.nan
        if step == 40:
            loop.reset()
        loop.step(None if step % 7 == 5 or step == 40 else seen)
        clock.now += rng.uniform(0.01, 0.15)


def logged(policy: Any) -> tuple[Metadata, Mapping[str, Any]]:
    loop, clock = loop_of(policy)
    drive(loop, clock)
    return loop.policy.metadata, {name: rows.copy() for name, rows in loop.ring.rows().items()}


def replayed(policy: Any) -> Replay:
    return replay_log(policy, *logged(policy))


POLICIES = {
    "cfc": lambda: cases.make_policy(encoder=[6]),
    "ltc": lambda: cases.make_policy(neurons="ltc"),
    "soft": lambda: cases.soft_policy(encoder=[6]),
    "without elapsed time": lambda: cases.make_policy(observations=cases.VECTOR),
    "discrete": lambda: cases.make_policy(actions=spaces.MultiDiscrete([3, 2])),
}


@pytest.mark.parametrize("name", POLICIES)
def test_actions_and_states_of_the_log_are_those_of_the_policy(name: str) -> None:
    policy = POLICIES[name]()
    facts, rows = logged(policy)
    replay = replay_log(policy, facts, rows)
    np.testing.assert_allclose(replay.errors, 0, atol=1e-6)
    acted = rows["acted"].astype(bool)
    assert replay.skipped == (~acted).sum() > 8
    np.testing.assert_array_equal(replay.rows, np.flatnonzero(acted))
    recording = replay.recording
    # The log has the neurons' activity as the first part of the state.
    neurons = recording.wiring.neuron_count
    np.testing.assert_allclose(recording.activity, rows["state"][acted][:, :neurons], atol=1e-5)
    np.testing.assert_allclose(recording.times[:-1], rows["now"][acted] - rows["now"][0])
    assert recording.elapsed_time.min() >= 0.02
    assert recording.elapsed_time.max() <= 0.1


def test_an_episode_that_starts_in_the_log_resets_the_neurons() -> None:
    policy = cases.make_policy()
    facts, rows = logged(policy)
    np.testing.assert_array_equal(np.flatnonzero(rows["starts"]), [0, 40, 41])
    blind = {**rows, "starts": np.arange(STEPS) == 0}
    errors = replay_log(policy, facts, blind).errors
    late = replay_log(policy, facts, rows).rows >= 41
    np.testing.assert_allclose(errors[~late], 0, atol=1e-6)
    assert errors[late].max() > 1e-4


def test_changed_actions_and_other_weights_show() -> None:
    policy = cases.make_policy()
    facts, rows = logged(policy)
    rows["action"][3, 1] += 0.25
    errors = replay_log(policy, facts, rows).errors
    assert np.unravel_index(errors.argmax(), errors.shape) == (3, 1)
    assert errors.max() == pytest.approx(0.25 / 2.5, rel=1e-4)  # of a range of 2.5
    other = cases.make_policy(seed=1)
    assert replay_log(other, facts, rows).errors.max() > 0.01


def test_a_neuron_at_rest_moves_what_it_drives_and_is_given_back() -> None:
    policy = cases.make_policy()
    replay = replayed(policy)
    count = replay.recording.wiring.neuron_count
    done: list[int] = []
    moved = influence(policy, replay, range(count), on_neuron=done.append)
    assert moved.shape == (count, 3)
    assert done == list(range(1, count + 1))
    assert (moved[-1] > 1e-4).all()  # the last motor neuron, which the head reads
    np.testing.assert_array_equal(replay_log(policy, *logged(policy)).recomputed, replay.recomputed)


def test_parts_are_filmed_and_drawn() -> None:
    replay = replayed(cases.make_policy())
    part = replay.part(1.0, 0.8)
    first = int(np.searchsorted(replay.recording.times, 1.0))
    np.testing.assert_array_equal(
        part.activity, replay.recording.activity[first : first + part.steps]
    )
    assert part.times[0] == 0
    assert len(part.times) == part.steps + 1
    picture = next(iter(frames(part, fps=5)))
    assert picture.shape == (320, 800, 3)
    drawn = figures.raster(part)
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert not any("reward" in title for title in titles)
    assert any("control interval" in title for title in titles)
    assert "return" not in drawn.get_suptitle()
    compared = figures.compared_actions(part, replay.recomputed[first : first + part.steps])
    assert len(compared.axes) == 4
    with pytest.raises(ValueError, match="no step from 99 to 100 s; it lasts"):
        replay.part(99.0, 1.0)


def test_a_pause_is_not_filmed() -> None:
    policy = cases.make_policy()
    facts, rows = logged(policy)
    rows["now"][STEPS // 2 :] += 86_400.0  # seconds
    replay = replay_log(policy, facts, rows)
    assert replay.recording.duration > 86_400
    part = replay.part(0.5, 10.0)
    assert 9.5 < part.duration <= 10
    assert (np.diff(part.times) > 0).all()
    assert len(part.times) == part.steps + 1


@pytest.mark.parametrize("name", ["observation", "action", "state", "elapsed", "now"])
def test_missing_numbers_are_named(name: str) -> None:
    policy = cases.make_policy()
    facts, rows = logged(policy)
    rows[name][4] = np.nan
    with pytest.raises(ValueError, match=f"step 4 of the log has a number of {name} that is miss"):
        replay_log(policy, facts, rows)


def test_time_that_stands_still_and_logs_without_steps_are_named() -> None:
    policy = cases.make_policy()
    facts, rows = logged(policy)
    rows["now"][9] = rows["now"][8]
    with pytest.raises(ValueError, match="step 9 of the log is not later than the one before"):
        replay_log(policy, facts, rows)
    facts, rows = logged(policy)
    rows["acted"][:] = 0
    with pytest.raises(ValueError, match="received no observation"):
        replay_log(policy, facts, rows)


def test_a_file_gives_the_same_as_the_ring(tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="the extra `deploy` is not installed")
    policy = cases.make_policy(encoder=[6])
    path = tmp_path / "robot.mcap"
    loop, clock = loop_of(policy, log=path)
    with loop:
        drive(loop, clock)
        ring = loop.ring.rows()
    facts, rows = read_log(path)
    assert facts.policy_sha256 == describe_policy(policy).policy_sha256
    np.testing.assert_array_equal(
        replay_log(policy, facts, rows).recomputed, replay_log(policy, facts, ring).recomputed
    )
