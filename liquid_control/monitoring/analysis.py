"""Analyses of recordings: neurons' correlations and lesions, and smoothness of actions."""

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

NEAR = 0.05  # share of a neuron's range within which it counts as saturated


@dataclass(frozen=True)
class Listening:
    """Correlations of each neuron with observations and actions.

    Attributes:
        observations: (neurons, features), from -1 to 1; 0 for constant features.
        actions: (neurons, actions), likewise.
        observation_names: Names of the features.
        action_names: Names of the entries of an action.
        neuron_names: Names of the neurons.
    """

    observations: Array
    actions: Array
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    neuron_names: tuple[str, ...]


def listening(recording: Recording) -> Listening:
    """Correlate the activity of each neuron with each observation and each action.

    It is Pearson's correlation over an episode, with each step weighted by its duration. A
    correlation does not imply a synapse.
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
    """Returns with all neurons and without each of them, in episodes with the same initial states.

    Attributes:
        intact: (episodes,).
        lesioned: (neurons, episodes), with one neuron held at rest in each row.
    """

    intact: Array
    lesioned: Array

    @property
    def scores(self) -> Array:
        """The mean loss of return without each neuron, (neurons,)."""
        scores: Array = self.intact.mean() - self.lesioned.mean(axis=1)
        return scores


def lesions(
    model: BaseAlgorithm,
    env: VecEnv,
    *,
    seed: int,
    on_neuron: Callable[[int], None] | None = None,
) -> Lesions:
    """Evaluate an agent intact, and again with each neuron of its actor held at rest.

    The weights are restored bit for bit afterwards.

    Args:
        model: An SB3 algorithm whose policy acts by a circuit.
        env: Environments as for `evaluate`, normalised as in training; one episode for each.
        seed: Seed of the episodes, the same for each neuron.
        on_neuron: Called after each neuron with the number of finished neurons.

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
    """Measures of how smooth an agent's actions are.

    Attributes:
        mean_weighted_frequency: In Hz.
        fluctuation: In units of the action, per control step.
    """

    mean_weighted_frequency: float
    fluctuation: float


def smoothness(recording: Recording) -> Smoothness:
    """Measure the mean frequency of actions, and their change from step to step.

    The mean weighted frequency follows the measure Sm of CAPS (Mysore et al. 2021), averaged over
    the entries of an action that vary; 0 if none does. It differs in two ways. It is normalised by
    the whole spectrum instead of the sampling rate, so that it does not depend on the control rate
    or the amplitude. And it weights frequencies by power instead of amplitude: uneven intervals
    cause weak noise across the spectrum, whose amplitudes would sum to more in longer episodes.

    The fluctuation is the mean Euclidean distance between consecutive actions (Song et al. 2023,
    "LipsNet").
    """
    actions = recording.actions.astype(np.float64)
    frequencies = _mean_frequencies(recording.times, actions)
    jumps = np.linalg.norm(np.diff(actions, axis=0), axis=1)
    return Smoothness(
        mean_weighted_frequency=float(frequencies.mean()) if len(frequencies) else 0.0,
        fluctuation=float(jumps.mean()) if len(jumps) else 0.0,
    )


def saturated_share(recording: Recording, low: Tensor, high: Tensor) -> float:
    """Return the share of neurons that are near a bound for more than half of an episode.

    Near means within 5 % of the neuron's range. A neuron without bounds is never near one.

    Args:
        recording: The episode.
        low: (neurons,), the lowest possible activity of each neuron.
        high: (neurons,), the highest; see `Circuit.activity_range`.
    """
    lowest, highest = low.detach().cpu().numpy(), high.detach().cpu().numpy()
    width = highest - lowest
    margin = NEAR * np.where(np.isfinite(width), width, 0.0)
    near = (recording.activity <= lowest + margin) | (recording.activity >= highest - margin)
    time_near = np.diff(recording.times) @ near
    return float(np.mean(time_near > recording.duration / 2))


def _standardized(signals: NDArray[Any], weights: Array) -> Array:
    """Return signals (T, K) with weighted mean 0 and norm 1; constant signals have norm 0."""
    centred = signals - weights @ signals.astype(np.float64)
    deviation = np.sqrt(weights @ centred**2)
    varies = np.ptp(signals, axis=0) > 0  # constant signals may have a deviation by rounding
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    scaled: Array = np.sqrt(weights)[:, None] * centred * scale
    return scaled


def _mean_frequencies(times: Array, actions: Array) -> Array:
    """Return the mean frequency in Hz of each entry of the actions (T, K) that varies."""
    count = len(actions)
    interval = times[-1] / count
    # Interpolate actions linearly at even times, and apply a Hann window.
    moments = interval * np.arange(count)
    even = np.stack([np.interp(moments, times[:-1], channel) for channel in actions.T])
    moving = even[np.ptp(even, axis=1) > 0]
    window = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
    centred = moving - (moving @ window / window.sum())[:, None]
    power = np.abs(np.fft.rfft(window * centred)) ** 2
    mean: Array = power @ np.fft.rfftfreq(count, interval) / power.sum(axis=1)
    return mean
