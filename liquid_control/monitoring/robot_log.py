"""Replay of a robot's log through the policy: actions, and the activity of its neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from liquid_control.deploy import Metadata
from liquid_control.export.agreement import Moment, act, errors_of, observation_of
from liquid_control.monitoring.recording import Recording, activity_of, stacked
from liquid_control.neurons.lesion import at_rest
from liquid_control.policies.stateful import StatefulPolicy

Array = NDArray[Any]
Names = Sequence[str]


@dataclass(frozen=True)
class Replay:
    """The T steps of a log in which the policy received an observation.

    Attributes:
        recording: Of these steps, with the actions of the log and without rewards. A step lasts
            until the next observation.
        recomputed: (T, actions), of the policy.
        errors: (T, actions), the log's differences from these, relative to the range of each
            action; for discrete kinds, 1 where they differ.
        rows: (T,), their indices in the log.
        skipped: Steps of the log in which the policy received no observation.
        moments: The policy's inputs.
    """

    recording: Recording
    recomputed: Array
    errors: NDArray[np.float64]
    rows: NDArray[np.int64]
    skipped: int
    moments: Sequence[Moment]

    def part(self, start: float, seconds: float) -> Recording:
        """Return the part of the recording that begins at `start` and lasts `seconds`, at most.

        Raises:
            ValueError: If it contains no step.
        """
        whole = self.recording
        first = int(np.searchsorted(whole.times[:-1], start))
        last = int(np.searchsorted(whole.times[:-1], start + seconds))
        if not start >= 0 or first >= last:
            raise ValueError(
                f"the log has no step from {start:g} to {start + seconds:g} s; it lasts "
                f"{whole.duration:.3g} s"
            )
        steps = slice(first, last)
        constants = whole.time_constants
        ends = np.minimum(whole.times[first : last + 1], start + seconds)  # a pause may follow
        return replace(
            whole,
            times=ends - ends[0],
            elapsed_time=whole.elapsed_time[steps],
            observations=whole.observations[steps],
            actions=whole.actions[steps],
            rewards=whole.rewards[steps],
            sensory=whole.sensory[steps],
            activity=whole.activity[steps],
            time_constants=None if constants is None else constants[steps],
        )


def replay_log(
    policy: StatefulPolicy,
    facts: Metadata,
    rows: Mapping[str, Array],
    observation_names: Names = (),
    action_names: Names = (),
) -> Replay:
    """Run the observations of a log through a policy.

    The policy receives the same elapsed times as on the robot, within the intervals of its
    training, and its state resets where an episode started there.

    Args:
        policy: A policy with a circuit.
        facts: From `read_log`.
        rows: From `read_log`.
        observation_names: Of the policy's features; numbers by default.
        action_names: Likewise.

    Raises:
        ValueError: If a number is missing in a step in which the policy acted, or time does not
            advance from one step to the next, or the policy received no observation.
    """
    taken = _taken(rows)
    moments = []
    for row in taken:
        starts = bool(rows["starts"][row])
        elapsed = facts.nominal_interval
        if facts.is_timed and not starts:
            elapsed = facts.clamped(float(rows["elapsed"][row]))
        moments.append(Moment(rows["observation"][row], elapsed, starts))
    recorded = rows["action"][taken]
    recomputed = np.stack([*act(policy, moments)])
    observations = stacked([observation_of(policy.acting_space, each) for each in moments])
    begins = torch.tensor([[each.starts] for each in moments], dtype=torch.float32)
    shape = (len(moments), *(policy.action_space.shape or ()))
    found = activity_of(policy, observations, recomputed.reshape(shape), begins)
    now = rows["now"]
    recording = Recording(
        times=np.append(now[taken], now[-1] + facts.nominal_interval) - now[taken[0]],
        elapsed_time=np.array([each.elapsed_time for each in moments]),
        observations=found.features,
        actions=recorded,
        rewards=np.full(len(taken), np.nan),
        sensory=found.sensory,
        activity=found.activity,
        time_constants=found.time_constants,
        wiring=policy.actor_circuit.wiring,
        observation_names=_named(observation_names, "observation", found.features.shape[1]),
        action_names=_named(action_names, "action", recorded.shape[1]),
        simulation=None,
    )
    errors = errors_of(policy.action_space, recomputed, recorded)
    return Replay(recording, recomputed, errors, taken, len(now) - len(taken), moments)


def influence(
    policy: StatefulPolicy,
    replay: Replay,
    neurons: Sequence[int],
    *,
    on_neuron: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """Return the change of actions for the same observations with one neuron held at rest.

    Other actions would have led to other observations, so this is the neuron's direct influence;
    `lesions` measures the loss of return.

    Args:
        policy: The policy of the replay.
        replay: The replay of a log.
        neurons: Indices of the neurons, which are held at rest one at a time.
        on_neuron: Called after each neuron with the number of finished neurons.

    Returns:
        (neurons, actions), the mean difference relative to the range of each action; for discrete
        kinds, the share of actions that differ.
    """
    means = []
    for count, neuron in enumerate(neurons):
        with at_rest(policy.actor_circuit, neuron):
            actions = np.stack([*act(policy, replay.moments)])
        errors = errors_of(policy.action_space, replay.recomputed, actions)
        means.append(errors.mean(axis=0))
        if on_neuron is not None:
            on_neuron(count + 1)
    return np.stack(means)


def _taken(rows: Mapping[str, Array]) -> NDArray[np.int64]:
    """Return the indices of the steps in which the policy received an observation."""
    acted = rows["acted"].astype(bool)
    for name in ("now", "elapsed", "observation", "action", "state"):
        values = rows[name].reshape(len(acted), -1)
        missing = ~np.isfinite(values).all(axis=1) & (acted | (name == "now"))
        if missing.any():
            raise ValueError(
                f"step {int(np.argmax(missing))} of the log has a number of {name} that is missing "
                "or not finite, although the policy acted; the log is damaged"
            )
    still = np.diff(rows["now"]) <= 0
    if still.any():
        raise ValueError(
            f"step {int(np.argmax(still)) + 1} of the log is not later than the one before; record "
            "with a clock that advances, into one file for each control loop"
        )
    (taken,) = np.nonzero(acted)
    if not len(taken):
        raise ValueError("the policy received no observation in this log")
    return taken


def _named(names: Names, what: str, count: int) -> tuple[str, ...]:
    return tuple(names) if len(names) == count else tuple(f"{what} {n}" for n in range(count))
