"""Laws of correlations, lesions, smoothness and saturation of recordings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from liquid_control import LiquidPPO, envs
from liquid_control.agents.evaluation import evaluate
from liquid_control.monitoring.analysis import (
    Lesions,
    lesions,
    listening,
    saturated_share,
    smoothness,
)
from liquid_control.monitoring.recording import Recording, circuit_of
from liquid_control.neurons.lesion import at_rest
from tests.monitoring.recordings import synthetic

Array = NDArray[np.float64]


def lasting(seconds: Array, actions: Array) -> Recording:
    """An episode with these actions (T,) or (T, A), each held for so many seconds."""
    actions = actions.reshape(len(seconds), -1)
    template = synthetic(steps=len(seconds), actions=actions.shape[1])
    return replace(template, times=np.concatenate([[0], np.cumsum(seconds)]), actions=actions)


# Listening.


def test_correlations_are_numpys_where_all_steps_last_equally_long() -> None:
    recording = synthetic(neurons=8, actions=3, steps=100, observations=5)
    recording = replace(recording, times=np.arange(101) * 0.05)
    correlations = listening(recording)
    everything = np.hstack([recording.activity, recording.observations, recording.actions])
    expected = np.corrcoef(everything.astype(np.float64), rowvar=False)[:8]
    np.testing.assert_allclose(correlations.observations, expected[:, 8:13], atol=1e-9)
    np.testing.assert_allclose(correlations.actions, expected[:, 13:], atol=1e-9)


def test_a_step_that_lasts_twice_as_long_counts_as_two() -> None:
    once = synthetic(neurons=8, steps=50)
    substeps = np.round(np.diff(once.times) / 0.01).astype(int)
    each = replace(
        once,
        times=np.arange(substeps.sum() + 1) * 0.01,
        activity=once.activity.repeat(substeps, axis=0),
        observations=once.observations.repeat(substeps, axis=0),
        actions=once.actions.repeat(substeps, axis=0),
    )
    np.testing.assert_allclose(
        listening(once).observations, listening(each).observations, atol=1e-9
    )
    np.testing.assert_allclose(listening(once).actions, listening(each).actions, atol=1e-9)


def test_a_neuron_that_follows_an_observation_listens_to_it_alone() -> None:
    recording = synthetic(neurons=8, steps=30, observations=2)
    activity = recording.activity.copy()
    activity[:, 0] = 3 + 2 * recording.observations[:, 1]
    activity[:, 1] = -1e-6 * recording.observations[:, 1]
    correlations = listening(replace(recording, activity=activity)).observations
    assert correlations[0, 1] == pytest.approx(1)
    assert correlations[1, 1] == pytest.approx(-1)
    assert abs(correlations[0, 0]) < 0.9


def test_no_correlation_is_above_one_by_rounding() -> None:
    recording = synthetic(neurons=64, steps=300, observations=64)
    correlations = listening(replace(recording, activity=-3 * recording.observations)).observations
    assert np.diag(correlations) == pytest.approx(-1)
    assert abs(correlations).max() <= 1


@pytest.mark.parametrize("steps", [1, 30])
def test_constant_signals_have_correlation_zero(steps: int) -> None:
    recording = synthetic(neurons=8, steps=30)
    observations, activity = recording.observations.copy(), recording.activity.copy()
    observations[:, 0] = 0.1  # no number of the machine, so a mean of it is rounded
    activity[:, 2] = np.pi
    recording = replace(
        recording,
        times=recording.times[: steps + 1],
        observations=observations[:steps],
        activity=activity[:steps],
        actions=recording.actions[:steps],
    )
    correlations = listening(recording)
    assert not correlations.observations[:, 0].any()
    assert not correlations.observations[2].any()
    assert not correlations.actions[2].any()
    assert np.all(correlations.observations == 0) == (steps == 1)


def test_rows_and_columns_have_the_names_of_the_recording() -> None:
    recording = synthetic(neurons=8, actions=3, observations=5)
    correlations = listening(recording)
    assert correlations.observations.shape == (8, 5) == (8, len(correlations.observation_names))
    assert correlations.actions.shape == (8, 3) == (8, len(correlations.action_names))
    assert correlations.neuron_names == recording.wiring.neuron_names


# Lesions.


@pytest.fixture(scope="module")
def trained() -> tuple[LiquidPPO, Any]:
    """An agent with three robots, whose circuit has relevant and irrelevant neurons."""
    env = envs.make_vec(
        "HalfCheetah-v5", 3, interval=envs.Uniform(0.02, 0.08), seed=0, max_episode_steps=40
    )
    wiring = {"kind": "sparse_random", "neurons": 10, "sparsity": 0.85, "seed": 3}
    agent = LiquidPPO("LiquidPolicy", env, policy_kwargs={"wiring": wiring}, seed=0)
    with torch.no_grad():
        agent.policy.action_net.weight.mul_(300)
    return agent, env


def test_lesions_equal_evaluations_and_restore_the_weights(trained: Any) -> None:
    agent, env = trained
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    done: list[int] = []
    found = lesions(agent, env, seed=7, on_neuron=done.append)
    assert done == list(range(1, 11))
    assert all(
        torch.equal(value, before[name]) for name, value in agent.policy.state_dict().items()
    )
    env.seed(7)
    np.testing.assert_array_equal(found.intact, evaluate(agent, env).returns)
    motor = 9
    with at_rest(circuit_of(agent), motor):
        env.seed(7)
        np.testing.assert_array_equal(found.lesioned[motor], evaluate(agent, env).returns)
    assert found.scores[motor] != 0


def test_a_neuron_without_outgoing_synapses_has_score_zero(trained: Any) -> None:
    agent, env = trained
    wiring = circuit_of(agent).wiring
    silent = ~wiring.recurrent.any(axis=1)
    silent[-wiring.motor_count :] = False
    assert silent.any()
    scores = lesions(agent, env, seed=1).scores
    assert np.all(scores[silent] == 0)
    assert np.any(scores[~silent] != 0)


def test_a_score_is_the_return_that_is_lost() -> None:
    found = Lesions(np.array([10.0, 20.0]), np.array([[10.0, 20.0], [0.0, 10.0], [30.0, 40.0]]))
    assert found.scores.tolist() == [0, 10, -20]


# Smoothness.


def intervals(kind: str, steps: int = 800) -> Array:
    random = np.random.default_rng(0)
    drawn = {
        "constant": np.full(steps, 0.05),
        "jittered": 0.01 * random.integers(2, 11, steps),
        "log-uniform": np.exp(random.uniform(np.log(0.01), np.log(0.15), steps)),
    }
    return drawn[kind]


@pytest.mark.parametrize("kind", ["constant", "jittered", "log-uniform"])
@pytest.mark.parametrize("hertz", [0.31, 1.0, 2.37])
@pytest.mark.parametrize("swing", [0.01, 1.0])
def test_a_sine_has_its_own_frequency(kind: str, hertz: float, swing: float) -> None:
    seconds = intervals(kind)
    decided = np.cumsum(seconds) - seconds
    actions = 5 + swing * np.sin(2 * np.pi * hertz * decided)
    measured = smoothness(lasting(seconds, actions)).mean_weighted_frequency
    assert measured == pytest.approx(hertz, rel=0.03)


def test_a_few_swings_suffice_wherever_they_are_cut_off() -> None:
    seconds = intervals("constant", 70)
    decided = np.cumsum(seconds) - seconds
    for phase in np.linspace(0, np.pi, 5):
        actions = np.sin(2 * np.pi * decided + phase)
        measured = smoothness(lasting(seconds, actions)).mean_weighted_frequency
        assert measured == pytest.approx(1, rel=0.03)


def test_two_sines_count_by_their_power() -> None:
    seconds = intervals("constant")
    decided = np.cumsum(seconds) - seconds
    actions = 2 * np.sin(2 * np.pi * decided) + np.sin(2 * np.pi * 6 * decided)
    measured = smoothness(lasting(seconds, actions)).mean_weighted_frequency
    assert measured == pytest.approx((4 * 1 + 1 * 6) / 5, rel=0.01)


def test_frequencies_are_averaged_over_what_moves() -> None:
    seconds = intervals("jittered")
    decided = np.cumsum(seconds) - seconds
    slow, fast = (np.sin(2 * np.pi * hertz * decided) for hertz in (1, 3))
    actions = np.stack([slow, np.full_like(slow, 0.1), 100 * fast], axis=1)
    assert smoothness(lasting(seconds, actions)).mean_weighted_frequency == pytest.approx(
        2, rel=0.03
    )


@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_actions_that_do_not_move_are_smooth(steps: int) -> None:
    still = smoothness(lasting(np.full(steps, 0.1), np.full((steps, 2), 0.3)))
    assert (still.mean_weighted_frequency, still.fluctuation) == (0, 0)


def test_what_moves_between_two_steps_only_has_the_highest_frequency() -> None:
    found = smoothness(lasting(np.full(2, 0.1), np.array([0.0, 1.0])))
    assert found.mean_weighted_frequency == pytest.approx(5)


def test_fluctuation_is_the_mean_jump() -> None:
    actions = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [3.0, 3.0]])
    found = smoothness(lasting(np.array([0.1, 0.2, 0.3, 0.4]), actions))
    assert found.fluctuation == pytest.approx((5 + 0 + 1) / 3)


# Saturation.


def test_saturated_is_who_is_near_a_bound_for_more_than_half_of_the_time() -> None:
    recording = lasting(np.array([1.0, 1.0, 3.0]), np.zeros(3))
    activity = np.array(
        [
            # near for 2 s twice, for 3 s, at both bounds in turn, never, unbounded, at its own
            [0.95, -0.95, 0.0, -0.91, 0.5, 9.0, 0.1],
            [0.95, -0.95, 0.0, 0.95, 0.5, 9.0, 0.1],
            [0.00, 0.00, 1.0, -1.00, 0.5, 9.0, 0.1],
        ],
        dtype=np.float32,
    )
    low = torch.tensor([-1.0, -1.0, -1.0, -1.0, -1.0, -torch.inf, 0.1])
    high = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, torch.inf, 5.0])
    assert saturated_share(replace(recording, activity=activity), low, high) == pytest.approx(3 / 7)


def test_near_is_a_twentieth_of_the_range() -> None:
    recording = lasting(np.ones(1), np.zeros(1))
    activity = np.array([[0.89, 0.91, -0.89, -0.91, 0.0]], dtype=np.float32)
    bound = torch.ones(5)
    found = saturated_share(replace(recording, activity=activity), -bound, bound)
    assert found == pytest.approx(2 / 5)
