"""What a recording tells: whom neurons listen to, which of them count, how smooth actions are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from liquid_control.agents.evaluation import evaluate
from liquid_control.monitoring.recording import Recording, circuit_of
from liquid_control.neurons.lesion import at_rest

Array = NDArray[np.float64]

NEAR = 0.05  # of a neuron's range: so close to a bound it is saturated


@dataclass(frozen=True)
class Listening:
    """How each neuron moves together with what the robot observes and does.

    Attributes:
        observations: (neurons, features), correlations from -1 to 1; 0 with what does not vary.
        actions: (neurons, actions), the same.
        observation_names: a name for each feature.
        action_names: a name for each number of an action.
        neuron_names: a name for each neuron.
    """

    observations: Array
    actions: Array
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    neuron_names: tuple[str, ...]


def listening(recording: Recording) -> Listening:
    """Correlate the activity of each neuron with each observation and each action.

    It is Pearson's correlation over an episode, in which a step counts for as long as it lasted.
    What moves together need not be connected: a correlation is no proof of a synapse.
    """
    weights = np.diff(recording.times) / recording.duration
    activity = _standardized(recording.activity, weights)

    def correlated(signals: NDArray[Any]) -> Array:
        return (activity.T @ _standardized(signals, weights)).clip(-1, 1)

    return Listening(
        observations=correlated(recording.observations),
        actions=correlated(recording.actions),
        observation_names=recording.observation_names,
        action_names=recording.action_names,
        neuron_names=recording.wiring.neuron_names,
    )


@dataclass(frozen=True)
class Lesions:
    """Returns with all neurons, and without each of them, in episodes that start alike.

    Attributes:
        intact: (episodes,).
        lesioned: (neurons, episodes); in each row one neuron was held at rest.
    """

    intact: Array
    lesioned: Array

    @property
    def scores(self) -> Array:
        """The mean return that is lost without each neuron, (neurons,)."""
        scores: Array = self.intact.mean() - self.lesioned.mean(axis=1)
        return scores


def lesions(
    model: BaseAlgorithm,
    env: VecEnv,
    *,
    seed: int,
    on_neuron: Callable[[int], None] | None = None,
) -> Lesions:
    """Evaluate an agent as it is, and again with each neuron of its actor held at rest.

    The weights are afterwards as they were, bit for bit.

    Args:
        model: An SB3 algorithm whose policy acts by a circuit.
        env: As `evaluate` takes it, normalised as in the training; its number of environments is
            the number of episodes.
        seed: Of the episodes, which are the same for each neuron up to what the robot does in them.
        on_neuron: Called after each neuron with the number of neurons that are done.

    Raises:
        TypeError: If the policy has no circuit.
        ValueError: As in `evaluate`.
    """
    circuit = circuit_of(model)

    def returns() -> Array:
        env.seed(seed)
        return evaluate(model, env).returns

    intact = returns()
    lesioned = []
    for neuron in range(circuit.wiring.neuron_count):
        with at_rest(circuit, neuron):
            lesioned.append(returns())
        if on_neuron is not None:
            on_neuron(neuron + 1)
    return Lesions(intact, np.stack(lesioned))


@dataclass(frozen=True)
class Smoothness:
    """How restless an agent's actions are.

    Attributes:
        mean_weighted_frequency: in Hz.
        fluctuation: in units of the action, per control step.
    """

    mean_weighted_frequency: float
    fluctuation: float


def smoothness(recording: Recording) -> Smoothness:
    """Measure at what frequency actions swing, and how far they jump from step to step.

    The mean weighted frequency is after the measure Sm of CAPS (Mysore et al. 2021), averaged over
    the numbers of an action that move; 0 if none does. It differs in two ways. Divided by the whole
    spectrum rather than by the sampling rate, it is a frequency, whatever the control rate and
    however far the action swings. And a frequency counts by its power, not by its amplitude: the
    traces of uneven intervals are weak but everywhere in the spectrum, where amplitudes would add
    up to more the longer the episode.

    The fluctuation is the mean distance between one action and the next (Song et al. 2023,
    "LipsNet"), with the Euclidean norm.
    """
    actions = recording.actions.astype(np.float64)
    frequencies = _mean_frequencies(recording.times, actions)
    jumps = np.linalg.norm(np.diff(actions, axis=0), axis=1)
    return Smoothness(
        mean_weighted_frequency=float(frequencies.mean()) if len(frequencies) else 0.0,
        fluctuation=float(jumps.mean()) if len(jumps) else 0.0,
    )


def saturated_share(recording: Recording, low: Tensor, high: Tensor) -> float:
    """The share of neurons that are near a bound for more than half of an episode.

    Near is within 5 % of the neuron's range. A neuron without a bound is never near it.

    Args:
        recording: The episode.
        low: (neurons,), the lowest activity of each neuron.
        high: (neurons,), the highest, see `Circuit.activity_range`.
    """
    lowest, highest = low.detach().cpu().numpy(), high.detach().cpu().numpy()
    span = highest - lowest
    margin = NEAR * np.where(np.isfinite(span), span, 0.0)
    near = (recording.activity <= lowest + margin) | (recording.activity >= highest - margin)
    time_near = np.diff(recording.times) @ near
    return float(np.mean(time_near > recording.duration / 2))


def _standardized(signals: NDArray[Any], weights: Array) -> Array:
    """Signals (T, K) of weighted mean 0 and norm 1, those that do not vary of norm 0."""
    centred = signals - weights @ signals.astype(np.float64)
    deviation = np.sqrt(weights @ centred**2)
    varies = np.ptp(signals, axis=0) > 0  # rounding leaves a deviation where nothing varies
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    scaled: Array = np.sqrt(weights)[:, None] * centred * scale
    return scaled


def _mean_frequencies(times: Array, actions: Array) -> Array:
    """The mean frequency in Hz of each number of the actions (T, K) that moves."""
    count = len(actions)
    interval = times[-1] / count
    # Straight lines from action to action, read at even moments and faded in and out (Hann).
    moments = interval * np.arange(count)
    even = np.stack([np.interp(moments, times[:-1], channel) for channel in actions.T])
    moving = even[np.ptp(even, axis=1) > 0]
    window = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
    centred = moving - (moving @ window / window.sum())[:, None]
    power = np.abs(np.fft.rfft(window * centred)) ** 2
    mean: Array = power @ np.fft.rfftfreq(count, interval) / power.sum(axis=1)
    return mean
