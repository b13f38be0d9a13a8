"""LiquidExtractor: a circuit of liquid neurons as the features extractor of any SB3 policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from liquid_control.neurons import Circuit
from liquid_control.policies.networks import CircuitSpec, EncodedCircuit, Signal
from liquid_control.policies.observations import (
    ELAPSED_TIME,
    PRIVILEGED,
    check_elapsed_time,
    feature_count,
)
from liquid_control.policies.options import DEFAULT_WIRING, CircuitOptions
from liquid_control.policies.second_order import differentiable_twice

EPISODE_START = "episode_start"
DEFAULT_MOTOR = 16


class LiquidExtractor(BaseFeaturesExtractor):
    """Runs a circuit over a window of observations and returns the activity of its motor neurons.

    Windows come from `envs.VecWindow`. The circuit's state is zero at the start of the window and
    where `episode_start` is set, so while an episode fits in the window, the features equal those
    of the same circuit stepped through the episode. All arguments but the space are JSON-able.

    Args:
        observation_space: of windows: a Dict with `episode_start` and optionally `elapsed_time`.
        neurons: "cfc", "ltc", "ctrnn", "lrc", "lstm" or "gru".
        wiring: `kind` and arguments of a wiring; the sensory count is filled in. `motor` is the
            number of features, 16 by default.
        neuron_kwargs: further arguments of the neuron model, such as `{"ode_steps": 3}`.
        encoder: sizes of tanh layers before the circuit. Their inputs are the features and the
            elapsed time, the last layer's outputs are the sensory neurons.
        nominal_interval: seconds; the circuit's unit of time. Required if observations carry
            `elapsed_time`; without it each step lasts one unit. For environments of
            `liquid_control.envs` it is `env.get_attr("nominal_interval")[0]`.
        allow_any_interval: accept elapsed times that are more than 100 times longer or shorter than
            the nominal interval.

    Raises:
        TypeError: the observations are not windows.
        ValueError: an argument has an invalid value, or `nominal_interval` is missing.
            `forward` raises it if an elapsed time is rejected, see `check_elapsed_time`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        neurons: str = CircuitOptions.neurons,
        wiring: Mapping[str, Any] = DEFAULT_WIRING,
        neuron_kwargs: Mapping[str, Any] | None = None,
        encoder: Sequence[int] | None = None,
        nominal_interval: float | None = None,
        allow_any_interval: bool = CircuitOptions.allow_any_interval,
    ) -> None:
        windows, length = check_windows(observation_space, type(self).__name__)
        parts = {key: part for key, part in windows.items() if key != EPISODE_START}
        if PRIVILEGED in parts:
            raise ValueError(
                "the observation has a key 'privileged', for critics only, and SB3's critics have "
                "the same observations as its actors; use LiquidPPO or LiquidSAC, or leave it out"
            )
        timed = parts.pop(ELAPSED_TIME, None) is not None
        if timed and nominal_interval is None:
            raise ValueError(
                "observations carry elapsed_time, and the circuit's unit of time is missing; pass "
                "nominal_interval in seconds, such as env.get_attr('nominal_interval')[0]"
            )
        features = feature_count(spaces.Dict(parts)) // length
        interval = CircuitOptions.nominal_interval if nominal_interval is None else nominal_interval
        options = CircuitOptions(
            neurons=neurons,
            wiring=wiring,
            neuron_kwargs=neuron_kwargs,
            encoder=encoder,
            nominal_interval=interval,
        )
        body = CircuitSpec.of(options, wiring).build(features, DEFAULT_MOTOR)
        super().__init__(observation_space, body.circuit.wiring.motor_count)
        self.last_step = _LastStep(body)
        self.length, self.nominal_interval = length, interval
        self.allow_any_interval = allow_any_interval
        self._keys = tuple(parts)
        self._timed = timed

    @property
    def circuit(self) -> Circuit:
        """Return the circuit that runs over the window."""
        return self.last_step.body.circuit

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return motor activity (batch, motor) after preprocessed windows (batch, ...)."""
        features = torch.cat([self._in_time(observations[key]) for key in self._keys], dim=-1)
        starts = self._in_time(observations[EPISODE_START])[..., 0] != 0
        if self._timed:
            elapsed = self._in_time(observations[ELAPSED_TIME])[..., 0]
            check_elapsed_time(
                elapsed, self.nominal_interval, allow_any_interval=self.allow_any_interval
            )
        else:
            elapsed = features.new_full(starts.shape, self.nominal_interval)
        return differentiable_twice(self.last_step, features, elapsed, starts)

    def _in_time(self, windows: Tensor) -> Tensor:
        """Reshape windows to (time, batch, numbers)."""
        return windows.reshape(len(windows), self.length, -1).transpose(0, 1)


def check_windows(space: spaces.Space[Any], taker: str) -> tuple[spaces.Dict, int]:
    """Return the space of windows, and the number of observations in one.

    Raises:
        TypeError: the space does not describe windows; the message names `taker`.
        ValueError: the windows of its parts differ in length, or elapsed_time is not one number.
    """
    if not isinstance(space, spaces.Dict) or EPISODE_START not in space.spaces:
        raise TypeError(
            f"{taker} takes windows of observations, got {space}; "
            "wrap the env: envs.VecWindow(env, length=8)"
        )
    length = get_flattened_obs_dim(space[EPISODE_START])
    sizes = {key: get_flattened_obs_dim(part) for key, part in space.items()}
    for key, size in sizes.items():
        if size != length if key == ELAPSED_TIME else size % length:
            what = "one number" if key == ELAPSED_TIME else "as many numbers"
            raise ValueError(
                f"{key} must be {what} for each of the {length} observations in a window, got a "
                f"space of shape {space[key].shape}"
            )
    return space, length


class _LastStep(nn.Module):
    """A circuit's motor neurons (batch, motor) after the last step of sequences."""

    def __init__(self, body: EncodedCircuit) -> None:
        super().__init__()
        self.body = body

    def forward(self, features: Tensor, elapsed: Tensor, starts: Tensor) -> Tensor:
        circuit = self.body.circuit
        state = circuit.initial_state(features.shape[1])
        activity, _ = self.body(Signal(features, elapsed, starts), state)
        return circuit.readout(activity[-1])
