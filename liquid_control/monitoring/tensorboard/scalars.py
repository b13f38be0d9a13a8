"""Scalars of a training in addition to SB3's: speed, cost of monitoring, gradient norms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from time import perf_counter
from weakref import WeakKeyDictionary

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import Tensor, nn

from liquid_control.checkpoints.checkpoint_callback import check_every
from liquid_control.monitoring.recording import circuit_of
from liquid_control.neurons import Circuit
from liquid_control.policies.networks import Critic, EncodedCircuit
from liquid_control.policies.soft import SoftCritic

_MONITORING_SECONDS: WeakKeyDictionary[BaseAlgorithm, float] = WeakKeyDictionary()


def monitoring_seconds(model: BaseAlgorithm) -> float:
    """Return the seconds spent so far on monitoring a model."""
    return _MONITORING_SECONDS.get(model, 0.0)


@contextmanager
def measure_cost(model: BaseAlgorithm, subject: str) -> Iterator[None]:
    """Measure the time of monitoring a model; a full disk or a missing display causes a warning.

    Args:
        model: The monitored model.
        subject: What is monitored, for the warning.
    """
    start = perf_counter()
    try:
        yield
    except (OSError, RuntimeError) as error:
        warnings.warn(f"no {subject} this time; training continues: {error}", stacklevel=3)
    finally:
        _MONITORING_SECONDS[model] = monitoring_seconds(model) + perf_counter() - start


class ScalarsCallback(BaseCallback):
    """Logs the speed of a training, and the gradient norms of the actor's circuit by layer.

    - `speed/physics`, `speed/policy`, `speed/learning`: control steps per second spent in the
      environments' step, in the rest of collecting, and between rollouts; `speed/all` is the total.
      Time spent by callbacks of `liquid_control.monitoring` is excluded, and is logged as a share
      of the whole, `speed/watching_share`.
    - `gradient_norm/<layer>`: Euclidean norm of the gradient of the last update, after clipping,
      of the layer's incoming synapses and its neurons' parameters; likewise for `encoder`, `critic`
      and `head`. It is logged at the first rollout of every `every` control steps.

    Args:
        every: Control steps, over all environments, between two logs of the gradients.
    """

    def __init__(self, every: int = 1000) -> None:
        super().__init__()
        check_every(every)
        self.every = every

    def _on_training_start(self) -> None:
        self._groups = gradient_groups(self.model.policy, circuit_of(self.model))
        self._steps_before = self.num_timesteps
        self._physics = self._collecting = self._learning = 0.0
        self._logged = self.num_timesteps // self.every
        self._monitoring_before = monitoring_seconds(self.model)
        self._mark, self._mark_monitoring = perf_counter(), self._monitoring_before
        _time_steps(self.training_env, self._add_physics)

    def _on_rollout_start(self) -> None:
        self._learning += self._since_mark()
        if self.num_timesteps // self.every > self._logged:
            self._log_gradients()
            self._logged = self.num_timesteps // self.every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._collecting += self._since_mark()
        steps = self.num_timesteps - self._steps_before
        monitoring = monitoring_seconds(self.model) - self._monitoring_before
        training = self._collecting + self._learning
        for name, seconds in (
            ("physics", self._physics),
            ("policy", self._collecting - self._physics),
            ("learning", self._learning),
            ("all", training),
        ):
            if seconds > 0:
                self.logger.record(f"speed/{name}", steps / seconds)
        self.logger.record("speed/watching_share", monitoring / (training + monitoring))

    def _on_training_end(self) -> None:
        _time_steps(self.training_env, None)

    def _add_physics(self, seconds: float) -> None:
        self._physics += seconds

    def _since_mark(self) -> float:
        """Return the seconds since the previous call, without those of monitoring."""
        now, monitoring = perf_counter(), monitoring_seconds(self.model)
        seconds = now - self._mark - (monitoring - self._mark_monitoring)
        self._mark, self._mark_monitoring = now, monitoring
        return seconds

    def _log_gradients(self) -> None:
        for name, entries in self._groups.items():
            squares = [
                (weight.grad if chosen is None else weight.grad[..., chosen]).square().sum()
                for weight, chosen in entries
                if weight.grad is not None
            ]
            if squares:
                norm = torch.stack(squares).sum().sqrt().item()
                self.logger.record(f"gradient_norm/{name}", norm)


Entries = list[tuple[nn.Parameter, Tensor | None]]
"""Parameters with a mask of the last axis, or None for all entries."""


def gradient_groups(policy: nn.Module, circuit: Circuit) -> dict[str, Entries]:
    """Group the trainable parameters of a policy.

    Args:
        policy: A policy whose actor uses `circuit`.
        circuit: Its parameters are grouped by layer.

    Returns:
        The parameters of each layer, of `encoder`, of `critic`, and of `head`, the rest.
    """
    owned = list(circuit.owners())
    layers = {
        layer: [
            (weight, (owners >= neurons.start) & (owners < neurons.stop))
            for weight, owners in owned
        ]
        for layer, neurons in circuit.wiring.layer_slices.items()
    }
    bodies = [each for each in policy.modules() if isinstance(each, EncodedCircuit)]
    encoders = [each.encoder for each in bodies if each.circuit is circuit and each.encoder]
    critics = [each for each in policy.modules() if isinstance(each, (Critic, SoftCritic))]
    parts = {
        "encoder": [weight for module in encoders for weight in module.parameters()],
        "critic": [weight for module in critics for weight in module.parameters()],
    }
    known = {id(weight) for weight in chain(*parts.values(), (weight for weight, _ in owned))}
    parts["head"] = [weight for weight in policy.parameters() if id(weight) not in known]
    whole: dict[str, Entries] = {
        name: [(weight, None) for weight in weights] for name, weights in parts.items()
    }
    return layers | whole


def _time_steps(env: VecEnv, report: Callable[[float], None] | None) -> None:
    """Report the duration of each of an environment's steps in seconds; None stops reporting."""
    vars(env).pop("step_wait", None)
    if report is None:
        return
    step_wait = env.step_wait

    def timed() -> VecEnvStepReturn:
        start = perf_counter()
        result = step_wait()
        report(perf_counter() - start)
        return result

    timed.stateless = True  # type: ignore[attr-defined]  # for `checkpoints.env_state`
    # The instance attribute takes precedence over the method of the class.
    env.step_wait = timed  # type: ignore[method-assign]
