"""Callbacks write the documented tags to TensorBoard's event files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.nn.utils import parameters_to_vector

from liquid_control import LiquidPPO, LiquidRecurrentPolicy, LiquidSAC, envs
from liquid_control.agents.evaluation import TRAINED
from liquid_control.monitoring import (
    EpisodeCallback,
    HParamsCallback,
    RatesCallback,
    ScalarsCallback,
    circuit_of,
    film,
    leaves,
    record,
)
from liquid_control.monitoring.tensorboard.callbacks import CARD_RATE, MonitoringCallback
from liquid_control.monitoring.tensorboard.scalars import gradient_groups, monitoring_seconds
from liquid_control.monitoring.tensorboard.tensorboard_writer import TensorBoardWriter

TASK = "InvertedPendulum-v5"
OPTIONS: dict[str, Any] = {"observe": "positions", "interval": envs.Uniform(0.02, 0.08)}
SETTINGS = {"agent": {"gamma": 0.99, "normalize": True}, "wiring": {"kind": "auto_ncp"}, "no": None}
POLICY = {"wiring": {"kind": "auto_ncp", "neurons": 12}, "neurons": "ctrnn", "encoder": [4]}
FILM_SECONDS = 0.4
RATES = {TRAINED: OPTIONS["interval"], "2x": 0.08}


def robots(count: int = 2, interval: Any = OPTIONS["interval"]) -> Any:
    options = {**OPTIONS, "interval": interval, "max_episode_steps": 40}
    return envs.make_vec(TASK, count, seed=0, threads=1, **options)


def ppo(**options: Any) -> BaseAlgorithm:
    rollout = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}
    return LiquidPPO("LiquidPolicy", robots(), policy_kwargs=POLICY, **rollout, **options)


def sac(**options: Any) -> BaseAlgorithm:
    replay = {"learning_starts": 30, "batch_size": 16, "sequence_length": 4, "burn_in": 2}
    return LiquidSAC("LiquidPolicy", robots(), policy_kwargs=POLICY, **replay, **options)


def recurrent_ppo(**options: Any) -> BaseAlgorithm:
    rollout = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}
    return RecurrentPPO(LiquidRecurrentPolicy, robots(), policy_kwargs=POLICY, **rollout, **options)


AGENTS = {"ppo": ppo, "sac": sac, "recurrent ppo": recurrent_ppo}
Maker = Callable[..., BaseAlgorithm]


def watchers(folder: Path, episodes: int, rates: int) -> list[BaseCallback]:
    """All callbacks; episodes and evaluations once in so many steps."""
    robot = envs.make(TASK, **OPTIONS)
    return [
        HParamsCallback(leaves(SETTINGS), ["rollout/ep_rew_mean", "evaluation/2x"]),
        ScalarsCallback(every=32),
        EpisodeCallback(robot, episodes, folder=folder, film_seconds=FILM_SECONDS, seed=3),
        RatesCallback(lambda interval: robots(2, interval), RATES, rates, task=TASK, at_end=False),
    ]


class Noted(MonitoringCallback):
    """Notes when it is called."""

    subject = "noting"

    def __init__(self, every: int, *, at_end: bool = True) -> None:
        super().__init__(every, at_end=at_end)
        self.steps: list[int] = []

    def monitor(self, _: TensorBoardWriter | None, step: int) -> None:
        self.steps.append(step)


@pytest.mark.parametrize("agent", AGENTS)
def test_monitoring_is_due_at_the_first_rollouts_end_after_each_interval(agent: str) -> None:
    """Rollouts of PPO end every 32 steps, SAC's every 2; training ends at 128, SAC's at 112."""
    callbacks = [Noted(48), Noted(48, at_end=False)]
    AGENTS[agent](seed=0).learn(112, callbacks)
    due, last = ([48, 96], 112) if agent == "sac" else ([64, 96], 128)
    assert [callback.steps for callback in callbacks] == [[*due, last], due]


class Watched(NamedTuple):
    """A training of 64 steps with all callbacks, and its event files.

    Drawing takes its time: the agent is evaluated after 32 steps, and its episode shown at the end.
    """

    model: BaseAlgorithm
    events: EventAccumulator
    videos: Path


@pytest.fixture(
    scope="module",
    params=[
        name if name == "ppo" else pytest.param(name, marks=pytest.mark.slow) for name in AGENTS
    ],
)
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("run")
    model = AGENTS[request.param](seed=0)
    model.set_logger(configure(str(folder), ["tensorboard"]))
    model.learn(64, watchers(folder / "videos", episodes=1000, rates=32), log_interval=1)
    model.logger.close()
    everything = {"images": 0, "histograms": 0, "tensors": 0, "scalars": 0}
    return Watched(model, EventAccumulator(str(folder), everything).Reload(), folder / "videos")


def steps(events: list[Any]) -> list[int]:
    return [event.step for event in events]


def test_an_episode_is_shown_in_pictures_numbers_and_a_film(watched: Watched) -> None:
    for tag in ("episode/film", "episode/activity", "circuit/graph", "circuit/listening"):
        assert steps(watched.events.Images(tag)) == [64]
    assert steps(watched.events.Images("evaluation/return_against_rate")) == [32]
    for tag in (
        "episode/return",
        "episode/mean_weighted_frequency_hz",
        "episode/action_fluctuation",
        "circuit/saturated_share",
    ):
        (event,) = watched.events.Scalars(tag)
        assert event.step == 64
        assert np.isfinite(event.value)
    assert [path.name for path in watched.videos.iterdir()] == ["64.mp4"]


def test_the_film_moves_and_lasts_as_long_as_it_should(watched: Watched) -> None:
    (*_, event) = watched.events.Images("episode/film")
    seconds = min(FILM_SECONDS, record(watched.model, envs.make(TASK, **OPTIONS), seed=3).duration)
    gif = Image.open(BytesIO(event.encoded_image_string))
    assert gif.format == "GIF"
    assert (gif.width, gif.height) == (event.width, event.height) == (350, 480)
    assert gif.n_frames == round(seconds * CARD_RATE)  # type: ignore[attr-defined]
    pictures = imageio.imread(event.encoded_image_string, index=None)
    assert all((one != other).any() for one, other in pairwise(pictures))
    path = watched.videos / f"{event.step}.mp4"
    properties = imageio.immeta(path, plugin="FFMPEG")
    assert properties["duration"] == pytest.approx(seconds, abs=1 / film.FILM_RATE)


def test_no_picture_is_blank(watched: Watched) -> None:
    pictures = [tag for tag in watched.events.Tags()["images"] if tag != "episode/film"]
    assert len(pictures) == 5
    for tag in pictures:
        for event in watched.events.Images(tag):
            picture = imageio.imread(event.encoded_image_string)
            assert picture.shape[:2] == (event.height, event.width)
            assert picture.std() > 5


def test_time_constants_are_logged_in_seconds_by_layer(watched: Watched) -> None:
    circuit = circuit_of(watched.model)
    for layer, neurons in circuit.wiring.layer_slices.items():
        (*_, event) = watched.events.Histograms(f"time_constants/{layer}")
        taus = circuit.time_constants[neurons]  # type: ignore[index]
        assert event.histogram_value.min == pytest.approx(taus.min().item(), rel=1e-3)
        assert event.histogram_value.max == pytest.approx(taus.max().item(), rel=1e-3)


def test_settings_and_metrics_are_found_by_the_hparams_tab(watched: Watched) -> None:
    written = watched.events.SummaryMetadata
    parse = plugin_data_pb2.HParamsPluginData.FromString
    start = parse(written("_hparams_/session_start_info").plugin_data.content)
    values = {
        name: value.string_value if value.HasField("string_value") else value.number_value
        for name, value in start.session_start_info.hparams.items()
    }
    assert values == leaves(SETTINGS)
    metrics = parse(written("_hparams_/experiment").plugin_data.content).experiment.metric_infos
    tags = {metric.name.tag for metric in metrics}
    assert tags == {"rollout/ep_rew_mean", "evaluation/2x"}
    assert tags <= set(watched.events.Tags()["scalars"])


def test_speeds_add_up_and_gradients_have_layers(watched: Watched) -> None:
    (*_, physics), (*_, policy), (*_, learning), (*_, everything) = (
        watched.events.Scalars(f"speed/{part}") for part in ("physics", "policy", "learning", "all")
    )
    seconds = 1 / physics.value + 1 / policy.value + 1 / learning.value
    assert seconds == pytest.approx(1 / everything.value, rel=1e-4)
    (*_, share) = watched.events.Scalars("speed/watching_share")
    assert 0 < share.value < 1
    layers = circuit_of(watched.model).wiring.layer_slices
    for part in (*layers, "encoder", "critic", "head"):
        assert watched.events.Scalars(f"gradient_norm/{part}")[0].value > 0


@pytest.mark.parametrize("make", AGENTS.values(), ids=AGENTS)
def test_gradient_groups_share_out_what_is_trained(make: Maker) -> None:
    model = make(seed=0)
    groups = gradient_groups(model.policy, circuit_of(model)).values()
    counted = sum(
        weight.numel() if chosen is None else weight[..., chosen].numel()
        for entries in groups
        for weight, chosen in entries
        if weight.requires_grad
    )
    trained = [each for each in model.policy.parameters() if each.requires_grad]
    assert counted == sum(each.numel() for each in trained)


@pytest.mark.parametrize("make", [ppo, sac], ids=["ppo", "sac"])
def test_monitoring_does_not_change_the_training(make: Maker, tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], watchers(tmp_path, episodes=48, rates=48)):
        model = make(seed=1)
        model.set_logger(configure(None, []))
        weights.append(parameters_to_vector(model.learn(96, callbacks).policy.parameters()))
    assert weights[0].equal(weights[1])
    films = {path.name for path in tmp_path.iterdir()}
    assert films == ({"48.mp4", "96.mp4"} if make is sac else {"64.mp4", "96.mp4"})


def test_the_environment_is_restored_after_training() -> None:
    model = ppo(seed=0)
    model.learn(32, ScalarsCallback())
    assert model.env is not None
    assert "step_wait" not in vars(model.env)


def test_a_full_disk_warns_and_training_continues(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(film, "to_mp4", full)
    model = ppo(seed=0)
    callback = EpisodeCallback(
        envs.make(TASK, **OPTIONS), 32, folder=tmp_path, film_seconds=FILM_SECONDS
    )
    with pytest.warns(UserWarning, match="training continues: .*No space left on device"):
        model.learn(64, callback)
    assert model.num_timesteps == 64
    assert monitoring_seconds(model) > 0


def test_brief_recordings_show_a_film_and_a_return_before_the_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[int] = []
    monkeypatch.setattr(EpisodeCallback, "_show", lambda *each: whole.append(each[-1]))
    model = ppo(seed=0, tensorboard_log=str(tmp_path))
    robot = envs.make(TASK, **OPTIONS)
    model.learn(96, EpisodeCallback(robot, 32, seed=3, brief=True, film_seconds=1.0))
    (folder,) = tmp_path.iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert whole == [96]
    assert steps(events.Scalars("episode/return_of_2_s")) == [32, 64]
    films = events.Images("episode/film")
    assert steps(films) == [32, 64, 96]
    with Image.open(BytesIO(films[0].encoded_image_string)) as gif:
        assert gif.n_frames > 1  # type: ignore[attr-defined]


def test_an_episode_without_an_end_is_recorded_for_the_seconds_of_its_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasted: list[float] = []

    def record(*arguments: Any, **options: Any) -> Any:
        recording = recorded(*arguments, **options)
        lasted.append(recording.duration)
        return recording

    module = sys.modules[EpisodeCallback.__module__]
    recorded = module.record
    monkeypatch.setattr(module, "record", record)
    endless = {"observe": "positions", "max_episode_steps": -1}
    env = envs.make_vec("HalfCheetah-v5", 2, seed=0, **endless)
    policy = {"wiring": {"kind": "auto_ncp", "neurons": 10}}
    model = LiquidPPO("LiquidPolicy", env, n_steps=16, policy_kwargs=policy, seed=0)
    robot = envs.make("HalfCheetah-v5", **endless)
    model.learn(32, EpisodeCallback(robot, folder=tmp_path, film_seconds=0.2))
    assert lasted == [pytest.approx(0.2)]


def test_without_tensorboard_films_go_to_the_folder_alone(tmp_path: Path) -> None:
    robot = envs.make(TASK, **OPTIONS)
    ppo(seed=0).learn(32, EpisodeCallback(robot, folder=tmp_path, film_seconds=FILM_SECONDS))
    assert [path.name for path in tmp_path.iterdir()] == ["32.mp4"]
    with pytest.raises(ValueError, match="EpisodeCallback has no output: give the model"):
        ppo(seed=0).learn(32, EpisodeCallback(robot))


def test_a_policy_without_a_circuit_raises() -> None:
    model = PPO("MultiInputPolicy", robots(), n_steps=16, batch_size=16)
    for callback in (ScalarsCallback(), EpisodeCallback(envs.make(TASK, **OPTIONS), folder="x")):
        with pytest.raises(TypeError, match="does not act by a circuit of neurons"):
            model.learn(32, callback)
    with pytest.raises(ValueError, match="every must be at least one control step, got 0"):
        EpisodeCallback(envs.make(TASK, **OPTIONS), 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": "x"}, TypeError, "every must be a number of control steps, got 'x'"),
        ({"every": float("nan")}, ValueError, "every must be at least one control step, got nan"),
        ({"film_seconds": "x"}, TypeError, "film_seconds must be a number of seconds, got 'x'"),
        ({"film_seconds": -1}, ValueError, "film_seconds must be positive, got -1"),
        ({"seed": 1.5}, ValueError, r"seed must be an integer of at least 0, or None, got 1\.5"),
        ({"env": None}, TypeError, "env must be an environment of Gymnasium, got None"),
    ],
)
def test_arguments_are_refused_before_the_training(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EpisodeCallback(**{"env": envs.make(TASK, **OPTIONS), **arguments})


def test_an_environment_of_another_training_is_refused_at_the_start(tmp_path: Path) -> None:
    other = envs.make(TASK, observe="full")
    model = ppo(seed=0)
    with pytest.raises(ValueError, match="the observation_space of the environment is"):
        model.learn(32, EpisodeCallback(other, folder=tmp_path))
    assert model.num_timesteps == 0


def test_rates_are_names_of_arguments() -> None:
    with pytest.raises(TypeError, match="rates must map names to arguments of make_env, got"):
        RatesCallback(robots, [0.04])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="make_env must be a function of a rate, got"):
        RatesCallback(robots(), RATES)  # type: ignore[arg-type]


def test_leaves_keep_numbers_and_name_the_rest() -> None:
    assert leaves({"a": {"b": [1, 2], "c": 1e-3}, "d": True, "e": None}) == {
        "a.b": "[1, 2]",
        "a.c": 1e-3,
        "d": True,
        "e": "null",
    }
