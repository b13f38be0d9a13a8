"""A wrapper that puts one environment under conditions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.utils import RecordConstructorArgs, seeding
from numpy.typing import NDArray

from liquid_control.envs.bodies import apply
from liquid_control.envs.conditions import Conditions, Situation
from liquid_control.envs.names import observation_names
from liquid_control.envs.sensors import Age
from liquid_control.envs.step_for import StepFor, flat
from liquid_control.envs.variable_rate import TimedObservation, VariableRate, layers

_ONE = np.zeros(1, np.int64)  # the index of the only simulation

OWN_SIMULATION = (
    "a simulation of its own, so actuators, events and delayed sensors cannot act within its "
    "control steps; let its step call MujocoEnv.do_simulation(ctrl, self.frame_skip) once, or "
    "leave them out"
)


class Conditioned(gym.Wrapper[TimedObservation, Any, Any, Any], RecordConstructorArgs):
    """Applies sensors to observations, actuators to actions, and changes to the robot's body.

    The values that the conditions draw are in `info["drawn"]`, by name. They do not affect the
    task's own draws: initial states and intervals are those without conditions. Actuators act on
    the controls that the task gives the simulation, which are the actions in Gymnasium's tasks. The
    reward is computed from the command, except where a task reads the controls of the simulation.
    `info["elapsed_time"]` remains the seconds since the last control step where the `elapsed_time`
    of an observation is not, see `Dropout`.

    Args:
        env: An env with a `VariableRate`, and no other wrapper around this.
        conditions: See `conditions_from`.

    Raises:
        TypeError, ValueError: If a condition is invalid or does not fit the task; the first step
            of an episode raises the former where the task simulates or observes in its own way.
    """

    def __init__(
        self,
        env: gym.Env[TimedObservation, Any],
        conditions: Conditions,
    ) -> None:
        RecordConstructorArgs.__init__(self, conditions=conditions)
        self.conditions = conditions
        if not isinstance(env, VariableRate):
            raise TypeError(
                f"Conditioned goes around VariableRate: Conditioned(VariableRate(env), ...); got "
                f"{type(env).__name__}"
            )
        super().__init__(env)
        robot: Any = env.robot
        if conditions.needs_model and isinstance(robot, StepFor):
            raise TypeError(
                f"bodies and events change a MuJoCo model, and {type(env.unwrapped).__name__} has "
                f"none; leave them out"
            )
        self._model = None if isinstance(robot, StepFor) else robot.model
        space: gym.Space[Any] = env.env.observation_space
        self._is_vector = isinstance(space, gym.spaces.Box) and len(space.shape) == 1
        for name, given in (("sensors", conditions.sensors), ("privileged", conditions.privileged)):
            if given and not self._is_vector:
                raise TypeError(
                    f"{name} need a Box observation of one axis, got {space}; leave them out, or "
                    "flatten the observation in the task"
                )
        self._rate, self._robot, self._space = env, robot, space
        self._situation = self.situation(1)
        sensing = self._situation.sensing
        self._scratch = mujoco.MjData(self._model) if self._situation.bodies.fields else None
        # The observations at the last physics steps, from which delayed sensors return one.
        length = sensing.longest_delay + 1 if sensing.longest_delay else 0
        self._past = np.zeros((length, self._size))
        self._tick = self._now = self._step = 0
        self._views = [
            layer.observation
            for layer in reversed([*layers(env.env)])
            if isinstance(layer, gym.ObservationWrapper)
        ]
        assert isinstance(env.observation_space, gym.spaces.Dict)
        parts = dict(env.observation_space.spaces)
        if isinstance(space, gym.spaces.Box) and self._is_vector:
            parts["observation"] = sensing.space(space)
        privileged = conditions.privileged
        if privileged is not None:
            whole: Any = robot.observation_space
            size = math.prod(whole.shape) if privileged != "drawn" else 0
            size += len(self._situation.drawn) if privileged != "full" else 0
            parts["privileged"] = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.observation_space = gym.spaces.Dict(parts)
        self._acts_within = bool(
            length or conditions.events or not self._situation.actuation.is_idle
        )
        self._simulated = 0  # physics steps of this control step
        self._attach()

    @property
    def _size(self) -> int:
        """The features that sensors receive; 0 where observations are no vectors."""
        return math.prod(self._space.shape or ()) if self._is_vector else 0

    def situation(self, num_envs: int) -> Situation:
        """Return these conditions for `num_envs` simulations of the task."""
        rate = self._rate
        return Situation(
            self.conditions,
            num_envs,
            model=self._model,
            size=self._size,
            space=rate.env.action_space if self._model is None else _controls(self._model),
            timestep=rate.timestep,
            nominal=rate.nominal_substeps,
            horizon=rate.horizon_substeps,
        )

    @property
    def observation_names(self) -> tuple[str, ...]:
        """A name for each entry of the observation except the elapsed time; see `envs.names`."""
        names = observation_names(self._rate.env)
        ages = sum(isinstance(sensor, Age) for sensor in self.conditions.sensors)
        return (*names, *(f"age {n}" if n > 1 else "age" for n in range(1, ages + 1)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[TimedObservation, dict[str, Any]]:
        """Draw the conditions of the episode, and reset the task."""
        situation, robot = self._situation, self.unwrapped
        if seed is not None:
            robot.np_random = seeding.np_random(seed)[0]  # as the task does below
            situation.seed(0)
        situation.begin([0], [robot.np_random])
        self._embody()
        self._tick = self._now = 0
        observation, info = self.env.reset(seed=seed, options=options)
        if self._is_vector:
            values = np.asarray(observation["observation"], np.float64)
            if len(self._past):
                self._past[0] = values
            seen = situation.sensing.start(_ONE, values[None])
            observation["observation"] = seen[0].astype(self._space.dtype)
        self._inform(observation, info)
        return observation, info

    def step(
        self, action: Any
    ) -> tuple[TimedObservation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Give a command for the next interval, and return the sensors' observation after it."""
        situation, before = self._situation, self._now
        if self._model is None:
            self._command(np.asarray(self._rate.controls(action)))
        self._simulated = 0
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._now, self._tick = self._rate.substeps_since_reset, self._tick + 1
        if self._acts_within and self._model is not None and self._tick == 1:
            self._check_step(observation, self._now)
        situation.timeline.await_pushes(np.array([self._now]))
        if self._is_vector:
            self._sense(observation, before)
        self._inform(observation, info)
        return observation, reward, terminated, truncated, info

    def _sense(self, observation: TimedObservation, before: int) -> None:
        """Replace an observation by that of the sensors, after a control step from `before` on."""
        now, sensing = np.array([self._now]), self._situation.sensing
        values = np.asarray(observation["observation"], np.float64)
        if len(self._past):
            values = self._past[sensing.measured(_ONE, now)[0] % len(self._past)]
        seen = sensing.observe(_ONE, np.array([self._tick]), now, values[None])
        observation["observation"] = seen[0].astype(self._space.dtype)
        if sensing.changes_elapsed_time:
            since = sensing.elapsed(_ONE, now, now - before)
            observation["elapsed_time"] = (since * self._rate.timestep).astype(np.float32)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state of the conditions in the current episode."""
        state = {name: array.copy() for name, array in self._situation.state_dict().items()}
        counts = {"tick": np.array(self._tick), "now": np.array(self._now)}
        return state | {"past": self._past.copy()} | counts

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the state that `state_dict` returned.

        Raises:
            ValueError: If the state does not fit these conditions; nothing is changed then.
        """
        mine = {name: (array.shape, array.dtype) for name, array in self.state_dict().items()}
        theirs = {name: (array.shape, array.dtype) for name, array in state.items()}
        if mine != theirs:
            raise ValueError(f"the saved conditions are {theirs}, and these are {mine}")
        for name, array in state.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} of the saved conditions is not finite")
        tick, now = state["tick"].item(), state["now"].item()
        horizon = self._rate.horizon_substeps
        if not 0 <= tick <= now or (horizon is not None and now > horizon):
            raise ValueError(f"the saved conditions do not fit tick {tick} and {now} substeps")
        self._situation.check(state, state["tick"][None], state["now"][None])
        self._situation.load_state_dict(state, state["now"][None])
        self._past[...] = state["past"]
        self._tick, self._now = tick, now
        self._embody()

    def _inform(self, observation: TimedObservation, info: dict[str, Any]) -> None:
        """Add the drawn values to an info, and the key `privileged` to an observation."""
        if self._situation.drawn:
            info["drawn"] = self._situation.info(0)
        privileged = self.conditions.privileged
        if privileged is not None:
            full = [] if privileged == "drawn" else [np.ravel(self._full())]
            drawn = [] if privileged == "full" else [self._situation.numbers(_ONE)[0]]
            observation["privileged"] = np.concatenate(full + drawn, dtype=np.float64)

    def _embody(self) -> None:
        if self._scratch is not None:
            apply(self._robot.model, self._situation.bodies, 0, self._scratch)

    def _full(self) -> NDArray[Any]:
        """Return the whole observation of the task, without wrappers."""
        robot = self._robot
        full: NDArray[Any] = robot.last if isinstance(robot, StepFor) else robot._get_obs()
        return full

    def commands(self, action: Any, substeps: int) -> Iterator[Any]:
        """Yield the actuators' output in each physics step of a control step; for `StepFor`."""
        actuation, like = self._situation.actuation, np.asarray(action)
        for now in range(self._now, self._now + substeps):
            self._step = now
            yield action if actuation.is_idle else flat(actuation.advance(0, now), like)

    def record(self, observation: Any) -> None:
        """Note the observation after a physics step; for `StepFor`."""
        if len(self._past):
            self._past[(self._step + 1) % len(self._past)] = self._shown(observation)

    def _shown(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return an observation as the inner wrappers transform it."""
        for view in self._views:
            observation = view(observation)
        return np.asarray(observation, np.float64)

    def _attach(self) -> None:
        """Make the task act under the conditions in each physics step, if any acts there.

        Raises:
            TypeError: The task simulates in its own way.
        """
        robot = self._robot
        if not self._acts_within:
            return
        if isinstance(robot, StepFor):
            robot.hook = self
            return
        if type(robot)._step_mujoco_simulation is not MujocoEnv._step_mujoco_simulation:
            raise TypeError(f"{type(robot).__name__} has {OWN_SIMULATION}")

        def simulate(ctrl: NDArray[Any], n_frames: int) -> None:
            self._simulate(ctrl, n_frames)

        simulate.stateless = True  # type: ignore[attr-defined]  # its state is in this wrapper
        robot._step_mujoco_simulation = simulate

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()  # a copied task calls the original, or has lost what it called

    def _check_step(self, observation: TimedObservation, substeps: int) -> None:
        """Raise a TypeError if the task does not simulate, or observe, as conditions need it."""
        name = type(self._robot).__name__
        if self._simulated != substeps:
            raise TypeError(f"{name} has {OWN_SIMULATION}")
        if len(self._past):
            shown = np.asarray(observation["observation"], np.float64)
            if not np.array_equal(self._past[substeps % len(self._past)], shown, equal_nan=True):
                raise TypeError(
                    f"the observations of {name} are not those of its method _get_obs, as its step "
                    "or a wrapper that is no pure ObservationWrapper transforms them, so they "
                    "cannot be delayed; transform them in _get_obs, or around these conditions"
                )

    def _command(self, controls: NDArray[Any]) -> None:
        """Give the actuators the command of a control step."""
        if not self._situation.actuation.is_idle:
            self._situation.actuation.command(np.array([self._now]), controls[None])

    def _simulate(self, ctrl: NDArray[Any], substeps: int) -> None:
        robot, situation = self._robot, self._situation
        self._command(np.asarray(ctrl))
        self._simulated += substeps
        model, data = robot.model, robot.data
        timeline = situation.timeline
        timeline.await_pushes(np.array([self._now]))
        for now in range(self._now, self._now + substeps):
            if now >= timeline.next[0] and timeline.happen(0, now):
                self._embody()
            data.ctrl[:] = (
                ctrl if situation.actuation.is_idle else situation.actuation.advance(0, now)
            )
            forces = data.xfrc_applied.copy()
            for push in np.flatnonzero(timeline.at[0] == now):
                data.xfrc_applied[timeline.pushed[push], :3] += timeline.force[0, push]
            mujoco.mj_step(model, data)
            data.xfrc_applied[:] = forces
            if len(self._past):
                mujoco.mj_rnePostConstraint(model, data)
                self._past[(now + 1) % len(self._past)] = self._shown(robot._get_obs())
        mujoco.mj_rnePostConstraint(model, data)


def _controls(model: mujoco.MjModel) -> gym.spaces.Box:
    """Return the space of a model's controls, with the bounds of those that have some."""
    limited = model.actuator_ctrllimited.astype(bool)
    low, high = model.actuator_ctrlrange.T
    return gym.spaces.Box(
        np.where(limited, low, -np.inf), np.where(limited, high, np.inf), dtype=np.float64
    )
