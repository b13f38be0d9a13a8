"""One episode, written down: what the robot did, what it saw, and what its neurons made of it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.envs.mujoco import MujocoEnv
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from liquid_control.neurons import Circuit
from liquid_control.policies.soft import SoftLiquidPolicy
from liquid_control.wiring import Wiring

Array = NDArray[Any]
Observation = Array | dict[str, Array]


@dataclass(frozen=True)
class Simulation:
    """The physics of an episode, from which every moment of it can be computed again.

    Attributes:
        model: the robot, a copy of the environment's.
        states: (T+1, size), mjSTATE_INTEGRATION before each control step and after the last.
        controls: (T, actuators), data.ctrl as it was held in each step.
    """

    model: mujoco.MjModel
    states: NDArray[np.float64]
    controls: NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """An episode of T control steps. Step k lasts from times[k] to times[k+1].

    Attributes:
        times: (T+1,) seconds since the reset.
        elapsed_time: (T,) seconds that the agent was told with each observation.
        observations: (T, features) as the policy saw them, the elapsed time not among them.
        actions: (T, actions) as the environment took them.
        rewards: (T,).
        sensory: (T, sensory), what the sensory neurons of the actor's circuit felt.
        activity: (T, neurons) of that circuit.
        time_constants: (T, neurons) seconds, or None where the neurons know no time.
        wiring: of that circuit.
        observation_names: a name for each feature.
        action_names: a name for each number of an action.
        simulation: None where the environment is no MuJoCo task.
    """

    times: NDArray[np.float64]
    elapsed_time: NDArray[np.float64]
    observations: NDArray[np.float32]
    actions: Array
    rewards: NDArray[np.float64]
    sensory: NDArray[np.float32]
    activity: NDArray[np.float32]
    time_constants: NDArray[np.float32] | None
    wiring: Wiring
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    simulation: Simulation | None

    @property
    def steps(self) -> int:
        """How many control steps it has, T."""
        return len(self.rewards)

    @property
    def duration(self) -> float:
        """How long it lasts, in seconds."""
        return float(self.times[-1])

    @property
    def total_reward(self) -> float:
        """The sum of its rewards."""
        return float(self.rewards.sum())


def record(
    model: BaseAlgorithm,
    env: gym.Env[Any, Any],
    *,
    seed: int | None = None,
    seconds: float | None = None,
) -> Recording:
    """Let an agent live one episode, taking its most likely actions, and write it down.

    The agent is as before, and so are the global random generators: recording in the middle of a
    training does not change it. Times are those that `info` tells as `physical_time`; an
    environment that does not is taken to step at its `nominal_interval` or `dt`, or once a second.

    Args:
        model: An SB3 algorithm whose policy acts by a circuit. If it was trained behind
            `VecNormalize`, observations are normalised as there; rewards are left as they are.
        env: One environment, such as `liquid_control.envs.make` builds.
        seed: Of the episode; None goes on with the environment's own generator.
        seconds: End with the first step that reaches this much physical time; None records the
            whole episode, which must end.

    Raises:
        TypeError: If the policy has no circuit.
        ValueError: If the environment's spaces are not the model's, or the seconds not positive.
    """
    circuit = circuit_of(model)
    _check(model, env, seconds)
    episode = _live(model, env, seed, seconds)
    features, told, sensory, activity, time_constants = _hear(model, circuit, episode)
    return Recording(
        times=episode.times,
        elapsed_time=np.full(len(features), _interval(env)) if told is None else told,
        observations=features,
        actions=episode.actions.reshape(len(features), -1),
        rewards=episode.rewards,
        sensory=sensory,
        activity=activity,
        time_constants=time_constants,
        wiring=circuit.wiring,
        observation_names=_names(env, "observation", features.shape[1]),
        action_names=_names(env, "action", episode.actions[0].size),
        simulation=episode.simulation,
    )


def circuit_of(model: BaseAlgorithm) -> Circuit:
    """The circuit by which an agent acts.

    Raises:
        TypeError: If its policy has none.
    """
    circuit = getattr(model.policy, "actor_circuit", None)
    if not isinstance(circuit, Circuit):
        raise TypeError(
            f"{type(model.policy).__name__} does not act by a circuit of neurons; train with "
            "LiquidPolicy, SoftLiquidPolicy or LiquidRecurrentPolicy to look into one"
        )
    return circuit


@dataclass(frozen=True)
class _Episode:
    """What can be written down from outside the agent."""

    times: NDArray[np.float64]
    observations: Observation  # (T, ...) as the policy saw them
    actions: Array  # (T, ...)
    rewards: NDArray[np.float64]
    simulation: Simulation | None


def _live(
    model: BaseAlgorithm, env: gym.Env[Any, Any], seed: int | None, seconds: float | None
) -> _Episode:
    normalizer, interval, task = model.get_vec_normalize_env(), _interval(env), env.unwrapped
    seen: list[Any] = []
    actions: list[Array] = []
    rewards: list[float] = []
    controls: list[Array] = []
    times = [0.0]
    observation, _ = env.reset(seed=seed)
    states = [_physics(task)] if isinstance(task, MujocoEnv) else []
    state, over = None, False
    while not over:
        seen.append(normalizer.normalize_obs(observation) if normalizer else deepcopy(observation))
        start = np.array([not actions])
        action, state = model.predict(seen[-1], state, start, deterministic=True)
        observation, reward, terminated, truncated, info = env.step(action)
        actions.append(np.array(action))
        rewards.append(float(reward))
        times.append(info.get("physical_time", times[-1] + interval))
        if isinstance(task, MujocoEnv):
            controls.append(task.data.ctrl.copy())
            states.append(_physics(task))
        over = terminated or truncated or (seconds is not None and times[-1] >= seconds)
    simulation = None
    if isinstance(task, MujocoEnv):
        simulation = Simulation(copy(task.model), np.stack(states), np.stack(controls))
    return _Episode(
        np.array(times), _stacked(seen), np.stack(actions), np.array(rewards), simulation
    )


@torch.no_grad()
def _hear(
    model: BaseAlgorithm, circuit: Circuit, episode: _Episode
) -> tuple[Array, Array | None, Array, Array, Array | None]:
    """Features, elapsed time, sensory input, activity and time constants of an episode."""
    policy: Any = model.policy
    features, elapsed_time = policy.observe(policy.obs_to_tensor(episode.observations)[0])
    # A soft policy hears of its own actions, in its own scale; the others do not.
    chosen = policy.from_env(episode.actions) if isinstance(policy, SoftLiquidPolicy) else features
    starts = features.new_zeros(len(features), 1)
    starts[0] = 1
    told = None if elapsed_time is None else elapsed_time[:, None]
    signal = policy.actor_inputs(features[:, None], told, starts, chosen[:, None])
    sensory, told, starts = signal
    activity, _ = circuit.activity(sensory, None, told, starts)
    constants = circuit.effective_time_constants(sensory, activity, starts)
    return (
        features.cpu().numpy(),
        None if elapsed_time is None else elapsed_time.double().cpu().numpy(),
        sensory[:, 0].cpu().numpy(),
        activity[:, 0].cpu().numpy(),
        None if constants is None else constants[:, 0].cpu().numpy(),
    )


def _physics(task: MujocoEnv) -> NDArray[np.float64]:
    """All that the next steps of a simulation depend on."""
    what = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(task.model, what))
    mujoco.mj_getState(task.model, task.data, state, what)
    return state


def _stacked(observations: Sequence[Any]) -> Observation:
    """Observations of all steps as one, (T, ...)."""
    first = observations[0]
    if isinstance(first, dict):
        return {key: np.stack([each[key] for each in observations]) for key in first}
    return np.stack(observations)


def _interval(env: gym.Env[Any, Any]) -> float:
    """Seconds of a step, as far as the environment tells them."""
    for name in ("nominal_interval", "dt"):
        if env.has_wrapper_attr(name):
            return float(env.get_wrapper_attr(name))
    return 1.0


def _names(env: gym.Env[Any, Any], what: str, count: int) -> tuple[str, ...]:
    """The environment's own names of what has so many entries, or numbers."""
    attribute = f"{what}_names"
    names = tuple(env.get_wrapper_attr(attribute)) if env.has_wrapper_attr(attribute) else ()
    return names if len(names) == count else tuple(f"{what} {index}" for index in range(count))


def _check(model: BaseAlgorithm, env: gym.Env[Any, Any], seconds: float | None) -> None:
    for what in ("observation_space", "action_space"):
        expected, got = getattr(model, what), getattr(env, what)
        if got != expected:
            raise ValueError(
                f"the {what} of the environment is {got}, but the model was trained with "
                f"{expected}; build it with the arguments of the training"
            )
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}; None records a whole episode")
