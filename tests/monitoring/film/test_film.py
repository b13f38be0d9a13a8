from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import imageio_ffmpeg
import mujoco
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from liquid_control.monitoring.colours import LANGUAGE
from liquid_control.monitoring.film import activity_strip, frames, rendering, replay, to_gif, to_mp4
from liquid_control.monitoring.film.activity_strip import ActivityStrip
from tests.monitoring.recordings import synthetic

SIZE = {"width": 400, "height": 160}


@pytest.fixture(autouse=True)
def _draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pictures on every machine."""
    monkeypatch.setenv("MUJOCO_GL", "off")
    monkeypatch.setattr("liquid_control.monitoring.film.scene.Scene._warned", True)


def white_noise(count: int, height: int = 32, width: int = 48) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def saved(model: mujoco.MjModel) -> bytes:
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


@pytest.mark.parametrize("fps", [5, 12.5, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_film_lasts_as_long_as_the_episode_within_one_frame(fps: float, seed: int) -> None:
    recording = synthetic(8, 1, 40, seed=seed)
    film = list(frames(recording, fps=fps, **SIZE))
    assert abs(len(film) / fps - recording.duration) <= 1 / fps


def test_a_film_may_end_early() -> None:
    assert len(list(frames(synthetic(8, 1, 100), fps=10, seconds=1.5, **SIZE))) == 15


def test_a_film_shorter_than_a_frame_has_one() -> None:
    assert len(list(frames(synthetic(8, 1, 1), fps=1, **SIZE))) == 1


def test_a_replay_passes_through_every_recorded_state_to_the_bit() -> None:
    recording = synthetic(8, 3, 30, simulated=True)
    simulation = recording.simulation
    assert simulation is not None
    data = mujoco.MjData(simulation.model)
    position = slice(1, 1 + simulation.model.nq)  # behind the time, in mjSTATE_INTEGRATION
    for time, state in zip(recording.times, simulation.states, strict=True):
        replay(simulation, recording.times, time, data)
        np.testing.assert_array_equal(data.qpos, state[position])


def test_between_control_steps_a_replay_shows_the_physics_step_under_way() -> None:
    recording = synthetic(8, 3, 30, simulated=True)
    simulation = recording.simulation
    assert simulation is not None
    model, data, moment = simulation.model, mujoco.MjData(simulation.model), 0
    shown = mujoco.MjData(model)
    for step, control in enumerate(simulation.controls):
        while data.time < recording.times[step + 1] - 1e-6:
            data.ctrl[:] = control
            mujoco.mj_step(model, data)
            moment += 1
            for late in (0, 0.4, 0.9):
                time = (moment + late) * model.opt.timestep
                replay(simulation, recording.times, min(time, recording.duration), shown)
                np.testing.assert_array_equal(shown.qpos, data.qpos)
                assert shown.time == pytest.approx(data.time)


def test_a_replay_puts_bodies_where_the_state_says() -> None:
    recording = synthetic(8, 3, 10, simulated=True)
    simulation = recording.simulation
    assert simulation is not None
    data = mujoco.MjData(simulation.model)
    replay(simulation, recording.times, recording.duration, data)
    places = data.geom_xpos.copy()
    mujoco.mj_kinematics(simulation.model, data)
    np.testing.assert_array_equal(places, data.geom_xpos)


def test_the_robot_moves_and_its_model_does_not_change() -> None:
    recording = synthetic(8, 3, 40, simulated=True)
    simulation = recording.simulation
    assert simulation is not None
    before = saved(simulation.model)
    film = list(frames(recording, fps=10, **SIZE))
    robots = np.stack([each[20:, :170] for each in film])
    assert (robots.std(axis=(1, 2, 3)) > 5).all()  # not blank
    assert all((a != b).any() for a, b in pairwise(robots))
    assert saved(simulation.model) == before


@pytest.mark.parametrize(("neurons", "actions"), [(8, 1), (64, 6), (256, 17)])
def test_signals_scroll_beside_the_robot(neurons: int, actions: int) -> None:
    recording = synthetic(neurons, actions, 100, simulated=True)
    first, *_, last = frames(recording, fps=5, **SIZE)
    assert first.shape == last.shape == (160, 400, 3)
    assert first.dtype == np.uint8
    signals = slice(330, 385), slice(20, 140)
    assert (first[signals[1], signals[0]] != last[signals[1], signals[0]]).mean() > 0.2


def test_signals_scroll_below_the_robot_in_a_film_as_wide_as_high() -> None:
    recording = synthetic(64, 6, 100, simulated=True)
    first, *_, last = frames(recording, fps=5, width=350, height=440, title="HalfCheetah-v5")
    assert first.shape == last.shape == (440, 350, 3)
    robot, signals = (slice(60, 170), slice(0, 350)), (slice(200, 400), slice(200, 345))
    assert last[robot].std() > 5  # not blank
    assert (first[signals] != last[signals]).mean() > 0.2
    assert (first[:44] < 128).any(axis=2).any(axis=1).sum() > 12  # two lines of letters


def test_without_a_simulation_signals_fill_the_film() -> None:
    recording = synthetic(8, 2, 60)
    assert recording.simulation is None
    (*_, last) = frames(recording, fps=5, **SIZE)
    assert last.shape == (160, 400, 3)
    colours = last[20:140, 150:370].reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 50


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.5])
def test_the_current_activity_is_at_the_line(seconds: float) -> None:
    """Neurons are inactive before one step, and fully active from it on."""
    recording = synthetic(8, 1, 100)
    step = int(np.searchsorted(recording.times, seconds))
    active = np.zeros_like(recording.activity)
    active[step:] = 1.0
    recording = replace(recording, activity=active, sensory=np.zeros_like(recording.sensory))
    strip = ActivityStrip(recording, 600, 300, recording.duration)
    row = 120  # in the middle of the layers
    dark = (strip.picture(0)[: 2 * row] < 60).all(axis=(0, 2))
    line, pace = np.flatnonzero(dark)[0], None
    for later in (0.0, 0.5):
        picture = strip.picture(recording.times[step] + later).astype(int)
        warm = np.flatnonzero(picture[row, :, 0] - picture[row, :, 2] > 60)
        warm = warm[warm > 150]  # at the right of the names
        pace = (line - warm[0]) / later if later else pace
        if not later:
            assert abs(warm[0] - line) <= 3  # pixels
    assert pace is not None
    assert 3.0 * pace == pytest.approx(600 - 120, rel=0.1)  # three seconds in sight


@pytest.mark.parametrize("fps", [5, 12.5, 20, 50])
def test_a_gif_keeps_frames_size_speed_and_order(fps: float) -> None:
    pictures = [np.full((32, 48, 3), 20 * index, np.uint8) for index in range(10)]
    with Image.open(BytesIO(to_gif(pictures, fps))) as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (10, (48, 32), 0)
        for index in range(10):
            gif.seek(index)
            assert gif.info["duration"] == 1000 / fps
            assert np.abs(np.asarray(gif.convert("RGB")) - 20.0 * index).max() <= 8


def test_a_gif_of_an_episode_is_small_and_similar_to_its_frames() -> None:
    film = list(frames(synthetic(64, 6, 70, simulated=True), fps=12.5, width=640, height=256))
    data = to_gif(film, 12.5)
    assert len(data) / len(film) < 20_000  # bytes a frame: 2 MB in eight seconds
    with Image.open(BytesIO(data)) as gif:
        assert gif.n_frames == len(film)
        for index in (0, len(film) // 2, len(film) - 1):
            gif.seek(index)
            error = np.abs(np.asarray(gif.convert("RGB")) - film[index].astype(float))
            assert error.mean() < 6


def test_a_gif_keeps_the_colours_with_a_meaning() -> None:
    """Even if they have only a few pixels among many other colours."""
    rare = np.array([[round(255 * part) for part in to_rgb(colour)] for colour in LANGUAGE])
    pictures = white_noise(4)
    for picture in pictures:
        picture[0, : len(rare)] = rare
    with Image.open(BytesIO(to_gif(pictures, 12.5))) as gif:
        shown = np.asarray(gif.convert("RGB")).astype(int)
    assert np.abs(shown[0, : len(rare)] - rare).max() <= 8


@pytest.mark.parametrize("fps", [24, 30, 7, 200])
def test_an_unsupported_gif_rate_raises(fps: float) -> None:
    with pytest.raises(ValueError, match=f"cannot show {fps} pictures per second; give 100"):
        to_gif(white_noise(2), fps)


def test_an_mp4_keeps_frames_size_and_speed(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    recording = synthetic(8, 2, 60, simulated=True)
    film = list(frames(recording, fps=25, **SIZE))
    to_mp4(film, path, 25)
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    pictures = [np.frombuffer(each, np.uint8).reshape(160, 400, 3) for each in reader]
    assert facts["size"] == (400, 160)
    assert facts["fps"] == 25
    assert facts["codec"] == "h264"
    assert facts["pix_fmt"].startswith("yuv420p")
    assert facts["duration"] == pytest.approx(recording.duration, abs=1 / 25)
    assert len(pictures) == len(film)
    for index in (0, len(film) // 2, len(film) - 1):
        assert np.abs(pictures[index] - film[index].astype(float)).mean() < 8


@pytest.mark.parametrize("name", ["12:30/film.mp4", "-x/film.mp4", "http:/film.mp4"])
def test_an_mp4_may_have_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    to_mp4(white_noise(3), Path(name), fps=10)
    assert Path(name).stat().st_size > 0


def test_an_mp4_that_cannot_be_written_raises_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with pytest.raises(OSError, match=re.escape(f"could not write {path}: ")) as caught:
        to_mp4(white_noise(2, 127, 127), path, 25)
    assert "not divisible by 2" in str(caught.value)


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace FFmpeg by a program that ends with an error after it has written a few bytes."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nfor last; do :; done\nprintf half > "$last"\n'
        "echo No space left on device >&2\nexit 228\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))


@pytest.mark.usefixtures("full_disk")
def test_frames_are_closed_on_an_error(tmp_path: Path) -> None:
    """A renderer that a garbage collection frees, in any thread, waits forever."""
    closed = []

    def rendered() -> Iterator[np.ndarray]:
        try:
            yield from white_noise(200)
        finally:
            closed.append(True)

    with pytest.raises(OSError, match="No space left on device"):
        to_mp4(rendered(), tmp_path / "film.mp4", 25)
    assert closed


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("before", [{}, {"film.mp4": b"an earlier film"}])
def test_a_full_disk_leaves_no_half_mp4(before: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, content in before.items():
        (folder / name).write_bytes(content)
    with pytest.raises(OSError, match="No space left on device"):
        to_mp4(white_noise(200), folder / "film.mp4", 25)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_an_mp4_takes_the_place_of_a_link_and_not_of_its_target(tmp_path: Path) -> None:
    path, target = tmp_path / "film.mp4", tmp_path / "target"
    target.write_bytes(b"not a film")
    path.symlink_to(target)
    to_mp4(white_noise(2), path, 25)
    assert target.read_bytes() == b"not a film"
    assert not path.is_symlink()


@pytest.mark.parametrize("found", ["/nowhere/ffmpeg", None])
def test_without_ffmpeg_the_error_gives_the_remedy(
    found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    if found is not None:
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", found)
    monkeypatch.setattr("imageio_ffmpeg._utils._get_ffmpeg_exe", lambda: None)
    with pytest.raises(OSError, match="FFmpeg is missing; install it, or set IMAGEIO_FFMPEG_EXE"):
        to_mp4(white_noise(2), tmp_path / "film.mp4", 25)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_frames_is_not_swallowed(tmp_path: Path) -> None:
    def broken() -> object:
        yield from white_noise(2)
        raise BufferError("no more")

    with pytest.raises(BufferError, match="no more"):
        to_mp4(broken(), tmp_path / "film.mp4", 25)


def test_no_frames_raise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        to_gif([], 10)
    with pytest.raises(ValueError, match="no frames"):
        to_mp4([], tmp_path / "film.mp4", 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 401}, "even sizes"),
        ({"height": 100}, "at least 320 x 160"),
        ({"fps": 0}, "fps must be positive, got 0"),
        ({"seconds": -1}, "seconds must be positive, got -1"),
    ],
)
def test_invalid_film_arguments_raise_immediately(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frames(synthetic(8, 1, 5), **wrong)


def test_the_caption_gives_rate_time_return_and_the_speed_of_a_robot_that_moves_freely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captions: list[list[str]] = []
    drawn = rendering._Caption.picture

    def picture(caption: rendering._Caption, facts: list[str]) -> np.ndarray:
        captions.append(facts)
        return drawn(caption, facts)

    monkeypatch.setattr(rendering._Caption, "picture", picture)
    recording = synthetic(8, 3, 40, simulated=True)
    simulation = recording.simulation
    assert simulation is not None
    list(frames(recording, fps=10, **SIZE))
    assert captions[0][1:] == ["0.00 s", "return 0"]
    data, places = mujoco.MjData(simulation.model), []
    for time in (0.0, 0.5):
        replay(simulation, recording.times, time, data)
        places.append(data.subtree_com[1, :2].copy())
    step = int(np.searchsorted(recording.times, 0.5, "right")) - 1
    rate, time, total, *speed = captions[5]
    assert rate == f"control {1 / np.diff(recording.times)[step]:.3g} Hz"
    assert time == "0.50 s"
    assert total == f"return {recording.rewards[:step].sum():,.4g}"
    assert speed == [f"{np.linalg.norm(places[1] - places[0]) / 0.5:.1f} m/s"]


@pytest.mark.parametrize(("height", "named"), [(160, False), (320, True)])
def test_actions_are_named_where_there_is_room(height: int, named: bool) -> None:
    recording = synthetic(8, 8, 10)
    tracks = list(activity_strip._tracks(recording, height, 2, 10))
    (actions,) = (each for each in tracks if each.name == "actions")
    assert actions.rows == (recording.action_names if named else ())
    lines = [text for text, _ in activity_strip._lines(actions, 10)]
    assert all(name in line for name, line in zip(actions.rows, lines, strict=False))
    assert any(actions.scale in line for line in lines)
