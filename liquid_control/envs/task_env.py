"""User-defined tasks: registers a `Task` and a model as a Gymnasium env."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from numpy.typing import NDArray

from liquid_control.envs.tasks.task import Array, Simulations, Task


def register(
    name: str,
    task: type[Task],
    *,
    model: str | Path,
    frame_skip: int,
    max_episode_steps: int | None = None,
) -> None:
    """Register a user-defined task for `make`, `make_vec`, recipes and `gymnasium.make`.

    The env takes the task's fields, `frame_skip` and the arguments of Gymnasium's MujocoEnv, such
    as `width`. A recipe with the task "module:Name-v0" imports the module, which registers it;
    to open a run of it, commands need `--import module` or `--trust`.

    Args:
        name: The name of the env, such as "FurutaPendulum-v0".
        task: The class of the task.
        model: Path of the robot's MJCF file.
        frame_skip: Physics steps per nominal control interval.
        max_episode_steps: Nominal intervals after which an episode is truncated.
    """
    gym.register(
        name,
        entry_point=partial(_build, task, Path(model).absolute()),
        max_episode_steps=max_episode_steps,
        kwargs={"frame_skip": frame_skip},
    )


def registered_task(entry_point: Any) -> type[Task] | None:
    """Return the task whose entry point `register` created, or None."""
    is_ours = isinstance(entry_point, partial) and entry_point.func is _build
    return entry_point.args[0] if is_ours else None


class TaskEnv(MujocoEnv):
    """One simulation of a task, as a Gymnasium env.

    Args:
        task: The task.
        model: Path of the robot's MJCF file.
        frame_skip: Physics steps per control interval.
        **kwargs: Arguments of MujocoEnv, such as `render_mode`.

    Raises:
        ValueError: If the file is not a valid model, or the task's functions return arrays of the
            wrong shape.
    """

    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}  # noqa: RUF012

    def __init__(self, task: Task, model: Path, frame_skip: int, **kwargs: Any) -> None:
        if frame_skip < 1 or frame_skip % 1:
            raise ValueError(f"frame_skip must be a whole number of at least 1, got {frame_skip!r}")
        try:
            super().__init__(str(model), frame_skip, observation_space=None, **kwargs)
        except ValueError as error:  # MuJoCo's error gives the line, but not the file
            raise ValueError(f"{model}: {error}") from error
        self.metadata = self.metadata | {"render_fps": round(1 / self.dt)}
        self.task = task
        self._simulations = Simulations.of(self.model, self.data, task.reads)
        self._check_shapes()
        shape = self._get_obs().shape
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, shape, np.float64)
        if task.layout:
            self.observation_structure = dict(task.layout)

    def __getstate__(self) -> dict[str, Any]:
        # What acts within steps belongs to a wrapper, whose copy attaches its own.
        return {
            key: each for key, each in self.__dict__.items() if key != "_step_mujoco_simulation"
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # NumPy's copies of views are arrays of their own.
        self._simulations = Simulations.of(self.model, self.data, self.task.reads)

    def step(self, action: NDArray[Any]) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """Hold an action for `frame_skip` physics steps."""
        task, simulations = self.task, self._simulations
        before = task.before(simulations).copy()
        self.do_simulation(action, self.frame_skip)
        seconds = np.array([self.dt])
        (reward,) = task.reward(simulations, before, np.asarray(action)[None], seconds)
        (terminated,) = task.terminated(simulations)
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return self._get_obs(), float(reward), bool(terminated), False, {}

    def reset_model(self) -> Array:
        """Draw the initial state of an episode and return its observation."""
        start = self.task.start(self.np_random, self.init_qpos.copy(), self.init_qvel.copy())
        shapes = [*map(np.shape, start)] if isinstance(start, tuple | list) else start
        if shapes != [self.init_qpos.shape, self.init_qvel.shape]:
            raise ValueError(
                f"start of {type(self.task).__name__} must return qpos {self.init_qpos.shape} and "
                f"qvel {self.init_qvel.shape}, got {shapes}"
            )
        self.set_state(*start)  # type: ignore[no-untyped-call]
        return self._get_obs()

    def _get_obs(self) -> Array:
        (observation,) = self.task.observation(self._simulations)
        return np.array(observation)

    def _check_shapes(self) -> None:
        """Raise ValueError if the task's arrays do not have one row or number per simulation."""
        task, sims = self.task, self._simulations
        action = np.zeros((1, self.model.nu), np.float32)
        reward = task.reward(sims, task.before(sims), action, np.array([self.dt]))
        for name, array, axes in (
            ("observation", task.observation(sims), 2),
            ("reward", reward, 1),
            ("terminated", task.terminated(sims), 1),
        ):
            if np.ndim(array) != axes or len(array) != 1:
                wanted = "(simulations, features)" if axes == 2 else "(simulations,)"
                raise ValueError(
                    f"{name} of {type(task).__name__} has shape {np.shape(array)} for one "
                    f"simulation; return {wanted}"
                )


def _build(task: type[Task], model: Path, **arguments: Any) -> TaskEnv:
    names = {field.name for field in dataclasses.fields(task)} & arguments.keys()
    return TaskEnv(task(**{name: arguments.pop(name) for name in names}), model, **arguments)
