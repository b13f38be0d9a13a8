"""Derivatives of observations mean the same at every control rate, and wherever a policy acts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from liquid_control import LiquidPolicy, LiquidPPO, LiquidSAC, SoftLiquidPolicy, envs
from liquid_control.policies import Controller
from liquid_control.policies.derivatives import Derivatives
from tests.policies.conftest import NOMINAL, PLAIN, at, draw, make_policy

TIME = spaces.Box(0.0, np.inf, (1,))
VECTOR = spaces.Dict({"observation": PLAIN, "elapsed_time": TIME})
TAU = 0.3
WIRING = {"kind": "auto_ncp", "neurons": 8}


def over_time(derivatives: Derivatives, times: Any, values: Any) -> torch.Tensor:
    """Return rows (steps, width) of one robot, whose episode starts with the first."""
    rows: list[torch.Tensor] = []
    for elapsed, value in zip(np.diff(times, prepend=times[0] - 1.0), values, strict=True):
        previous = rows[-1] if rows else None
        seconds = torch.tensor([elapsed], dtype=torch.float64)
        rows.append(derivatives(torch.as_tensor(value)[None], seconds, previous, None))
    return torch.cat(rows)


class TestDerivatives:
    @pytest.mark.parametrize("steps", [3, 10, 37])
    def test_a_motion_of_constant_speed_has_it_at_every_rate(self, steps: int) -> None:
        rng = np.random.default_rng(0)
        times = np.concatenate([[0.0], np.sort(rng.uniform(0.0, 2.0, steps)), [2.0]])
        speeds = np.array([3.0, -0.5])
        found = over_time(Derivatives(2, [0.0, TAU]), times, times[:, None] * speeds)
        assert torch.all(found[0, 2:] == 0.0)
        np.testing.assert_allclose(found[1:, 2:4], np.tile(speeds, (steps + 1, 1)), rtol=1e-9)
        risen = 1 - np.exp(-times[1:, None] / TAU)  # of a leaky neuron with a constant input
        np.testing.assert_allclose(found[1:, 4:], risen * speeds, rtol=1e-9)

    def test_a_long_time_constant_suppresses_noise(self) -> None:
        noise = np.random.default_rng(1).normal(size=(2000, 1))
        found = over_time(Derivatives(1, [0.0, TAU]), np.arange(2000) * 0.05, noise)
        assert found[:, 1].std() > 5 * found[:, 2].std()

    def test_nothing_is_derived_across_an_episodes_start(self) -> None:
        derivatives, seconds = Derivatives(2, [0.0]), torch.full((2,), NOMINAL)
        before = derivatives(torch.ones(2, 2), seconds, None, None)
        starts = torch.tensor([1.0, 0.0])
        found = derivatives(torch.full((2, 2), 3.0), seconds, before, starts)
        assert torch.equal(found[0], torch.tensor([3.0, 3.0, 0.0, 0.0]))
        torch.testing.assert_close(found[1, 2:], torch.full((2,), 2 / NOMINAL))

    def test_what_comes_after_is_not_derived_and_stays_last(self) -> None:
        derivatives, seconds = Derivatives(1, [0.0]), torch.ones(1)
        before = derivatives(torch.tensor([[1.0, 5.0]]), seconds, None, None)
        found = derivatives(torch.tensor([[2.0, 7.0]]), seconds, before, None)
        assert found.tolist() == [[2.0, 1.0, 7.0]]

    def test_without_time_constants_features_are_returned_as_they_are(self) -> None:
        features = torch.rand(2, 3)
        assert Derivatives(3, [])(features, torch.ones(2), None, None) is features


@pytest.mark.parametrize("kind", [LiquidPolicy, SoftLiquidPolicy])
def test_zeros_are_the_state_at_the_start(kind: type[Any]) -> None:
    space = spaces.Box(-1.0, 1.0, (2,))
    options = {"wiring": WIRING, "nominal_interval": NOMINAL, "derivatives": [0.0, TAU]}
    policy = kind(VECTOR, space, lambda _: 1e-3, **options)
    seen = at(draw(VECTOR, 1, 4), 0)
    zeros = policy.initial_actor_state(4).numpy()
    expected, after = policy.predict(seen, None, deterministic=True)
    for state, start in ((zeros, None), (zeros, np.ones(4, bool)), (after, np.ones(4, bool))):
        found, _ = policy.predict(seen, state, start, deterministic=True)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fused", [True, False])
def test_a_controller_acts_as_predict(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(VECTOR, derivatives=[0.0, TAU])
    if not fused:
        monkeypatch.setattr(LiquidPolicy, "fused_actor", lambda policy: None)
    controller, drawn, state = Controller(policy), draw(VECTOR, 6, 1), None
    now = 0.0
    for step in range(6):
        seen = at(drawn, step, 0)
        elapsed = NOMINAL if step == 0 else float(seen["elapsed_time"][0])
        now += elapsed
        given = {**seen, "elapsed_time": np.float32([elapsed])}
        expected, state = policy.predict(given, state, deterministic=True)
        found = controller.step(seen["observation"], now)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def robots(observe: str = "positions") -> VecEnv:
    """Return robots that fall, and that are cut off by their horizon."""
    return envs.make_vec(
        "Hopper-v5",
        3,
        observe=observe,
        interval=envs.Uniform(0.004, 0.016),
        privileged="full",
        seed=0,
        max_episode_steps=12,
        threads=1,
    )


@pytest.mark.parametrize("critic", ["mlp", "twin"])
def test_ppo_learns_from_the_features_that_acted(critic: str) -> None:
    options = {"wiring": WIRING, "derivatives": [0.0, TAU], "critic": critic}
    model = LiquidPPO(
        "LiquidPolicy",
        robots(),
        n_steps=32,
        batch_size=16,
        sequence_length=8,
        seed=0,
        n_epochs=1,
        device="cpu",
        policy_kwargs=options,
    )
    model.learn(32 * 3)
    policy, rollout = model.policy, model.rollout_buffer.rollout
    features, elapsed_time, starts, *_ = rollout.transitions
    previous = None
    for step in range(32):
        raw = torch.cat([features[step, :, :5], features[step, :, 15:]], dim=1)
        expected = policy.derivatives(raw, elapsed_time[step], previous, starts[step])
        torch.testing.assert_close(features[step], expected)
        previous = features[step]
    state = model._state
    assert state is not None
    assert torch.equal(state[:, -1 - policy.observed : -1], features[-1, :, : policy.observed])
    assert torch.all(state[:, -1] == 1)
    # Going on from the state of a sequence's start is going on from the start of the rollout.
    states = policy.states(features, elapsed_time, model.rollout_buffer.states[0], starts, 8)
    torch.testing.assert_close(states[:-1], model.rollout_buffer.states)


def test_the_replay_holds_derivatives_of_terminal_observations_too() -> None:
    options = {"wiring": WIRING, "derivatives": [0.0], "critic_layers": [8]}
    model = LiquidSAC(
        "LiquidPolicy",
        robots(),
        learning_starts=48,
        batch_size=32,
        sequence_length=4,
        burn_in=2,
        seed=0,
        device="cpu",
        policy_kwargs=options,
        buffer_size=600,
    )
    model.learn(120)
    sequences = model.replay_buffer.sample(64)
    found, seconds = sequences.features, sequences.elapsed_time
    # Steps of one episode, the terminal one among them, follow each other without a start.
    follows = (sequences.episode_start[1:] == 0) & (seconds[1:] > 0)
    quotient = (found[1:, :, :5] - found[:-1, :, :5]) / seconds[1:, :, None]
    pairs = follows & (found[1:, :, :5].abs().sum(-1) > 0) & (found[:-1, :, :5].abs().sum(-1) > 0)
    assert pairs.sum() > 100
    torch.testing.assert_close(found[1:, :, 5:10][pairs], quotient[pairs], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"derivatives": [-1.0]}, "derivatives must list seconds of at least 0"),
        ({"derivatives": [float("nan")]}, "derivatives must list seconds"),
        ({"derivatives": ["fast"]}, "derivatives must list seconds"),
        ({"derivatives": [50.0]}, "divide milliseconds by 1000"),
        ({"derivatives": [0.0] * 9}, "lists 9 time constants; give at most 8"),
        ({"derivatives": [0.0], "normalize_observations": False}, "need normalize_observations"),
    ],
)
def test_what_cannot_be_derived_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy(**options)


@pytest.mark.parametrize("given", [0.5, "0.5", None])
def test_a_single_number_is_no_list(given: Any) -> None:
    with pytest.raises(TypeError, match=r"derivatives must list seconds, such as \[0.0\]"):
        make_policy(derivatives=given)


def test_images_have_no_derivatives() -> None:
    space = spaces.Dict({"eye": spaces.Box(0, 255, (1, 36, 36), np.uint8), "joints": PLAIN})
    with pytest.raises(ValueError, match="derivatives of images"):
        make_policy(space, derivatives=[0.0])
