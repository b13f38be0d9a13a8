"""A controller acts as `predict` does with its state and elapsed times, and refuses the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from liquid_control import SoftLiquidPolicy
from liquid_control.policies import Controller
from liquid_control.policies.stateful import StatefulPolicy
from tests.policies.conftest import ACTIONS, NOMINAL, PARTS, PLAIN, TIMED, at, draw, make_policy

STEPS = 6
VECTOR = spaces.Dict({"observation": PLAIN, "elapsed_time": spaces.Box(0.0, np.inf, (1,))})


def soft(observations: spaces.Space[Any] = PLAIN) -> SoftLiquidPolicy:
    torch.manual_seed(0)
    return SoftLiquidPolicy(
        observations,
        spaces.Box(-2.0, 3.0, (2,)),
        lambda _: 1e-2,
        wiring={"kind": "auto_ncp", "neurons": 12},
        nominal_interval=NOMINAL,
    )


def predicted(policy: StatefulPolicy, observations: list[Any]) -> list[Any]:
    """Actions over an episode."""
    actions, state = [], None
    for each in observations:
        action, state = policy.predict(each, state, deterministic=True)
        actions.append(action)
    return actions


def times(observations: Any) -> np.ndarray:
    """Such that the elapsed times are those of the observations, and one nominal one before."""
    elapsed = observations["elapsed_time"][:, 0, 0].astype(float)
    elapsed[0] = NOMINAL
    observations["elapsed_time"][0] = NOMINAL
    now = 1000 + np.cumsum(elapsed)
    observations["elapsed_time"][1:, 0, 0] = np.diff(now)  # as rounded
    return now


@pytest.mark.parametrize("make", [make_policy, soft])
@pytest.mark.parametrize("space", [TIMED, VECTOR], ids=["dict", "vector"])
def test_it_acts_as_predict_with_state_and_elapsed_time(
    make: Callable[..., Any], space: spaces.Dict
) -> None:
    policy, drawn = make(space), draw(space, STEPS, 1)
    now = times(drawn)
    seen = [at(drawn, step, 0) for step in range(STEPS)]
    expected = predicted(policy, seen)
    controller = Controller(policy)
    for _ in range(2):
        for step, each in enumerate(seen):
            bare = {name: part for name, part in each.items() if name != "elapsed_time"}
            given = bare["observation"].tolist() if space is VECTOR and step % 2 else bare
            np.testing.assert_array_equal(controller.step(given, now[step]), expected[step])
        controller.reset()  # and the clock begins anew


@pytest.mark.parametrize("space", [PLAIN, PARTS], ids=["vector", "dict"])
def test_without_elapsed_time_each_step_is_nominal(space: spaces.Space[Any]) -> None:
    policy, drawn = make_policy(space), draw(space, STEPS, 1)
    seen = [at(drawn, step, 0) for step in range(STEPS)]
    controller = Controller(policy)
    for step, expected in enumerate(predicted(policy, seen)):
        np.testing.assert_array_equal(controller.step(seen[step], 7.0**step), expected)


def test_without_a_measurement_the_action_is_held_and_time_goes_on() -> None:
    policy, drawn = make_policy(VECTOR), draw(VECTOR, 2, 1)
    drawn["elapsed_time"][:, 0, 0] = NOMINAL, 3 * NOMINAL
    seen = [at(drawn, step, 0) for step in range(2)]
    first, second = predicted(policy, seen)
    controller = Controller(policy)
    first_ = controller.step(seen[0]["observation"], 0.0)
    for now in (NOMINAL, 2 * NOMINAL):
        held = controller.step(None, now)
        np.testing.assert_array_equal(held, first)
        held[:] = 99  # is the caller's
        first_[:] = 99
    with pytest.raises(ValueError, match="after that of the previous one"):
        controller.step(seen[1]["observation"], 2 * NOMINAL)
    action = controller.step(seen[1]["observation"], np.float32(3 * NOMINAL).item())
    np.testing.assert_array_equal(action, second)


def test_what_stands_for_a_lost_observation_lets_the_elapsed_time_grow() -> None:
    policy, drawn = make_policy(VECTOR), draw(VECTOR, 5, 1)
    drawn["elapsed_time"][:, 0, 0] = np.array([1, 1, 2, 3, 1]) * NOMINAL
    drawn["observation"][1:3] = drawn["observation"][0]  # held
    seen = [at(drawn, step, 0) for step in range(5)]
    controller = Controller(policy)
    with pytest.raises(ValueError, match="nothing has arrived yet"):
        controller.step(seen[0]["observation"], 0.0, arrived=False)
    for step, expected in enumerate(predicted(policy, seen)):
        now, arrived = np.float32(step * NOMINAL).item(), step not in (1, 2)
        action = controller.step(seen[step]["observation"], now, arrived=arrived)
        np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_refused(value: float) -> None:
    refused(lambda controller: controller.step([0.0, value, 0.0], 1.0), "observation is not finite")


@pytest.mark.parametrize("now", [np.nan, np.inf, -np.inf, 0.5, 0.4])
def test_impossible_times_are_refused(now: float) -> None:
    refused(lambda controller: controller.step(np.zeros(3), now), "time of a step must be after")
    refused(lambda controller: controller.step(None, now), "time of a step must be after")


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        (np.zeros(2), r"shape \(3,\), got float64 of shape \(2,\)"),
        (np.zeros((1, 3)), r"got float64 of shape \(1, 3\)"),
        (["a", "b", "c"], "must be numbers"),
        ({"observation": np.zeros(3), "elapsed_time": 0.1}, "the controller adds the elapsed time"),
        ({"position": np.zeros(3)}, "a dict of observation, got position"),
    ],
)
def test_other_observations_are_refused(observation: Any, text: str) -> None:
    refused(lambda controller: controller.step(observation, 1.0), text)


def test_a_pause_is_named() -> None:
    controller = Controller(make_policy(VECTOR))
    controller.step(np.ones(3), 0.0)
    with pytest.raises(ValueError, match=r"1000 s have passed .* call reset\(\) after a pause"):
        controller.step(np.ones(3), 1000.0)
    controller.reset()
    controller.step(np.ones(3), 1000.0)


def refused(step: Callable[[Controller], Any], text: str) -> None:
    """A step is refused, and what follows is as if it had not been tried."""
    policy = make_policy(VECTOR)
    disturbed, other = Controller(policy), Controller(policy)
    for controller in (disturbed, other):
        controller.step(np.ones(3), 0.5)
    with pytest.raises(ValueError, match=text):
        step(disturbed)
    actions = [each.step(np.ones(3), 0.6) for each in (disturbed, other)]
    np.testing.assert_array_equal(*actions)


def test_there_must_be_an_action_to_hold() -> None:
    controller = Controller(make_policy(VECTOR))
    with pytest.raises(ValueError, match="no action to hold yet"):
        controller.step(None, 0.0)
    controller.step(np.zeros(3), 0.0)
    controller.reset()
    with pytest.raises(ValueError, match="no action to hold yet"):
        controller.step(None, 1.0)


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_lie_in_the_action_space(name: str) -> None:
    controller = Controller(make_policy(actions=ACTIONS[name]))
    for step in range(3):
        action = controller.step(np.full(3, 10.0 ** (4 * step)), float(step))
        assert ACTIONS[name].contains(action)


def test_an_action_that_is_not_finite_is_refused() -> None:
    policy = make_policy(VECTOR)
    with torch.no_grad():
        policy.action_net.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="is not finite"):
        Controller(policy).step(np.zeros(3), 0.0)


def test_a_discrete_part_must_be_in_its_space() -> None:
    controller = Controller(make_policy(PARTS))
    controller.step({"joints": [0.0, 1.0], "mode": 2}, 0.0)
    with pytest.raises(ValueError, match=r"mode must be in Discrete\(3\), got 3"):
        controller.step({"joints": [0.0, 1.0], "mode": 3}, 1.0)


def test_other_policies_are_refused() -> None:
    with pytest.raises(TypeError, match="takes a LiquidPolicy or a SoftLiquidPolicy"):
        Controller(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
