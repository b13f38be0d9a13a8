from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import mujoco
import mujoco.viewer
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from liquid_control import envs
from liquid_control.monitoring.film import viewer

TASK = "InvertedPendulum-v5"


class Window:
    """The interface of MuJoCo's viewer, without a window."""

    def __init__(self, model: Any, data: Any, life: int) -> None:
        self.model, self.data, self.life = model, data, life
        self.cam = mujoco.MjvCamera()
        self.seen: list[tuple[float, float, np.ndarray]] = []
        self.left = False

    def is_running(self) -> bool:
        return len(self.seen) < self.life

    def sync(self) -> None:
        self.seen.append((viewer.perf_counter(), self.data.time, self.data.qpos.copy()))

    def lock(self) -> Any:
        return nullcontext()

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self.left = True


class Screen:
    """Opens windows, with a clock that only sleeping advances."""

    def __init__(self) -> None:
        self.time, self.life = 100.0, 10**9
        self.windows: list[Window] = []

    def open(self, model: Any, data: Any, **_: Any) -> Window:
        self.windows.append(Window(model, data, self.life))
        return self.windows[-1]

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr(viewer, "_display_answers", lambda: True)
    monkeypatch.setattr(viewer, "perf_counter", lambda: screen.time)
    monkeypatch.setattr(viewer, "sleep", screen.sleep)
    monkeypatch.setattr(mujoco.viewer, "launch_passive", screen.open)
    return screen


@pytest.fixture(scope="module")
def model() -> PPO:
    return PPO("MultiInputPolicy", envs.make(TASK, interval=0.1), device="cpu", seed=0)


def test_the_window_shows_the_episode_at_true_speed(model: PPO, screen: Screen) -> None:
    env = envs.make(TASK, interval=0.1)
    viewer.watch(model, env, episodes=1, seed=0)
    (window,) = screen.windows
    clock, time, _ = zip(*window.seen, strict=True)
    assert len(clock) > 5
    late = np.subtract(clock, 100) - time
    assert np.abs(late).max() < 0.04  # its first picture comes one action after the reset
    assert np.ptp(late) < 1e-6
    assert np.diff(time).max() < 2 * viewer.FRAME_INTERVAL + 0.01  # smooth, at ten actions a second
    assert window.left


def test_the_shown_states_are_those_of_the_task(model: PPO, screen: Screen) -> None:
    env = envs.make(TASK, interval=0.04)
    task: Any = env.unwrapped
    lived: dict[float, np.ndarray] = {}
    step = task.do_simulation

    def written_down(action: Any, substeps: int) -> None:
        for _ in range(substeps):
            step(action, 1)
            lived[round(task.data.time, 6)] = task.data.qpos.copy()

    task.do_simulation = written_down
    viewer.watch(model, env, episodes=1, seed=1)
    for _, time, position in screen.windows[0].seen:
        np.testing.assert_array_equal(position, lived[round(time, 6)])


def test_it_ends_after_the_episodes_and_starts_them_by_the_seed(
    model: PPO, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = envs.make(TASK)
    seeds: list[int | None] = []
    reset = env.reset

    def written_down(*, seed: int | None = None) -> Any:
        seeds.append(seed)
        return reset(seed=seed)

    monkeypatch.setattr(env, "reset", written_down)
    viewer.watch(model, env, episodes=3, seed=7)
    assert seeds == [7, None, None]


def test_it_ends_with_the_window(model: PPO, screen: Screen) -> None:
    screen.life = 20
    viewer.watch(model, envs.make(TASK), seed=0)
    assert screen.windows[0].life <= len(screen.windows[0].seen) < 30
    assert screen.windows[0].left


def test_the_window_cannot_change_the_task(model: PPO, screen: Screen) -> None:
    env = envs.make(TASK)
    viewer.watch(model, env, episodes=1)
    task: Any = env.unwrapped
    assert screen.windows[0].model is not task.model
    assert screen.windows[0].data is not task.data


def test_the_camera_tracks_a_robot_that_moves_freely(screen: Screen) -> None:
    screen.life = 3
    for task, roams in (("Hopper-v5", True), (TASK, False)):
        viewer.watch(PPO("MultiInputPolicy", envs.make(task)), envs.make(task), episodes=1)
        camera = screen.windows[-1].cam
        assert (camera.type == mujoco.mjtCamera.mjCAMERA_TRACKING) == roams
        assert camera.distance > 0.5


def test_observations_are_normalised_as_in_training(screen: Screen) -> None:
    def build() -> gym.Env[Any, Any]:
        return envs.make(TASK)

    keys = ["observation"]
    venv = VecNormalize(DummyVecEnv([build]), norm_obs_keys=keys)
    venv.obs_rms["observation"].mean[:] = 5
    model = PPO("MultiInputPolicy", venv, device="cpu")
    seen = []
    predict = model.predict
    model.predict = lambda observation, *rest, **named: (  # type: ignore[method-assign]
        seen.append(observation["observation"]) or predict(observation, *rest, **named)
    )
    screen.life = 2
    viewer.watch(model, build(), episodes=1, seed=0)
    assert np.allclose(seen[0], -5, atol=0.1)


def test_without_a_display_the_error_names_an_alternative(
    model: PPO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(RuntimeError, match=r"no display .* run `liquid-control record`"):
        viewer.watch(model, envs.make(TASK))


@pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")
def test_a_display_that_does_not_respond_counts_as_none(
    model: PPO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", "nowhere:77")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(RuntimeError, match="no display"):
        viewer.watch(model, envs.make(TASK))


def test_other_tasks_raise(model: PPO) -> None:
    env: Any = SimpleNamespace(unwrapped=gym.make("CartPole-v1").unwrapped)
    with pytest.raises(TypeError, match="MuJoCo tasks, got CartPoleEnv"):
        viewer.watch(model, env)
