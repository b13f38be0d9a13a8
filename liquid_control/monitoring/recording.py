"""Recordings of an episode: observations, actions, rewards, neural activity and physics."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from numbers import Real
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from liquid_control.neurons import Circuit
from liquid_control.policies.soft import SoftLiquidPolicy
from liquid_control.policies.stateful import StatefulPolicy
from liquid_control.wiring import Wiring

Array = NDArray[Any]
Observation = Array | dict[str, Array]


@dataclass(frozen=True)
class Simulation:
    """The physics of an episode, from which its states at all times can be recomputed.

    Attributes:
        model: A copy of the environment's model.
        states: (T+1, size), mjSTATE_INTEGRATION before each control step and after the last.
        controls: (T, actuators), data.ctrl during each step.
    """

    model: mujoco.MjModel
    states: NDArray[np.float64]
    controls: NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """An episode of T control steps. Step k lasts from times[k] to times[k+1].

    Attributes:
        times: (T+1,) seconds since the reset.
        elapsed_time: (T,) seconds, the elapsed time of each observation.
        observations: (T, features), the policy's inputs without elapsed time.
        actions: (T, actions), the inputs of the environment.
        rewards: (T,); NaN where they are unknown, as in the log of a robot.
        sensory: (T, sensory), inputs of the sensory neurons of the actor's circuit.
        activity: (T, neurons) of that circuit.
        time_constants: (T, neurons) seconds, or None for neurons without time constants.
        wiring: The wiring of that circuit.
        observation_names: Names of the features.
        action_names: Names of the entries of an action.
        simulation: The physics, or None if the environment is not a MuJoCo task.
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
        """Number of control steps, T."""
        return len(self.rewards)

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return float(self.times[-1])

    @property
    def is_rewarded(self) -> bool:
        """Whether all rewards are known."""
        return bool(np.isfinite(self.rewards).all())

    @property
    def total_reward(self) -> float:
        """Sum of the rewards."""
        return float(self.rewards.sum())


def may_be_endless(env: gym.Env[Any, Any]) -> bool:
    """Return whether an environment of `liquid_control.envs` has no limit on its episodes."""
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    is_limited = any(isinstance(layer, TimeLimit) for layer in layers)
    return not is_limited and any(getattr(each, "horizon_substeps", 0) is None for each in layers)


def record(
    model: BaseAlgorithm,
    env: gym.Env[Any, Any],
    *,
    seed: int | None = None,
    seconds: float | None = None,
) -> Recording:
    """Run one episode with an agent's most likely actions, and record it.

    Recording changes neither the agent nor the global random generators, so it does not affect
    training. Times come from `physical_time` in `info`; without it, each step lasts the
    environment's `nominal_interval` or `dt`, or one second.

    Args:
        model: An SB3 algorithm whose policy acts by a circuit. If it was trained with
            `VecNormalize`, observations are normalised likewise; rewards are not.
        env: One environment, such as `liquid_control.envs.make` builds.
        seed: Seed of the episode; None continues the environment's generator.
        seconds: End with the first step that reaches this physical time; None records the whole
            episode, which must end.

    Raises:
        TypeError: If the policy has no circuit, or the environment is a vectorised one.
        ValueError: If the environment's spaces differ from the model's, or `seconds` is not
            positive.
    """
    circuit = circuit_of(model)
    if not isinstance(env, gym.Env):
        raise TypeError(f"env must be one environment of Gymnasium, got {type(env).__name__}")
    check_spaces(model, env)
    if seconds is not None:
        check_seconds("seconds", seconds)
    episode = _run_episode(model, env, seed, seconds)
    starts = torch.zeros(len(episode.rewards), 1)
    starts[0] = 1
    found = activity_of(model.policy, episode.observations, episode.actions, starts)
    features = found.features
    return Recording(
        times=episode.times,
        elapsed_time=found.elapsed_time,
        observations=features,
        actions=episode.actions.reshape(len(features), -1),
        rewards=episode.rewards,
        sensory=found.sensory,
        activity=found.activity,
        time_constants=found.time_constants,
        wiring=circuit.wiring,
        observation_names=_names(env, "observation", features.shape[1]),
        action_names=_names(env, "action", episode.actions[0].size),
        simulation=episode.simulation,
    )


def circuit_of(model: BaseAlgorithm) -> Circuit:
    """Return the circuit of an agent's actor.

    Raises:
        TypeError: If the policy has none.
    """
    circuit = getattr(model.policy, "actor_circuit", None)
    if not isinstance(circuit, Circuit):
        raise TypeError(
            f"{type(model.policy).__name__} does not act by a circuit of neurons; train with "
            "LiquidPolicy, SoftLiquidPolicy or LiquidRecurrentPolicy to inspect one"
        )
    return circuit


@dataclass(frozen=True)
class _Episode:
    """The part of a recording that does not come from the agent's circuit."""

    times: NDArray[np.float64]
    observations: Observation  # (T, ...) as input to the policy
    actions: Array  # (T, ...)
    rewards: NDArray[np.float64]
    simulation: Simulation | None


def _run_episode(
    model: BaseAlgorithm, env: gym.Env[Any, Any], seed: int | None, seconds: float | None
) -> _Episode:
    normalizer, interval, task = model.get_vec_normalize_env(), _interval(env), env.unwrapped
    observations: list[Any] = []
    actions: list[Array] = []
    rewards: list[float] = []
    controls: list[Array] = []
    times = [0.0]
    observation, _ = env.reset(seed=seed)
    states = [physics_state(task)] if isinstance(task, MujocoEnv) else []
    state, over = None, False
    while not over:
        observations.append(
            normalizer.normalize_obs(observation) if normalizer else deepcopy(observation)
        )
        start = np.array([not actions])
        action, state = model.predict(observations[-1], state, start, deterministic=True)
        observation, reward, terminated, truncated, info = env.step(action)
        actions.append(np.array(action))
        rewards.append(float(reward))
        times.append(info.get("physical_time", times[-1] + interval))
        if isinstance(task, MujocoEnv):
            controls.append(task.data.ctrl.copy())
            states.append(physics_state(task))
        over = terminated or truncated or (seconds is not None and times[-1] >= seconds)
    simulation = None
    if isinstance(task, MujocoEnv):
        simulation = Simulation(copy(task.model), np.stack(states), np.stack(controls))
    return _Episode(
        np.array(times), stacked(observations), np.stack(actions), np.array(rewards), simulation
    )


@dataclass(frozen=True)
class Activity:
    """Inputs and activity of the actor's circuit in T steps; attributes as in `Recording`.

    Attributes:
        features: (T, features), the observations.
        elapsed_time: (T,) seconds.
        sensory: (T, sensory).
        activity: (T, neurons).
        time_constants: (T, neurons), or None.
    """

    features: Array
    elapsed_time: Array
    sensory: Array
    activity: Array
    time_constants: Array | None


@torch.no_grad()
def activity_of(
    policy: Any, observations: Observation, actions: Array, starts: torch.Tensor
) -> Activity:
    """Run the actor's circuit over consecutive steps.

    Args:
        policy: A policy whose actor is a circuit.
        observations: (T, ...), as `predict` takes them.
        actions: (T, ...), as `predict` returned them.
        starts: (T, 1), nonzero where an episode starts.
    """
    circuit = policy.actor_circuit
    features, elapsed_time = observed_in_turn(policy, observations, starts)
    # A soft policy receives its own previous actions, rescaled; other policies do not.
    chosen = policy.from_env(actions) if isinstance(policy, SoftLiquidPolicy) else features
    starts = starts.to(features.device)
    signal = policy.actor_inputs(features[:, None], elapsed_time[:, None], starts, chosen[:, None])
    sensory, elapsed, starts = signal
    activity, _ = circuit.activity(sensory, None, elapsed, starts)
    constants = circuit.effective_time_constants(sensory, activity, starts)
    # Without derivatives and privileged features.
    count = policy.derivatives.observed if isinstance(policy, StatefulPolicy) else None
    return Activity(
        features[:, :count].cpu().numpy(),
        elapsed_time.double().cpu().numpy(),
        sensory[:, 0].cpu().numpy(),
        activity[:, 0].cpu().numpy(),
        None if constants is None else constants[:, 0].cpu().numpy(),
    )


def observed_in_turn(
    policy: Any, observations: Observation, starts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features and elapsed time of consecutive steps; arguments as in `activity_of`."""
    tensors = policy.obs_to_tensor(observations)[0]
    if not (isinstance(policy, StatefulPolicy) and policy.derivatives.size):
        observed: tuple[torch.Tensor, torch.Tensor] = policy.observe(tensors)
        return observed
    steps: list[tuple[torch.Tensor, torch.Tensor]] = []
    for step, start in enumerate(starts):
        now = (
            {name: part[step, None] for name, part in tensors.items()}
            if isinstance(tensors, dict)
            else tensors[step, None]
        )
        steps.append(policy.observe(now, steps[-1][0] if steps else None, start))
    features, elapsed_time = zip(*steps, strict=True)
    return torch.cat(features), torch.cat(elapsed_time)


def physics_state(task: MujocoEnv) -> NDArray[np.float64]:
    """Return the state that future steps of a simulation depend on, mjSTATE_INTEGRATION."""
    what = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(task.model, what))
    mujoco.mj_getState(task.model, task.data, state, what)
    return state


def stacked(observations: Sequence[Any]) -> Observation:
    """Stack the observations of all steps, (T, ...)."""
    first = observations[0]
    if isinstance(first, dict):
        return {key: np.stack([each[key] for each in observations]) for key in first}
    return np.stack(observations)


def _interval(env: gym.Env[Any, Any]) -> float:
    """Return the duration of a step in seconds, 1 if the environment does not define it."""
    for name in ("nominal_interval", "dt"):
        if env.has_wrapper_attr(name):
            return float(env.get_wrapper_attr(name))
    return 1.0


def _names(env: gym.Env[Any, Any], what: str, count: int) -> tuple[str, ...]:
    """Return the environment's names of `count` observations or actions, or numbers."""
    attribute = f"{what}_names"
    names = tuple(env.get_wrapper_attr(attribute)) if env.has_wrapper_attr(attribute) else ()
    return names if len(names) == count else tuple(f"{what} {index}" for index in range(count))


def check_spaces(model: BaseAlgorithm, env: gym.Env[Any, Any]) -> None:
    """Raise a ValueError if an environment's spaces differ from the model's."""
    for what in ("observation_space", "action_space"):
        expected, got = getattr(model, what), getattr(env, what)
        if got != expected:
            raise ValueError(
                f"the {what} of the environment is {got}, but the model was trained with "
                f"{expected}; build it with the arguments of the training"
            )


def check_seconds(name: str, seconds: float) -> None:
    """Raise an error unless a duration is positive."""
    if not isinstance(seconds, Real) or isinstance(seconds, bool):
        raise TypeError(f"{name} must be a number of seconds, got {seconds!r}")
    if not seconds > 0:  # so is NaN
        raise ValueError(f"{name} must be positive, got {seconds}")
