"""Numbers of a training beside SB3's: where its time goes, and how strongly each layer learns."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from time import perf_counter

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import Tensor, nn

from liquid_control.monitoring.recording import circuit_of
from liquid_control.monitoring.tensorboard.monitoring_cost import seconds_spent
from liquid_control.neurons import Circuit
from liquid_control.policies.networks import Critic, EncodedCircuit
from liquid_control.policies.soft import SoftCritic


class ScalarsCallback(BaseCallback):
    """Logs how fast a training is, and the gradients of each layer of the actor's circuit.

    - `speed/physics`, `speed/policy`, `speed/learning`: control steps over the seconds spent so far
      in the environments' step, in the rest of collecting, and between rollouts; `speed/all` over
      all of them. What callbacks of `liquid_control.monitoring` took to look is left out, and is
      logged as a share of the whole, `speed/watching_share`.
    - `gradient_norm/<layer>`: Euclidean norm of the gradient that the last update left, after
      clipping, over the synapses that enter the layer's neurons and their own parameters; the
      same of `encoder`, `critic` and `head`. At the first rollout in every `every` control steps.

    Args:
        every: control steps, over all environments, between two measurements of the gradients.
    """

    def __init__(self, every: int = 1000) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least one control step, got {every}")
        self.every = every

    def _on_training_start(self) -> None:
        self._groups = gradient_groups(self.model.policy, circuit_of(self.model))
        self._steps_before = self.num_timesteps
        self._physics = self._collecting = self._learning = 0.0
        self._looks = self.num_timesteps // self.every
        self._spent_before = seconds_spent(self.model)
        self._mark, self._mark_spent = perf_counter(), self._spent_before
        _time_steps(self.training_env, self._add_physics)

    def _on_rollout_start(self) -> None:
        self._learning += self._since_mark()
        if self.num_timesteps // self.every > self._looks:
            self._log_gradients()
            self._looks = self.num_timesteps // self.every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._collecting += self._since_mark()
        steps = self.num_timesteps - self._steps_before
        watched = seconds_spent(self.model) - self._spent_before
        everything = self._collecting + self._learning
        for name, seconds in (
            ("physics", self._physics),
            ("policy", self._collecting - self._physics),
            ("learning", self._learning),
            ("all", everything),
        ):
            if seconds > 0:
                self.logger.record(f"speed/{name}", steps / seconds)
        self.logger.record("speed/watching_share", watched / (everything + watched))

    def _on_training_end(self) -> None:
        _time_steps(self.training_env, None)

    def _add_physics(self, seconds: float) -> None:
        self._physics += seconds

    def _since_mark(self) -> float:
        """Seconds since this was last asked, without those that monitoring took."""
        now, spent = perf_counter(), seconds_spent(self.model)
        seconds = now - self._mark - (spent - self._mark_spent)
        self._mark, self._mark_spent = now, spent
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
"""Parameters, with the entries of the last axis that are meant, or None for all."""


def gradient_groups(policy: nn.Module, circuit: Circuit) -> dict[str, Entries]:
    """The trainable parameters of a policy by what they serve.

    Args:
        policy: whose actor acts by `circuit`.
        circuit: its neurons' parameters are told apart by layer.

    Returns:
        entries of `encoder`, of each layer of the circuit, of `critic`, and of `head`, the rest.
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


def _time_steps(env: VecEnv, told: Callable[[float], None] | None) -> None:
    """Let an environment tell the seconds of each of its steps; None: no more."""
    vars(env).pop("step_wait", None)
    if told is None:
        return
    step_wait = env.step_wait

    def timed() -> VecEnvStepReturn:
        start = perf_counter()
        result = step_wait()
        told(perf_counter() - start)
        return result

    # On the object alone, in front of its class's method.
    env.step_wait = timed  # type: ignore[method-assign]
