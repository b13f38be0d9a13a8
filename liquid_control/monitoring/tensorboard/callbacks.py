"""SB3 callbacks that log episodes, neurons and evaluations to TensorBoard."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Generic

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, Logger
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents.evaluation import TRAINED, Evaluation, Rate, evaluate_rates
from liquid_control.checkpoints.checkpoint_callback import check_every
from liquid_control.monitoring import figures, film
from liquid_control.monitoring.analysis import listening, saturated_share, smoothness
from liquid_control.monitoring.figures import CARD
from liquid_control.monitoring.film import FILM_RATE
from liquid_control.monitoring.recording import (
    Recording,
    check_seconds,
    check_spaces,
    circuit_of,
    may_be_endless,
    record,
)
from liquid_control.monitoring.tensorboard.scalars import measure_cost
from liquid_control.monitoring.tensorboard.tensorboard_writer import TensorBoardWriter

BRIEF_SECONDS, BRIEF_RATE = 2.0, 5.0  # simulated time and pictures per second, of brief recordings
# Pixels and pictures per second of a GIF, which a card of TensorBoard shows unscaled.
CARD_SIZE, CARD_RATE = (350, 480), 10.0


class MonitoringCallback(BaseCallback):
    """Monitors the agent at the end of a rollout, once every `every` control steps.

    Monitoring does not change the training: it uses none of its random generators. A full disk or a
    missing display causes a warning, and the training continues.

    Args:
        every: Control steps, over all environments, between two calls of `monitor`.
        at_end: Call `monitor` also when the training ends.
    """

    subject: str  # what is monitored, for warnings

    def __init__(self, every: int, *, at_end: bool = True) -> None:
        super().__init__()
        check_every(every)
        self.every, self.at_end = every, at_end

    @abstractmethod
    def monitor(self, writer: TensorBoardWriter | None, step: int) -> None:
        """Log the agent after `step` control steps."""

    def _on_training_start(self) -> None:
        circuit_of(self.model)
        self._last = self.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        due = self.num_timesteps // self.every > self._last // self.every
        if due and self.num_timesteps < self.model._total_timesteps:
            self._monitor()

    def _on_training_end(self) -> None:
        if self.at_end and self.num_timesteps > self._last:
            self._monitor()

    def _monitor(self) -> None:
        self._last = self.num_timesteps
        writer = TensorBoardWriter.of(self.logger)
        with measure_cost(self.model, self.subject):
            self.monitor(writer, self.num_timesteps)
            if writer is not None:
                writer.flush()


class EpisodeCallback(MonitoringCallback):
    """Records an episode: a film of the robot and its neurons, and figures of the circuit.

    In TensorBoard: images `episode/film` (an animated GIF), `episode/activity`, `circuit/graph`,
    `circuit/time_constants`, `circuit/listening`; histograms `time_constants/<layer>`, of
    each neuron's median in seconds; scalars `episode/return`, `episode/action_fluctuation`,
    `episode/mean_weighted_frequency_hz`, `circuit/saturated_share`. In the folder: MP4s.

    Args:
        env: One environment, as `liquid_control.envs.make` builds it, for the recording.
        every: Control steps, over all environments, between two episodes.
        folder: Folder for films; None writes no MP4.
        film_seconds: Duration of film and figure, in simulated seconds; of the episode, too, if
            `liquid_control.envs` built the environment without a limit.
        seed: Seed of the episodes, which then have the same initial state.
        brief: Before the end of the training, record only two seconds, and log only a film of them
            and their return, as `episode/return_of_2_s`. Four of these recordings cost less than
            the whole one at the end.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is out of bounds. `learn` raises it at the start if the environment is
            not that of the training, or if there is nothing to write to.
    """

    subject = "recording of the robot"

    def __init__(
        self,
        env: gym.Env[Any, Any],
        every: int = 1_000_000,
        *,
        folder: Path | str | None = None,
        film_seconds: float = 4.0,
        seed: int | None = None,
        brief: bool = False,
    ) -> None:
        super().__init__(every)
        if not isinstance(env, gym.Env):
            raise TypeError(f"env must be an environment of Gymnasium, got {env!r}")
        check_seconds("film_seconds", film_seconds)
        if seed is not None and not (isinstance(seed, Integral) and seed >= 0):
            raise ValueError(f"seed must be an integer of at least 0, or None, got {seed!r}")
        self.brief = brief
        self.env, self.seed, self.film_seconds = env, seed, film_seconds
        self.folder = None if folder is None else Path(folder)
        title = "" if env.spec is None else env.spec.id
        self._options: dict[str, Any] = {"seconds": film_seconds, "title": title}

    def _on_training_start(self) -> None:
        super()._on_training_start()
        check_spaces(self.model, self.env)
        if self.folder is None and TensorBoardWriter.of(self.logger) is None:
            raise ValueError(
                "EpisodeCallback has no output: give the model a tensorboard_log, or the callback "
                "a folder"
            )

    def monitor(self, writer: TensorBoardWriter | None, step: int) -> None:
        """Record an episode, and write its figures, scalars and film."""
        if self.brief and step < self.model._total_timesteps:
            if writer is not None:
                self._write_brief(writer, step)
            return
        most = self.film_seconds if may_be_endless(self.env) else None
        recording = record(self.model, self.env, seed=self.seed, seconds=most)
        if writer is not None:
            self._show(recording, writer, step)
        if writer is not None:
            self._film(recording, writer, step, CARD_RATE)
        if self.folder is not None:
            pictures = film.frames(recording, fps=FILM_RATE, **self._options)
            film.to_mp4(pictures, self.folder / f"{step}.mp4", FILM_RATE)

    def _write_brief(self, writer: TensorBoardWriter, step: int) -> None:
        """Write a film of the first seconds of an episode, and their return."""
        recording = record(self.model, self.env, seed=self.seed, seconds=BRIEF_SECONDS)
        writer.scalar("episode/return_of_2_s", recording.total_reward, step)
        self._film(recording, writer, step, BRIEF_RATE)

    def _show(self, recording: Recording, writer: TensorBoardWriter, step: int) -> None:
        circuit = circuit_of(self.model)
        wiring, moves = recording.wiring, smoothness(recording)
        with torch.no_grad():
            low, high = circuit.activity_range()
            sensory, recurrent = (each.cpu().numpy() for each in circuit.synapse_strengths())
        for tag, value in (
            ("episode/return", recording.total_reward),
            ("episode/mean_weighted_frequency_hz", moves.mean_weighted_frequency),
            ("episode/action_fluctuation", moves.fluctuation),
            ("circuit/saturated_share", saturated_share(recording, low, high)),
        ):
            writer.scalar(tag, value, step)
        span = (0.0, min(self.film_seconds, recording.duration))
        writer.figure("episode/activity", figures.raster(recording, span=span, layout=CARD), step)
        mean = recording.sensory.mean(axis=0), recording.activity.mean(axis=0)
        graph = figures.circuit_graph(wiring, sensory, recurrent, mean, layout=CARD)
        writer.figure("circuit/graph", graph, step)
        correlations = figures.listening_map(listening(recording), wiring, layout=CARD)
        writer.figure("circuit/listening", correlations, step)
        if recording.time_constants is not None:
            layers = {
                layer: recording.time_constants[:, neurons].ravel()
                for layer, neurons in wiring.layer_slices.items()
            }
            constants = figures.time_constants(layers, layout=CARD)
            writer.figure("circuit/time_constants", constants, step)
            typical = np.median(recording.time_constants, axis=0)
            for layer, neurons in wiring.layer_slices.items():
                writer.histogram(f"time_constants/{layer}", typical[neurons], step)

    def _film(
        self, recording: Recording, writer: TensorBoardWriter, step: int, rate: float
    ) -> None:
        """Write a film as an animated GIF of the size of a card."""
        width, height = CARD_SIZE
        pictures = film.frames(recording, fps=rate, width=width, height=height, **self._options)
        writer.image("episode/film", film.to_gif(pictures, rate), step)


class RatesCallback(MonitoringCallback, Generic[Rate]):
    """Evaluates the agent at several control rates and plots the return against the rate.

    In TensorBoard: image `evaluation/return_against_rate`, scalars `evaluation/<name>`.

    Args:
        make_env: Builds the environments of one rate; each runs one episode.
        rates: The argument of `make_env` for each rate, by name; "as trained" is the name of the
            training's intervals, which are plotted across all rates.
        every: Control steps, over all environments, between two evaluations.
        task: Part of the title.
        at_end: Evaluate also when the training ends.
    """

    subject = "evaluation"

    def __init__(
        self,
        make_env: Callable[[Rate], VecEnv],
        rates: Mapping[str, Rate],
        every: int = 1_000_000,
        *,
        task: str = "",
        at_end: bool = True,
    ) -> None:
        super().__init__(every, at_end=at_end)
        if not callable(make_env):
            raise TypeError(f"make_env must be a function of a rate, got {make_env!r}")
        if not isinstance(rates, Mapping):
            raise TypeError(f"rates must map names to arguments of make_env, got {rates!r}")
        self.make_env, self.rates, self.task = make_env, rates, task

    def monitor(self, writer: TensorBoardWriter | None, step: int) -> None:
        """Evaluate the agent and log the results."""
        evaluations = evaluate_rates(self.model, self.make_env, self.rates)
        log_evaluations(self.logger, evaluations, self.task, step)


class HParamsCallback(BaseCallback):
    """Logs settings for TensorBoard's HParams tab, which compares runs.

    Args:
        settings: Flat settings, such as `leaves` returns.
        metrics: Tags of the scalars to compare.
    """

    def __init__(self, settings: Mapping[str, bool | str | float], metrics: Sequence[str]) -> None:
        super().__init__()
        self.settings, self.metrics = settings, metrics

    def _on_training_start(self) -> None:
        written = HParam(dict(self.settings), dict.fromkeys(self.metrics, 0.0))
        self.logger.record("hparams", written, exclude=("stdout", "log", "json", "csv"))

    def _on_step(self) -> bool:
        return True


def leaves(settings: Mapping[str, Any], path: str = "") -> dict[str, bool | str | float]:
    """Flatten nested settings to dotted paths; lists become text, None becomes "null"."""
    flat: dict[str, bool | str | float] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= leaves(value, f"{path}{key}.")
        else:
            flat[path + key] = value if isinstance(value, (bool, str, int, float)) else _text(value)
    return flat


def evaluation_tag(name: str) -> str:
    """Return the tag of the mean return of an evaluation."""
    return f"evaluation/{name.replace(' ', '_')}"


def log_evaluations(
    logger: Logger, evaluations: Mapping[str, Evaluation], task: str, step: int
) -> None:
    """Log evaluations at several control rates to TensorBoard: mean returns and a plot.

    Args:
        logger: The logger of the training.
        evaluations: By name; "as trained" is the one at the training's intervals.
        task: Part of the title.
        step: Control steps of the training.
    """
    writer = TensorBoardWriter.of(logger)
    if writer is None:
        return
    for name, each in evaluations.items():
        writer.scalar(evaluation_tag(name), each.mean, step)
    fixed = dict(evaluations)
    trained = fixed.pop(TRAINED, None)
    plot = figures.rates(fixed, task, trained, layout=CARD)
    writer.figure("evaluation/return_against_rate", plot, step)
    writer.flush()


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
