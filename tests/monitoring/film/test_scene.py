from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from multiprocessing import get_context
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from liquid_control.monitoring.film import opengl
from liquid_control.monitoring.film.opengl import OpenGL, platforms
from liquid_control.monitoring.film.scene import Scene, viewpoint
from liquid_control.monitoring.film.software_renderer import SKY, SoftwareRenderer

EVERYTHING = mujoco.mjtState.mjSTATE_INTEGRATION
TASKS = [
    "HalfCheetah-v5",
    "Ant-v5",
    "Hopper-v5",
    "Walker2d-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "Swimmer-v5",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
    "Reacher-v5",
    "Pusher-v5",
]
RED = np.array((230, 0, 0))


def state_of(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    state = np.empty(mujoco.mj_stateSize(model, EVERYTHING))
    mujoco.mj_getState(model, data, state, EVERYTHING)
    return state


def lived(task: str, steps: int = 40) -> tuple[mujoco.MjModel, np.ndarray]:
    """A model, and states of an episode of random actions."""
    env = gym.make(task).unwrapped
    env.reset(seed=0)
    env.action_space.seed(0)
    states = []
    for _ in range(steps):
        env.step(env.action_space.sample())
        states.append(state_of(env.model, env.data))
    return env.model, np.stack(states)


def robot(body: str, joints: str) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """A red body on a plane."""
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody><geom type="plane" size="0 0 1"/><body pos="0 0 1">{joints}'
        f'<geom rgba="1 0 0 1" {body}/></body></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def reds(picture: np.ndarray) -> np.ndarray:
    """Where a picture is red."""
    return (picture[..., 0] > 100) & (picture[..., 1:].max(axis=-1) < 80)


@pytest.fixture
def _without_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "off")
    monkeypatch.setattr(Scene, "_warned", True)


def works() -> bool:
    """Whether this machine has OpenGL."""
    model, _ = robot('type="sphere" size=".1"', "<freejoint/>")
    try:
        OpenGL(model, 8, 8).close()
    except Exception:
        return False
    return True


needs_opengl = pytest.mark.skipif(not works(), reason="this machine has no OpenGL")
PAINTERS = [
    pytest.param("off", id="drawn"),
    pytest.param("", marks=needs_opengl, id="opengl"),
]


@pytest.mark.parametrize("task", TASKS)
def test_the_camera_sees_the_robot_whole_and_large_in_every_pose(task: str) -> None:
    model, states = lived(task)
    view = viewpoint(model, states, aspect=1.2)
    data = mujoco.MjData(model)
    scene = mujoco.MjvScene(model, 1000)
    seen = []
    for state in states:
        mujoco.mj_setState(model, data, state, EVERYTHING)
        mujoco.mj_fwdPosition(model, data)
        mujoco.mjv_updateScene(
            model,
            data,
            mujoco.MjvOption(),
            None,
            view.camera(data),
            mujoco.mjtCatBit.mjCAT_ALL,
            scene,
        )
        eye = mujoco.mjv_averageCamera(*scene.camera)
        moving = model.body_weldid[model.geom_bodyid] != 0
        far = data.geom_xpos[moving] - eye.pos
        depth = far @ eye.forward
        half = depth * eye.frustum_top / eye.frustum_near
        across = np.abs(far @ np.cross(eye.forward, eye.up)) / half / 1.2
        upwards = np.abs(far @ eye.up) / half
        assert (depth > 0).all()
        seen.append(np.maximum(across, upwards))
    assert np.max(seen) < 1
    assert np.max(seen) > 0.4


@pytest.mark.usefixtures("_without_opengl")
@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_drawn(task: str) -> None:
    model, states = lived(task, 2)
    data = mujoco.MjData(model)
    with Scene(model, states, width=160, height=120) as scene:
        pictures = []
        for state in states:
            mujoco.mj_setState(model, data, state, EVERYTHING)
            mujoco.mj_fwdPosition(model, data)
            pictures.append(scene.picture(data))
    assert pictures[0].shape == (120, 160, 3)
    assert pictures[0].std() > 5
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize("platform", PAINTERS)
@pytest.mark.parametrize(
    "shape",
    [
        'type="sphere" size=".2"',
        'type="capsule" size=".1 .2"',
        'type="box" size=".2 .1 .1"',
        'type="cylinder" size=".1 .2"',
        'type="ellipsoid" size=".2 .1 .1"',
    ],
)
def test_every_shape_is_seen_in_the_middle_and_as_large_as_it_is(
    shape: str, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", platform)
    monkeypatch.setattr(Scene, "_warned", True)
    model, data = robot(shape, "<freejoint/>")
    with Scene(model, state_of(model, data)[None], width=200, height=160) as scene:
        rows, columns = np.nonzero(reds(scene.picture(data)))
    assert abs((rows.min() + rows.max()) / 2 - 80) < 12
    assert abs((columns.min() + columns.max()) / 2 - 100) < 12
    assert 60 < max(np.ptp(rows), np.ptp(columns)) < 200


@needs_opengl
@pytest.mark.parametrize("task", ["HalfCheetah-v5", "Reacher-v5", "Pusher-v5"])
def test_drawn_bodies_are_where_opengl_has_them(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, states = lived(task, 10)
    model.geom_rgba[:] = (1, 0, 0, 1)
    model.geom_matid[:] = -1
    ground = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    model.geom_rgba[ground] = (0, 0, 1, 1)
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, states[-1], EVERYTHING)
    mujoco.mj_fwdPosition(model, data)
    found = []
    for platform in ("", "off"):
        monkeypatch.setenv("MUJOCO_GL", platform)
        monkeypatch.setattr(Scene, "_warned", True)
        with Scene(model, states, width=200, height=160) as scene:
            picture = scene.picture(data).astype(int)
        found.append(picture[..., 0] - picture[..., 2] > 60)
    both, either = (found[0] & found[1]).sum(), (found[0] | found[1]).sum()
    assert both > 0.8 * either > 0


@pytest.mark.usefixtures("_without_opengl")
def test_the_nearer_body_hides_the_other() -> None:
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody>"
        '<body pos="0 1 0"><freejoint/><geom type="sphere" size=".2" rgba="0 0 1 1"/></body>'
        '<body pos="0 0 0"><freejoint/><geom type="sphere" size=".3" rgba="1 0 0 1"/></body>'
        '</worldbody><visual><global elevation="0"/></visual></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    scene = mujoco.MjvScene(model, 100)
    colours = []
    for azimuth in (90, 270):  # from before the red one, from before the blue one
        camera = mujoco.MjvCamera()
        camera.lookat[:], camera.distance = (0, 0.5, 0), 4
        camera.azimuth, camera.elevation = azimuth, 0
        what = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, what, scene)
        colours.append(SoftwareRenderer(model, 80, 80).paint(scene)[40, 40])
    assert colours[0][0] > 200 > 50 > colours[0][2]
    assert colours[1][2] > 200 > 50 > colours[1][0]


@pytest.mark.usefixtures("_without_opengl")
def test_a_mesh_is_drawn_by_its_own_points() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><mesh name="other" vertex="0 0 0  9 0 0  0 9 0  0 0 9"/>'
        '<mesh name="wedge" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/></asset>'
        '<worldbody><body><freejoint/><geom type="mesh" mesh="wedge" rgba="1 0 0 1"/></body>'
        "</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with Scene(model, state_of(model, data)[None], width=100, height=100) as scene:
        share = reds(scene.picture(data)).mean()
    assert 0.1 < share < 0.6


def test_only_a_robot_that_moves_freely_is_tracked() -> None:
    for joints, roams in (
        ("<freejoint/>", True),
        ('<joint type="slide" axis="1 0 0"/>', True),
        ('<joint type="slide" axis="1 0 0" limited="true" range="-9 9"/>', False),
        ('<joint axis="0 0 1"/>', False),
    ):
        model, data = robot('type="sphere" size=".2"', joints)
        view = viewpoint(model, state_of(model, data)[None], 1.0)
        before = view.camera(data).lookat.copy()
        data.qpos[0] += 3
        mujoco.mj_forward(model, data)
        moved = view.camera(data).lookat - before
        assert np.allclose(moved, (3, 0, 0) if roams else 0), joints


@pytest.mark.parametrize(
    ("axis", "azimuth", "elevation"),
    [("0 1 0", 90, -8), ("1 0 0", 0, -8), ("1 1 0", 45, -8), ("0 0 1", 90, -75)],
)
def test_what_is_planar_is_seen_along_its_axis(axis: str, azimuth: float, elevation: float) -> None:
    model, data = robot('type="sphere" size=".2"', f'<joint axis="{axis}"/>')
    view = viewpoint(model, state_of(model, data)[None], 1.0)
    assert (view.azimuth - azimuth) % 180 == pytest.approx(0, abs=1e-6)
    assert view.elevation == elevation


@pytest.mark.parametrize("platform", PAINTERS)
def test_neither_model_nor_data_change(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", platform)
    monkeypatch.setattr(Scene, "_warned", True)
    model, data = robot('type="box" size=".2 .1 .1"', "<freejoint/>")
    data.qvel[:] = 1

    def everything() -> tuple[bytes, bytes]:
        buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, buffer)
        return buffer.tobytes(), state_of(model, data).tobytes()

    before = everything()
    with Scene(model, state_of(model, data)[None], width=64, height=48) as scene:
        scene.picture(data)
    assert everything() == before


@needs_opengl
def test_gymnasiums_renderer_keeps_its_own_context(monkeypatch: pytest.MonkeyPatch) -> None:
    (name, *_) = platforms()
    monkeypatch.setenv("MUJOCO_GL", name)
    env = gym.make("HalfCheetah-v5", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    model, states = lived("Hopper-v5", 2)
    data = mujoco.MjData(model)
    with Scene(model, states, width=64, height=48) as scene:
        scene.picture(data)
        np.testing.assert_array_equal(env.render(), before)
    np.testing.assert_array_equal(env.render(), before)
    assert before.std() > 5
    env.close()


@needs_opengl
def test_the_background_has_one_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    for task in ("HalfCheetah-v5", "InvertedPendulum-v5"):  # one has a sky, the other none
        model, states = lived(task, 2)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        with Scene(model, states, width=64, height=48) as scene:
            assert tuple(scene.picture(data)[0, 0]) == SKY


@needs_opengl
def test_scenes_that_share_the_context_are_drawn_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    robots = []
    for task in ("HalfCheetah-v5", "Ant-v5"):
        model, states = lived(task, 2)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        with Scene(model, states, width=96, height=64) as scene:
            robots.append((model, states, data, scene.picture(data)))
    (model, states, data, alone), (other_model, other_states, other_data, other_alone) = robots
    with Scene(model, states, width=96, height=64) as scene:
        with Scene(other_model, other_states, width=96, height=64) as other:
            np.testing.assert_array_equal(other.picture(other_data), other_alone)
            np.testing.assert_array_equal(scene.picture(data), alone)
            np.testing.assert_array_equal(other.picture(other_data), other_alone)
        np.testing.assert_array_equal(scene.picture(data), alone)
    assert len([each for each in threading.enumerate() if each.name.startswith("opengl")]) == 1


@needs_opengl
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_of_a_process_that_used_opengl_draws_in_software(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    model, data = robot('type="sphere" size=".2"', "<freejoint/>")
    OpenGL(model, 8, 8).close()

    def draw() -> None:
        with Scene(model, state_of(model, data)[None], width=64, height=48) as scene:
            assert reds(scene.picture(data)).any()

    child = get_context("fork").Process(target=draw)
    child.start()
    child.join(60)
    child.kill()
    assert child.exitcode == 0


def test_without_opengl_a_warning_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "off")
    monkeypatch.setattr(Scene, "_warned", False)
    monkeypatch.setattr(sys, "platform", "linux")
    model, data = robot('type="sphere" size=".2"', "<freejoint/>")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            with Scene(model, state_of(model, data)[None], width=64, height=48) as scene:
                assert reds(scene.picture(data)).any()
    (warning,) = caught
    text = str(warning.message)
    assert "\n" not in text
    assert "libegl1 libgl1" in text
    assert "libosmesa6" in text


def test_opengl_that_fails_during_a_film_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking:
        closed = False

        def __init__(self, *_: object) -> None:
            pass

        def paint(self, _: object) -> np.ndarray:
            raise mujoco.FatalError("the driver is gone")

        def close(self) -> None:
            Breaking.closed = True

    monkeypatch.setattr("liquid_control.monitoring.film.scene.OpenGL", Breaking)
    monkeypatch.setattr(Scene, "_warned", False)
    model, data = robot('type="sphere" size=".2"', "<freejoint/>")
    with Scene(model, state_of(model, data)[None], width=64, height=48) as scene:
        with pytest.warns(UserWarning, match="the driver is gone"):
            picture = scene.picture(data)
        assert Breaking.closed
    assert reds(picture).any()


WITHOUT_LIBRARIES = """
import ctypes, ctypes.util, os, sys
import mujoco, numpy as np
from liquid_control.monitoring.film.scene import Scene

def refuse(name, *_, **__):
    raise OSError(f"{name}: cannot open shared object file")

ctypes.CDLL = ctypes.cdll._dlltype = refuse
ctypes.util.find_library = lambda name: None
model = mujoco.MjModel.from_xml_string('''<mujoco><worldbody><body><freejoint/>
<geom type="sphere" size=".2" rgba="1 0 0 1"/></body></worldbody></mujoco>''')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
state = np.empty((1, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)))
mujoco.mj_getState(model, data, state[0], mujoco.mjtState.mjSTATE_INTEGRATION)
for platform in ("egl", "osmesa"):
    os.environ["MUJOCO_GL"] = platform
    os.environ.pop("PYOPENGL_PLATFORM", None)
    Scene._warned = False
    for _ in range(2):
        with Scene(model, state, width=64, height=48) as scene:
            assert scene.picture(data).std() > 5
"""


@pytest.mark.slow
def test_libraries_that_do_not_load_are_skipped(tmp_path: Path) -> None:
    """In a separate process, because a loaded library stays loaded."""
    named = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {key: value for key, value in os.environ.items() if key not in named}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBRARIES],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for platform in ("egl", "osmesa"):
        assert done.stderr.count(f"no OpenGL ({platform}: ") == 1, done.stderr


@pytest.mark.parametrize(
    ("system", "chosen", "libraries", "display", "expected"),
    [
        ("linux", None, ("EGL", "OSMesa"), "", ["egl", "osmesa"]),
        ("linux", None, ("OSMesa",), "", ["osmesa"]),
        ("linux", None, ("EGL",), ":0", ["egl", "glfw"]),
        ("linux", None, (), "", []),
        ("linux", "osmesa", ("EGL",), ":0", ["osmesa"]),
        ("linux", "glfw", ("EGL",), "", []),
        ("linux", "off", ("EGL",), ":0", []),
        ("linux", "", ("EGL",), "", ["egl"]),
        ("darwin", None, (), "", ["cgl"]),
        ("win32", None, (), "", ["glfw"]),
    ],
)
def test_the_platform_is_the_chosen_one_or_what_is_there(
    system: str,
    chosen: str | None,
    libraries: tuple[str, ...],
    display: str,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(
        opengl, "find_library", lambda name: f"lib{name}.so" if name in libraries else None
    )
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if chosen is not None:
        monkeypatch.setenv("MUJOCO_GL", chosen)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert list(platforms()) == expected
