"""An SB3 VecEnv that steps all simulations of a task together, in MuJoCo's batch."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from liquid_control.envs.conditioned import Conditioned
from liquid_control.envs.conditions import Privileged, Situation
from liquid_control.envs.observe_only import ObserveOnly
from liquid_control.envs.physics import Physics, library
from liquid_control.envs.simulated import SimulatedVecEnv
from liquid_control.envs.substeps import (
    check_chosen,
    check_schedule,
    chosen_substeps,
    draw_substeps,
    longest_schedule,
)
from liquid_control.envs.task_env import TaskEnv
from liquid_control.envs.tasks import GYMNASIUM, Simulations, Task
from liquid_control.envs.variable_rate import VariableRate, layers

Observations = dict[str, NDArray[Any]]

logger = logging.getLogger(__name__)

# Wrappers that BatchedVecEnv replaces, and wrappers that only check the order of calls.
_KNOWN_LAYERS = (
    Monitor,
    Conditioned,
    VariableRate,
    ObserveOnly,
    OrderEnforcing,
    PassiveEnvChecker,
)

_LARGEST = 1e10  # MuJoCo's mjMAXVAL, beyond which it resets a simulation
_NOTES, _AGE = "notes", "seconds"


def task_of(env: gym.Env[Any, Any]) -> Task | str:
    """Return the batched task of an env, or the reason why it cannot be batched."""
    robot: Any = env.unwrapped
    if type(robot) not in (*GYMNASIUM, TaskEnv):
        return f"{type(robot).__name__} has no batched implementation"
    unknown = [
        layer for layer in layers(env) if not isinstance(layer, (*_KNOWN_LAYERS, type(robot)))
    ]
    if unknown:
        return f"the wrapper {type(unknown[0]).__name__} works on one env"
    if robot.render_mode == "human":
        return "render_mode='human' shows each env as it steps"
    try:
        library()
    except RuntimeError as error:
        return str(error)
    if isinstance(robot, TaskEnv):
        return robot.task
    task = GYMNASIUM[type(robot)]
    names = (field.name for field in dataclasses.fields(task))
    # Not the arguments in its spec, since an entry point may have given others.
    return task(**{name: getattr(robot, f"_{name}") for name in names})


class BatchedVecEnv(SimulatedVecEnv):
    """Many simulations of one MuJoCo task, stepped together, as an SB3 VecEnv.

    Its results are those of SB3's DummyVecEnv with `num_envs` copies of `env`: observations are
    equal bit for bit, rewards up to rounding. There are two differences. An `info` contains
    `elapsed_time`, `physical_time` and SB3's keys, but none of the task's own. A simulation that
    becomes unstable (NaN or huge numbers), which Gymnasium resets within the episode, ends its
    episode: it is `terminated` with reward 0 and `info["diverged"]`, and a warning is logged.

    Args:
        env: One env of the task, as `make` builds it; it may be wrapped in a Monitor.
        task: The batched implementation of the task.
        num_envs: Number of simulations.
        threads: Number of threads that simulate.
        seed: Simulation i is seeded with seed + i.

    Attributes:
        diverged: Number of episodes that ended because their simulation became unstable.
        reason: None; envs that are stepped one by one give theirs, see `SerialVecEnv`.
    """

    reason: str | None = None

    def __init__(
        self,
        env: gym.Env[Any, Any],
        task: Task,
        num_envs: int,
        *,
        threads: int,
        seed: int | None = None,
    ) -> None:
        self.task = task
        rate = next(layer for layer in layers(env) if isinstance(layer, VariableRate))
        masks = [layer for layer in layers(env) if isinstance(layer, ObserveOnly)]
        robot: Any = env.unwrapped
        self._shown = masks[0].indices if masks else None
        self._interval, self._nominal_interval = rate.interval, rate.nominal_interval
        self._chosen = rate.chosen
        self._nominal_substeps = int(robot.frame_skip)
        self._horizon = rate.horizon_substeps
        self._timestep = float(robot.model.opt.timestep)
        self._start = robot.init_qpos.copy(), robot.init_qvel.copy()
        self._situation = _situation(env, num_envs)
        self._privileged: Privileged | None = None
        more: dict[str, Any] = {}
        if self._situation is not None:
            situation = self._situation
            (wrapper,) = (layer for layer in layers(env) if isinstance(layer, Conditioned))
            self._privileged = wrapper.conditions.privileged
            more = {
                "past": situation.sensing.longest_delay,
                "actuation": None if situation.actuation.is_idle else situation.actuation,
                "bodies": situation.bodies if situation.bodies.fields else None,
                "timeline": situation.timeline if len(situation.timeline.pushed) else None,
            }
        threads = min(threads, num_envs)
        physics = Physics(robot.model, num_envs, threads, task.reads, **more)
        task.before(physics.simulations)  # raises for arguments that do not fit the model
        rngs = [
            seeding.np_random(None if seed is None else seed + index)[0]
            for index in range(num_envs)
        ]
        super().__init__(env, physics, rngs)
        self._first_seed = seed

        # Each row is the schedule of an episode; untouched pages of np.zeros take no memory.
        longest = 1
        if self._chosen is None:
            longest = longest_schedule(
                self._interval, self._nominal_interval, self._timestep, self._horizon
            )
        self._schedule = np.zeros((num_envs, longest), np.int32)
        self._row = np.arange(num_envs) * longest
        self._ticks = np.zeros(num_envs, np.int64)
        self._substeps_since_reset = np.zeros(num_envs, np.int64)
        self._returns = np.zeros(num_envs)
        self._started = False
        self._state_before = self.physics.memory["state"].copy()
        self._actions = np.zeros((num_envs, *(env.action_space.shape or ())), np.float32)
        self._substeps = np.zeros(num_envs, np.int32)
        self._all = np.arange(num_envs)
        names = self._situation.drawn if self._situation is not None else {}
        self._drawn: list[dict[str, float]] = [{} for _ in range(num_envs)] if names else []
        self._pushed = np.zeros((num_envs, 0))  # when each was pushed last, as in `_drawn`
        self._created = time.time()
        self.diverged = 0

    def reset(self) -> Observations:
        """Start new episodes in all envs, with the seeds set by `seed`, if any."""
        for index, seed in enumerate(self._seeds):
            if seed is not None:
                self._rngs[index] = seeding.np_random(seed)[0]
                if self._situation is not None:
                    self._situation.seed(index)
        self._reset_seeds()
        self._reset_options()  # the tasks have none
        self._begin(np.arange(self.num_envs))
        self._state_before[...] = self.physics.memory["state"]
        self._substeps = np.zeros_like(self._substeps)
        self._started = True
        return self._first(np.arange(self.num_envs))

    def step_async(self, actions: NDArray[Any]) -> None:
        """Check and store the actions of the next step.

        Raises:
            ValueError: If the actions are not finite numbers of shape (num_envs, actuators).
            ResetNeeded: Before the first `reset`.
        """
        actions = np.asarray(actions)
        expected = (self.num_envs, *(self.action_space.shape or ()))
        if actions.shape != expected or actions.dtype.kind not in "fiu":
            raise ValueError(
                f"actions must be numbers of shape {expected}, a row for each env; "
                f"got {actions.dtype} of shape {actions.shape}"
            )
        if not np.isfinite(actions).all():
            index, actuator = np.argwhere(~np.isfinite(actions))[0]
            raise ValueError(
                f"action {actuator} of env {index} is {actions[index, actuator]}, and no env was "
                f"stepped; actions must be finite, so check the policy that computes them"
            )
        if not self._started:
            raise ResetNeeded("no episode is under way; call reset() before step()")
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Hold each action for the next interval of its env; return observations and rewards."""
        task, simulations = self.task, self.physics.simulations
        controls = self._actions
        if self._chosen is None:
            substeps = self._schedule.ravel()[self._row + self._ticks % self._schedule.shape[1]]
        else:
            controls = self._actions[:, :-1]
            substeps = chosen_substeps(
                self._chosen,
                self._actions[:, -1],
                self._nominal_interval,
                self._timestep,
                self._substeps_since_reset,
                self._horizon,
            ).astype(np.int32)
        seconds = substeps * self._timestep
        before = task.before(simulations).copy()
        self._state_before[...] = self.physics.memory["state"]
        self._substeps = substeps
        unstable = self._advance(controls, substeps)
        self._note_pushes(self._substeps_since_reset + substeps)

        rewards = task.reward(simulations, before, controls, seconds)
        rewards = rewards * (substeps / self._nominal_substeps)
        if self._chosen is not None:
            rewards -= self._chosen.cost
        terminated = np.asarray(task.terminated(simulations), bool)
        if len(unstable):
            rewards[unstable] = 0.0
            terminated[unstable] = True
        self._ticks += 1
        self._substeps_since_reset += substeps
        self._returns += rewards
        out_of_time = self._substeps_since_reset == self._horizon
        dones = terminated | out_of_time

        physical_time = self._substeps_since_reset * self._timestep
        observations = self._observations(substeps)
        infos: list[dict[str, Any]] = [
            {"elapsed_time": elapsed, "physical_time": physical, "TimeLimit.truncated": False}
            for elapsed, physical in zip(seconds.tolist(), physical_time.tolist(), strict=True)
        ]
        for info, drawn in zip(infos, self._drawn, strict=False):  # none without conditions
            info["drawn"] = drawn
        if len(unstable):
            self._report_divergence(unstable, infos)
        if dones.any():
            self._end(np.flatnonzero(dones), out_of_time & ~terminated, observations, infos)
        return observations, rewards.astype(np.float32), dones, infos

    def reproduction(self, index: int) -> dict[str, Any]:
        """Return what is needed to repeat the last step of one simulation.

        Returns:
            `task`, `seed`, the `state` before the step (mjSTATE_INTEGRATION), `action` and
            `substeps`. Between a reset, or a loaded state, and the next step, the state is that
            one and there are 0 substeps.
        """
        return {
            "task": type(self.task).__name__,
            "seed": None if self._first_seed is None else self._first_seed + index,
            "state": self._state_before[index].tolist(),
            "action": self._actions[index].tolist(),
            "substeps": int(self._substeps[index]),
        }

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state on which later steps depend, for `load_state_dict`.

        State of variable size is JSON, as bytes: generators, and attributes set with `set_attr`
        that JSON can hold.

        Raises:
            ResetNeeded: Before the first `reset`.
            NotImplementedError: If the model has plugins or delays, whose buffers hold indices.
        """
        if not self._started:
            raise ResetNeeded("no episode is under way; call reset() before state_dict()")
        model = self.physics.simulations.model
        if model.nplugin or getattr(model, "nhistory", 0):
            raise NotImplementedError("its model has plugins or delays")
        notes = {
            "task": type(self.task).__name__,
            "generators": [rng.bit_generator.state for rng in self._rngs],
            "attributes": [dict(filter(_is_json, noted.items())) for noted in self._attributes],
            "diverged": self.diverged,
        }
        text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
        arrays = {name: array.copy() for name, array in (self._memory() | self._past()).items()}
        return arrays | {_NOTES: text, _AGE: np.array(max(0.0, time.time() - self._created))}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from the `state_dict` of another env that was made with the same arguments.

        Raises:
            ValueError: If that env was made for another task, model or number of envs, or if it
                could never have reached this state; nothing is changed then.
        """
        arrays = dict(state)
        try:
            notes = json.loads(arrays.pop(_NOTES, np.empty(0, np.uint8)).tobytes())
            generators = [_generator(state) for state in notes["generators"]]
            attributes = [dict(noted) for noted in notes["attributes"]]
            diverged, task = int(notes["diverged"]), notes["task"]
            seconds = float(arrays.pop(_AGE))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"the notes of the saved envs cannot be read: {error!r}") from error
        memory = self._memory()
        expected = memory | self._past()
        mine = {name: (array.shape, array.dtype.str) for name, array in expected.items()}
        theirs = {name: (array.shape, array.dtype.str) for name, array in arrays.items()}
        if task != type(self.task).__name__ or mine != theirs:
            raise ValueError(
                f"the state is of other envs: {task} {theirs}, and these are "
                f"{type(self.task).__name__} {mine}; make them with the same arguments"
            )
        self._check_state(arrays, attributes)
        if (
            not len(generators) == len(attributes) == self.num_envs
            or diverged < 0
            or not 0 <= seconds < 1e10
        ):
            raise ValueError(f"the notes of the saved envs are not valid for {self.num_envs} envs")
        for name, array in memory.items():
            array[...] = arrays[name]
        if self._situation is not None:
            self._situation.load_state_dict(arrays, arrays["substeps_since_reset"])
            self._embody(self._all)
        self._rngs = generators
        self._attributes = [
            noted | kept for noted, kept in zip(self._attributes, attributes, strict=True)
        ]
        self.diverged, self._created = diverged, time.time() - seconds
        self._state_before[...] = self.physics.memory["state"]
        self._substeps = np.zeros_like(self._substeps)
        self._reset_seeds()  # those set since would start other episodes
        self._started = True

    def _check_state(
        self, arrays: dict[str, NDArray[Any]], attributes: list[dict[str, Any]]
    ) -> None:
        """Refuse arrays that are not finite or out of range, and names that an env uses itself."""
        for name, array in arrays.items():
            limit = _LARGEST if name == "state" else np.finfo(np.float64).max
            if array.dtype.kind == "f" and not (np.abs(array) <= limit).all():
                raise ValueError(f"{name} of the saved envs is not finite, or beyond {limit:g}")
        for index in range(self.num_envs):
            tick, elapsed = (arrays[name].item(index) for name in ("ticks", "substeps_since_reset"))
            if self._chosen is not None:
                check_chosen(tick, elapsed, self._horizon)
                continue
            schedule = arrays["schedule"][index]
            check_schedule(schedule, tick, elapsed, self._horizon, self._nominal_substeps)
        if self._situation is not None:
            self._situation.check(arrays, arrays["ticks"], arrays["substeps_since_reset"])
        for name in {name for noted in attributes for name in noted}:
            if hasattr(type(self), name) or self.env.has_wrapper_attr(name):
                raise ValueError(f"the saved envs note {name!r}, which envs have themselves")

    def _memory(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that change during episodes, not copied."""
        return {
            "schedule": self._schedule,
            "ticks": self._ticks,
            "substeps_since_reset": self._substeps_since_reset,
            "returns": self._returns,
            **self.physics.memory,
        }

    def _past(self) -> dict[str, NDArray[Any]]:
        """Return the state of the conditions in the current episodes."""
        return {} if self._situation is None else self._situation.state_dict()

    def _advance(self, actions: NDArray[Any], substeps: NDArray[np.int32]) -> NDArray[np.intp]:
        """Simulate physics steps and events between them; return the indices of unstable ones."""
        physics, situation = self.physics, self._situation
        if situation is None:
            return physics.step(actions, substeps)
        now = self._substeps_since_reset.copy()
        if not situation.actuation.is_idle:
            situation.actuation.command(now, actions)
        physics.now[:] = now
        timeline = situation.timeline
        timeline.await_pushes(now)
        if not (timeline.next < now + substeps).any():
            return physics.step(actions, substeps)
        left, unstable = substeps.copy(), np.empty(0, np.intp)
        while len(which := np.flatnonzero(left)):
            changed = [
                index
                for index in which[timeline.next[which] <= now[which]].tolist()
                if timeline.happen(index, now.item(index))
            ]
            if changed:
                physics.embody(np.array(changed))
                for index in changed:
                    self._drawn[index] = situation.info(index)
            until = np.minimum(left, timeline.next - now).astype(np.int32)
            physics.now[:] = now
            unstable = np.union1d(unstable, physics.step(actions, until, which))
            now += until
            left -= until
        return unstable

    def _note_pushes(self, now: NDArray[np.int64]) -> None:
        """Note the simulations that were pushed in the control step that ended at `now`."""
        if self._situation is None or not self._situation.timeline.past.size:
            return
        timeline = self._situation.timeline
        timeline.await_pushes(now)
        times = timeline.past[:, :, 0]
        for index in np.flatnonzero((times != self._pushed).any(axis=1)).tolist():
            self._drawn[index] = self._situation.info(index)
        self._pushed = times.copy()

    def _observations(self, intervals: NDArray[np.int32]) -> Observations:
        """Return observations after a step of these numbers of substeps, as new arrays."""
        situation, now = self._situation, self._substeps_since_reset
        if situation is None:
            seconds = intervals * self._timestep
            return {
                "observation": self._part(self._observe(self.physics.simulations)),
                "elapsed_time": seconds.astype(np.float32)[:, None],
            }
        which, sensing = self._all, situation.sensing
        is_late, shows_full = sensing.longest_delay > 0, self._privileged in ("full", "all")
        full = seen = np.empty((self.num_envs, 0))
        if shows_full or not is_late:
            full = seen = self._observe(self.physics.simulations)
        if is_late:
            seen = self._observe(self.physics.earlier(sensing.measured(which, now)))
        values = sensing.observe(which, self._ticks, now, self._part(seen))
        seconds = sensing.elapsed(which, now, intervals.astype(np.int64)) * self._timestep
        elapsed_time = seconds.astype(np.float32)[:, None]
        observations: Observations = {"observation": values, "elapsed_time": elapsed_time}
        return observations | self._known(which, full)

    def _first(self, which: NDArray[np.intp]) -> Observations:
        """Return the first observations of episodes that have begun, as new arrays."""
        full = self._observe(self.physics.simulations)[which]
        values = self._part(full)
        if self._situation is not None:
            values = self._situation.sensing.start(which, values)
        elapsed_time = np.full((len(which), 1), self._nominal_interval, np.float32)
        observations = {"observation": values, "elapsed_time": elapsed_time}
        return observations | self._known(which, full)

    def _known(self, which: NDArray[np.intp], full: NDArray[Any]) -> Observations:
        """Return the privileged key, given full observations (which, ...); empty without one."""
        if self._privileged is None or self._situation is None:
            return {}
        shown = [] if self._privileged == "drawn" else [full]
        drawn = [] if self._privileged == "full" else [self._situation.numbers(which)]
        return {"privileged": np.concatenate(shown + drawn, axis=1)}

    def _observe(self, simulations: Simulations) -> NDArray[Any]:
        """Return the observations of simulations, (num_envs, features), as a new array."""
        observation = self.task.observation(simulations)
        return observation if observation.flags.owndata else observation.copy()

    def _part(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return the entries of full observations that are shown."""
        return observation if self._shown is None else observation.take(self._shown, axis=1)

    def _end(
        self,
        ended: NDArray[np.intp],
        truncated: NDArray[np.bool_],
        observations: Observations,
        infos: list[dict[str, Any]],
    ) -> None:
        """Add the results of ended episodes to their infos, and start the next episodes."""
        seconds = round(time.time() - self._created, 6)
        for index in ended.tolist():
            infos[index] |= {
                "TimeLimit.truncated": truncated.item(index),
                "terminal_observation": {key: of[index].copy() for key, of in observations.items()},
                "episode": {
                    "r": round(self._returns.item(index), 6),
                    "l": self._ticks.item(index),
                    "t": seconds,
                },
            }
        self._begin(ended)
        for key, first in self._first(ended).items():
            observations[key][ended] = first

    def _begin(self, which: NDArray[np.intp]) -> None:
        """Draw the initial states and intervals of new episodes, each from its own generator."""
        if self._situation is not None:
            self._situation.begin(which.tolist(), [self._rngs[index] for index in which])
            self._embody(which)
        starts = []
        for index in which.tolist():
            rng = self._rngs[index]
            qpos, qvel = self._start
            starts.append(self.task.start(rng, qpos.copy(), qvel.copy()))
            if self._chosen is None:
                substeps = draw_substeps(
                    self._interval, rng, self._nominal_interval, self._timestep, self._horizon
                )
                self._schedule[index, : len(substeps)] = substeps
            self.reset_infos[index] = {
                "elapsed_time": self._nominal_interval,
                "physical_time": 0.0,
            }
            if self._drawn:
                self.reset_infos[index]["drawn"] = self._drawn[index]
        qpos, qvel = map(np.array, zip(*starts, strict=True))
        self.physics.reset(which, qpos, qvel)
        self._ticks[which] = 0
        self._substeps_since_reset[which] = 0
        self._returns[which] = 0.0

    def _embody(self, which: NDArray[np.intp]) -> None:
        """Give simulations the bodies drawn for them, and note the drawn numbers."""
        assert self._situation is not None
        if self._situation.bodies.fields:
            self.physics.embody(which)
        if self._situation.drawn:
            for index in which.tolist():
                self._drawn[index] = self._situation.info(index)
            self._pushed = self._situation.timeline.past[:, :, 0].copy()

    def _report_divergence(self, which: NDArray[np.intp], infos: list[dict[str, Any]]) -> None:
        self.diverged += len(which)
        for index in which.tolist():
            infos[index]["diverged"] = True
            logger.warning(
                "env %d became unstable (NaN or huge numbers) %.3g s after its reset; its episode "
                "ends. Unstable episodes so far: %d",
                index,
                infos[index]["physical_time"],
                self.diverged,
            )


def _situation(env: gym.Env[Any, Any], num_envs: int) -> Situation | None:
    """Return the conditions of one env for `num_envs` simulations, or None."""
    for layer in layers(env):
        if isinstance(layer, Conditioned):
            return layer.situation(num_envs)
    return None


def _is_json(item: tuple[str, Any]) -> bool:
    try:
        json.dumps(item, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _generator(state: dict[str, Any]) -> np.random.Generator:
    """Return a generator with this state."""
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = state
    return generator
