"""Recordings contain the episode exactly, including physics and every neuron."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from liquid_control import LiquidPPO, LiquidRecurrentPolicy, LiquidSAC, envs
from liquid_control.monitoring.recording import Recording, circuit_of, record
from tests.agents.tasks import Clock, GradedClock, GradedRecall, Recall

TASK = "HalfCheetah-v5"
OPTIONS: dict[str, Any] = {
    "observe": "positions",
    "interval": envs.Uniform(0.02, 0.10),
    "max_episode_steps": 30,
}
WIRING = {"kind": "auto_ncp", "neurons": 16}


def liquid_ppo(**policy: Any) -> BaseAlgorithm:
    env = envs.make_vec(TASK, 2, seed=0, **OPTIONS)
    return LiquidPPO("LiquidPolicy", env, policy_kwargs={"wiring": WIRING, **policy}, seed=0)


def liquid_sac(**policy: Any) -> BaseAlgorithm:
    env = envs.make_vec(TASK, 2, seed=0, **OPTIONS)
    return LiquidSAC("LiquidPolicy", env, policy_kwargs={"wiring": WIRING, **policy}, seed=0)


def recurrent_ppo(*, normalized: bool) -> BaseAlgorithm:
    env = envs.make_vec(TASK, 2, seed=0, **OPTIONS)
    if normalized:
        env = VecNormalize(env, norm_obs_keys=["observation"])
        env.reset()
        for _ in range(20):
            env.step(np.array([env.action_space.sample() for _ in range(2)]))
    return RecurrentPPO(LiquidRecurrentPolicy, env, policy_kwargs={"wiring": WIRING}, seed=0)


AGENTS = {
    "ppo": liquid_ppo,
    "ppo with an encoder": lambda: liquid_ppo(encoder=[5]),
    "ppo, ltc": lambda: liquid_ppo(neurons="ltc"),
    "ppo, lstm": lambda: liquid_ppo(neurons="lstm"),
    "sac": liquid_sac,
    "sac with the critics' encoder": lambda: liquid_sac(encoder=[12], share_encoder=True),
    "recurrent ppo": lambda: recurrent_ppo(normalized=False),
    "recurrent ppo, normalised": lambda: recurrent_ppo(normalized=True),
}


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> BaseAlgorithm:
    """An agent whose actions differ clearly from one state to another."""
    model = AGENTS[request.param]()
    policy: Any = model.policy
    policy = getattr(policy, "liquid", policy)
    head = policy.actor.head[-1] if isinstance(model, LiquidSAC) else policy.action_net
    with torch.no_grad():
        head.weight.mul_(5 if isinstance(model, LiquidSAC) else 100)
    return model


def robot() -> gym.Env[Any, Any]:
    return envs.make(TASK, **OPTIONS)


class Spy:
    """Stores the inputs and outputs of an agent."""

    def __init__(self, model: BaseAlgorithm, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        predict = model.predict

        def noted(observation: Any, state: Any, episode_start: Any, deterministic: bool) -> Any:
            assert deterministic
            action, after = predict(observation, state, episode_start, deterministic)
            self.calls.append((observation, episode_start.tolist(), action, after))
            return action, after

        monkeypatch.setattr(model, "predict", noted)


def same(one: Recording, other: Recording) -> bool:
    """Whether two recordings agree in every bit, their robots' models aside."""
    ours, theirs = one.simulation, other.simulation
    assert ours is not None
    assert theirs is not None
    return (
        np.array_equal(ours.states, theirs.states)
        and np.array_equal(ours.controls, theirs.controls)
        and all(
            np.array_equal(getattr(one, field.name), getattr(other, field.name))
            for field in fields(Recording)
            if field.name not in {"simulation", "wiring"}
        )
    )


def global_generators() -> Any:
    """The states of torch's, NumPy's and Python's generators."""
    return torch.get_rng_state().numpy(), np.random.get_state(), random.getstate()  # noqa: NPY002


def test_activity_is_the_agents_state_from_step_to_step(
    agent: BaseAlgorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(agent, monkeypatch)
    recording = record(agent, robot(), seed=1)
    _, starts, actions, states = zip(*spy.calls, strict=True)
    assert list(starts) == [[True], *[[False]] * (recording.steps - 1)]
    np.testing.assert_array_equal(recording.actions, np.stack(actions))
    carried = np.stack([np.ravel(state[0])[: recording.activity.shape[1]] for state in states])
    np.testing.assert_allclose(recording.activity, carried, atol=1e-5)
    assert recording.activity.std(axis=0).max() > 0.01
    assert recording.actions.std(axis=0).max() > 0.01


def test_sensory_neurons_and_time_constants_are_those_of_the_circuit(agent: BaseAlgorithm) -> None:
    recording = record(agent, robot(), seed=1)
    circuit = circuit_of(agent)
    inputs, elapsed_time = (
        torch.as_tensor(each, dtype=torch.float32)[:, None]
        for each in (recording.sensory, recording.elapsed_time)
    )
    with torch.no_grad():
        activity, _ = circuit.activity(inputs, None, elapsed_time)
    np.testing.assert_array_equal(recording.activity, activity[:, 0])
    constants = circuit.effective_time_constants(inputs, activity)
    if constants is None:
        assert recording.time_constants is None
    else:
        assert recording.time_constants is not None
        np.testing.assert_array_equal(recording.time_constants, constants[:, 0])


def test_observations_are_the_inputs_of_the_policy(
    agent: BaseAlgorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(agent, monkeypatch)
    recording = record(agent, robot(), seed=1)
    shown = [observation for observation, *_ in spy.calls]
    np.testing.assert_allclose(recording.observations, [each["observation"] for each in shown])
    observed = np.ravel([each["elapsed_time"] for each in shown])
    np.testing.assert_allclose(recording.elapsed_time, observed)
    first, _ = robot().reset(seed=1)
    normalizer = agent.get_vec_normalize_env()
    if normalizer is not None:
        raw, first = first, normalizer.normalize_obs(first)
        assert not np.allclose(first["observation"], raw["observation"])
    np.testing.assert_allclose(recording.observations[0], first["observation"], rtol=1e-6)


def test_recording_is_repeatable_and_changes_nothing(agent: BaseAlgorithm) -> None:
    weights = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    normalizer = agent.get_vec_normalize_env()
    counted = None if normalizer is None else normalizer.obs_rms["observation"].mean.copy()
    generators = global_generators()
    one, other = (record(agent, robot(), seed=2) for _ in range(2))
    assert same(one, other)
    assert not same(one, record(agent, robot(), seed=3))
    np.testing.assert_equal(global_generators(), generators)
    now = agent.policy.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in weights.items())
    if normalizer is not None:
        np.testing.assert_array_equal(counted, normalizer.obs_rms["observation"].mean)


@pytest.fixture(scope="module")
def model() -> BaseAlgorithm:
    return liquid_ppo()


@pytest.mark.parametrize(
    "task",
    [
        "Ant-v5",
        "HalfCheetah-v5",
        "Humanoid-v5",
        "InvertedDoublePendulum-v5",
        "Pusher-v5",
        "Swimmer-v5",
    ],
)
def test_each_moment_of_the_physics_follows_from_the_one_before(task: str) -> None:
    options: dict[str, Any] = {"interval": envs.Uniform(0.05, 0.2), "max_episode_steps": 30}
    env = envs.make_vec(task, 1, seed=0, **options)
    wiring = {"kind": "auto_ncp", "neurons": 24}
    model = LiquidPPO("LiquidPolicy", env, policy_kwargs={"wiring": wiring}, seed=0)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)
    recording = record(model, envs.make(task, **options), seed=0)
    simulation = recording.simulation
    assert simulation is not None
    assert len(simulation.states) == recording.steps + 1 == len(simulation.controls) + 1
    robot, kind = simulation.model, mujoco.mjtState.mjSTATE_INTEGRATION
    data = mujoco.MjData(robot)
    reached = np.empty_like(simulation.states[0])
    substeps = np.diff(recording.times) / robot.opt.timestep
    np.testing.assert_allclose(substeps, substeps.round(), atol=1e-6)
    for step, count in enumerate(substeps.round().astype(int).tolist()):
        mujoco.mj_setState(robot, data, simulation.states[step], kind)
        data.ctrl[:] = simulation.controls[step]
        mujoco.mj_step(robot, data, count)
        mujoco.mj_getState(robot, data, reached, kind)
        np.testing.assert_array_equal(reached, simulation.states[step + 1])
    assert np.ptp(simulation.controls, axis=0).max() > 0.01


def test_times_are_the_physical_ones(model: BaseAlgorithm) -> None:
    recording = record(model, robot(), seed=0)
    assert recording.times[0] == 0
    assert recording.duration == pytest.approx(30 * 0.05)
    np.testing.assert_allclose(np.diff(recording.times)[:-1], recording.elapsed_time[1:], rtol=1e-6)
    assert recording.elapsed_time[0] == pytest.approx(0.05)
    assert len(set(recording.elapsed_time.tolist())) > 3
    simulation = recording.simulation
    assert simulation is not None
    data = mujoco.MjData(simulation.model)
    for time, state in zip(recording.times, simulation.states, strict=True):
        mujoco.mj_setState(simulation.model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        assert data.time == pytest.approx(time)


def test_rewards_are_the_environments(model: BaseAlgorithm) -> None:
    recording = record(model, robot(), seed=0)
    env = robot()
    env.reset(seed=0)
    rewards = [float(env.step(action)[1]) for action in recording.actions]
    assert recording.rewards.tolist() == rewards
    assert recording.total_reward == pytest.approx(sum(rewards))


def test_the_first_seconds_are_those_of_the_whole_episode(model: BaseAlgorithm) -> None:
    whole, part = record(model, robot(), seed=0), record(model, robot(), seed=0, seconds=0.5)
    assert 0.5 <= part.duration < 0.6
    assert part.times[-2] < 0.5
    assert part.steps == len(part.activity) < whole.steps
    np.testing.assert_array_equal(part.times, whole.times[: part.steps + 1])
    np.testing.assert_array_equal(part.actions, whole.actions[: part.steps])
    np.testing.assert_allclose(part.activity, whole.activity[: part.steps], atol=1e-6)


def test_without_a_seed_the_environment_uses_its_own_generator(
    model: BaseAlgorithm,
) -> None:
    one, other = envs.make(TASK, seed=5, **OPTIONS), envs.make(TASK, **OPTIONS)
    assert same(record(model, one), record(model, other, seed=5))
    assert not same(record(model, one), record(model, other, seed=5))


def test_the_robot_of_a_recording_is_a_copy(model: BaseAlgorithm) -> None:
    env = robot()
    recording = record(model, env, seed=0, seconds=0.1)
    assert recording.simulation is not None
    env.unwrapped.model.geom_rgba[:] = 0
    assert recording.simulation.model.geom_rgba.any()


def test_features_and_actions_have_the_names_that_the_environment_gives(
    model: BaseAlgorithm,
) -> None:
    recording = record(model, robot(), seed=0, seconds=0.1)
    assert recording.observation_names[:3] == ("rootz", "rooty", "bthigh")
    assert recording.action_names[0] == "bthigh"
    assert len(recording.observation_names) == recording.observations.shape[1]


class Reuser(gym.Env[Any, Any]):
    """Counts its steps in an array that it hands out again and again."""

    observation_space = spaces.Box(0, np.inf, (1,))
    action_space = spaces.Box(-1, 1, (1, 2))
    dt = 0.25
    observation_names = ("count", "one too many")

    def reset(self, **_: Any) -> Any:
        self.count = np.zeros(1, np.float32)
        return self.count, {}

    def step(self, action: Any) -> Any:
        assert action.shape == (1, 2)
        self.count += 1
        return self.count, 1.0, bool(self.count == 3), False, {}


def test_other_environments_can_be_recorded_too() -> None:
    model = LiquidPPO("LiquidPolicy", Reuser(), policy_kwargs={"wiring": WIRING})
    recording = record(model, Reuser())
    assert recording.observations.tolist() == [[0], [1], [2]]
    assert recording.actions.shape == (3, 2)
    assert recording.times.tolist() == [0, 0.25, 0.5, 0.75]
    assert recording.elapsed_time.tolist() == [0.25] * 3
    assert recording.simulation is None
    assert recording.observation_names == ("observation 0",)
    assert recording.action_names == ("action 0", "action 1")


@pytest.mark.parametrize(
    ("algorithm", "task", "interval"),
    [(LiquidPPO, Recall, 1.0), (LiquidSAC, GradedRecall, 1.0), (LiquidPPO, Clock, 0.1)],
)
def test_discrete_actions_and_observations_without_time_are_recorded(
    algorithm: Any, task: Any, interval: float
) -> None:
    model = algorithm("LiquidPolicy", task(), policy_kwargs={"wiring": WIRING})
    recording = record(model, task(), seed=0)
    assert recording.steps == task.length
    assert recording.actions.shape == (task.length, 1)
    np.testing.assert_allclose(recording.times, interval * np.arange(task.length + 1))
    if task is not Clock:
        assert recording.elapsed_time.tolist() == [interval] * task.length


def test_policies_without_a_circuit_raise() -> None:
    model = PPO("MlpPolicy", Recall())
    with pytest.raises(TypeError, match="ActorCriticPolicy does not act by a circuit"):
        record(model, Recall())


def test_several_environments_are_refused(model: BaseAlgorithm) -> None:
    env: Any = model.get_env()
    with pytest.raises(TypeError, match=f"one environment of Gymnasium, got {type(env).__name__}"):
        record(model, env)


def test_another_environment_raises(model: BaseAlgorithm) -> None:
    with pytest.raises(ValueError, match=r"observation_space of the environment is .*; build"):
        record(model, envs.make(TASK, **(OPTIONS | {"observe": "full"})))
    timed = LiquidPPO("LiquidPolicy", Clock(), policy_kwargs={"wiring": WIRING})
    with pytest.raises(ValueError, match=r"action_space of the environment is .*; build"):
        record(timed, GradedClock())


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_an_invalid_duration_raises(model: BaseAlgorithm, seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be positive"):
        record(model, robot(), seconds=seconds)
