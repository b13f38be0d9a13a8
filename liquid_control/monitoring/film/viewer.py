"""Live display of an agent in MuJoCo's viewer."""

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
from liquid_control.monitoring.recording import physics_state

FRAME_INTERVAL = 1 / 60  # seconds
DISTANCE = 1.6  # relative to the camera of a film, as future poses are unknown


def watch(
    model: BaseAlgorithm,
    env: gym.Env[Any, Any],
    *,
    episodes: int | None = None,
    seed: int | None = None,
) -> None:
    """Show an agent's episodes in a window, in real time.

    Each control step is simulated a second time, one physics step at a time, so that the robot
    moves smoothly between actions.

    Args:
        model: An SB3 algorithm. If it was trained with `VecNormalize`, observations are normalised
            likewise.
        env: One MuJoCo task, such as `liquid_control.envs.make` builds.
        episodes: Number of episodes; None continues until the window is closed.
        seed: Seed of the first episode; None continues the environment's generator.

    Raises:
        RuntimeError: If there is no display.
        TypeError: If the environment is not a MuJoCo task.
    """
    task = env.unwrapped
    if not isinstance(task, MujocoEnv):
        raise TypeError(f"the viewer shows MuJoCo tasks, got {type(task).__name__}")
    if not _display_answers():
        raise RuntimeError(
            "there is no display to open a window on; run `liquid-control record` for a film"
        )
    # Imported here, as its dependencies may be missing on a machine without a display.
    from mujoco import viewer

    robot = copy(task.model)  # changes made in the window do not affect the task
    shown = mujoco.MjData(robot)
    with viewer.launch_passive(robot, shown, show_left_ui=False, show_right_ui=False) as window:
        for episode in count() if episodes is None else range(episodes):
            observation, _ = env.reset(seed=seed if episode == 0 else None)
            if episode == 0:
                _place_camera(task, window)
            _show_episode(model, env, observation, robot, shown, window)
            if not window.is_running():
                return


def _show_episode(
    model: BaseAlgorithm,
    env: gym.Env[Any, Any],
    observation: Any,
    robot: Any,
    shown: Any,
    window: Any,
) -> None:
    """Show one episode, until it ends or the window is closed."""
    task: Any = env.unwrapped
    normalizer = model.get_vec_normalize_env()
    state, start, over = None, np.array([True]), False
    began = perf_counter() - task.data.time
    while window.is_running() and not over:
        mujoco.mj_copyData(shown, robot, task.data)
        observation = normalizer.normalize_obs(observation) if normalizer else observation
        action, state = model.predict(observation, state, start, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        start, over = np.array([False]), terminated or truncated
        shown.ctrl[:] = task.data.ctrl
        for _ in range(round((task.data.time - shown.time) / robot.opt.timestep)):
            frame = shown.time // FRAME_INTERVAL
            mujoco.mj_step(robot, shown)
            if shown.time // FRAME_INTERVAL > frame:
                window.sync()
                sleep(max(began + shown.time - perf_counter(), 0))


def _place_camera(task: Any, window: Any) -> None:
    """Place the window's camera as in a film, but at a larger distance."""
    view = viewpoint(task.model, physics_state(task)[None], aspect=1.5)
    with window.lock():
        window.cam.lookat[:] = view.lookat
        window.cam.distance = DISTANCE * view.distance
        window.cam.azimuth, window.cam.elevation = view.azimuth, view.elevation
        if view.follows is not None:
            window.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            window.cam.trackbodyid = view.follows


def _display_answers() -> bool:
    """Return whether a window can be opened."""
    if not has_display():
        return False
    import glfw  # may be missing, as above

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller raises an error instead
        answers = bool(glfw.init())
        glfw.terminate()
    return answers
