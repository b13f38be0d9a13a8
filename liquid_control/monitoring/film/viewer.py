"""Watching an agent live, in MuJoCo's viewer."""

from __future__ import annotations

import warnings
from copy import copy
from itertools import count
from time import perf_counter, sleep
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from stable_baselines3.common.base_class import BaseAlgorithm

from liquid_control.monitoring.film.opengl import has_display
from liquid_control.monitoring.film.scene import viewpoint

PICTURE = 1 / 60  # seconds between two pictures
ROOM = 1.6  # times as far off as the camera of a film: what is to come is not known


def watch(
    model: BaseAlgorithm,
    env: gym.Env[Any, Any],
    *,
    episodes: int | None = None,
    seed: int | None = None,
) -> None:
    """Show an agent's episodes in a window, at true speed, until they or the window end.

    What is shown is computed a second time, one physics step after the other: the robot moves
    smoothly between two actions, however far they are apart.

    Args:
        model: An SB3 algorithm. If it was trained behind `VecNormalize`, observations are
            normalised as there.
        env: One MuJoCo task, such as `liquid_control.envs.make` builds.
        episodes: How many; None goes on until the window is closed.
        seed: Of the first episode; None goes on with the environment's own generator.

    Raises:
        RuntimeError: If there is no display.
        TypeError: If the environment is no MuJoCo task.
    """
    task = env.unwrapped
    if not isinstance(task, MujocoEnv):
        raise TypeError(f"the viewer shows MuJoCo tasks, got {type(task).__name__}")
    if not _display_answers():
        raise RuntimeError(
            "there is no display to open a window on; run `liquid-control record` for a film"
        )
    # Imported here: what it loads may be missing where there is no screen.
    from mujoco import viewer

    robot = copy(task.model)  # what one changes in the window does not reach the task
    shown = mujoco.MjData(robot)
    with viewer.launch_passive(robot, shown, show_left_ui=False, show_right_ui=False) as window:
        for episode in count() if episodes is None else range(episodes):
            observation, _ = env.reset(seed=seed if episode == 0 else None)
            if episode == 0:
                _look(task, window)
            _live(model, env, observation, robot, shown, window)
            if not window.is_running():
                return


def _live(
    model: BaseAlgorithm,
    env: gym.Env[Any, Any],
    observation: Any,
    robot: Any,
    shown: Any,
    window: Any,
) -> None:
    """Show one episode, or as much of it as the window stays open for."""
    task: Any = env.unwrapped
    normalizer = model.get_vec_normalize_env()
    state, start, over = None, np.array([True]), False
    began = perf_counter() - task.data.time
    while window.is_running() and not over:
        mujoco.mj_copyData(shown, robot, task.data)
        seen = normalizer.normalize_obs(observation) if normalizer else observation
        action, state = model.predict(seen, state, start, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        start, over = np.array([False]), terminated or truncated
        shown.ctrl[:] = task.data.ctrl
        for _ in range(round((task.data.time - shown.time) / robot.opt.timestep)):
            pictures = shown.time // PICTURE
            mujoco.mj_step(robot, shown)
            if shown.time // PICTURE > pictures:
                window.sync()
                sleep(max(began + shown.time - perf_counter(), 0))


def _look(task: Any, window: Any) -> None:
    """Put the window's camera where a film's would stand, and farther off."""
    everything = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty((1, mujoco.mj_stateSize(task.model, everything)))
    mujoco.mj_getState(task.model, task.data, state[0], everything)
    view = viewpoint(task.model, state, aspect=1.5)
    with window.lock():
        window.cam.lookat[:] = view.lookat
        window.cam.distance = ROOM * view.distance
        window.cam.azimuth, window.cam.elevation = view.azimuth, view.elevation
        if view.follows is not None:
            window.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            window.cam.trackbodyid = view.follows


def _display_answers() -> bool:
    """Whether there is a display, and a window can be opened on it."""
    if not has_display():
        return False
    import glfw  # as above

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GLFW warns of what the caller raises
        answers = bool(glfw.init())
        glfw.terminate()
    return answers
