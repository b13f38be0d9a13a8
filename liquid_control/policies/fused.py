"""A policy's forward and backward pass in the compiled kernels, without autograd."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from liquid_control.kernels import extension
from liquid_control.kernels.fused import IS_DOUBLE, compile_circuit, is_traced
from liquid_control.kernels.passes import CircuitPass, NetworkPass
from liquid_control.policies.compiled import (
    GLOBAL_HOOKS,
    hooked,
    layers_of,
    replaced_methods,
    runs_in_kernels,
)
from liquid_control.policies.distributions import Gaussian
from liquid_control.policies.liquid import LiquidPolicy
from liquid_control.policies.networks import (
    EncodedCircuit,
    MlpCritic,
    SharedCritic,
    TwinCritic,
    clock,
)

FUSED_CRITICS = (MlpCritic, SharedCritic, TwinCritic)


class FusedPolicy:
    """The passes of one policy, whose parameters stay the same tensors; see `kernels.passes`.

    In a loop of updates, `evaluate` and `backward` replace `LiquidPolicy.unroll` and
    `torch.Tensor.backward`. `FusedPolicy.of` creates it.
    """

    def __init__(self, policy: LiquidPolicy, module: ModuleType) -> None:
        self.policy, self.module = policy, module
        self._parameters = list(policy.parameters())
        critic: Any = policy.critic
        self._actor = _Body(policy.actor, module)
        self._twin = _Body(critic.body, module) if isinstance(critic, TwinCritic) else None
        self._value = NetworkPass(module, layers_of([critic.head]))
        self._action = NetworkPass(module, layers_of([policy.action_net]))
        self._activity = self._motor = self._mapped = torch.empty(0)  # of the actor's neurons

    @classmethod
    def of(cls, policy: LiquidPolicy) -> FusedPolicy | None:
        """Return the passes of a policy; None where autograd is needed.

        It is needed by subclasses, hooks, networks wider than `WIDEST`, circuits that PyTorch
        unrolls, and devices and dtypes that the kernels do not support.
        """
        module = extension.load()
        return None if module is None or why_not_fused(policy) else cls(policy, module)

    def evaluate(
        self, features: Tensor, elapsed_time: Tensor, state: Tensor, episode_start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run actor and critic over sequences; arguments as in `LiquidPolicy.unroll`.

        Returns:
            parameters of the distributions (time * batch, ...), and values (time * batch, 1).
        """
        policy, circuit = self.policy, self.policy.actor_circuit
        starts = episode_start if episode_start.dtype is torch.bool else episode_start != 0
        dtype = self._parameters[0].dtype
        features, elapsed_time, state = (each.to(dtype) for each in (features, elapsed_time, state))
        features = policy._normalize(policy.for_critic(features)).contiguous()
        seen = (features, clock(elapsed_time, policy.nominal_interval))
        of_actor = (policy._for_actor(features).contiguous(), seen[1])
        flow = (elapsed_time.contiguous(), starts.contiguous())
        self._activity = self._actor.forward(of_actor, policy._actor_state(state), *flow)
        rows = self._activity.flatten(0, 1)
        if self._twin is not None:
            critic = self._twin.forward(seen, policy.critic_part(state), *flow)
            values = self._value.forward([critic.flatten(0, 1)])
        elif isinstance(policy.critic, SharedCritic):
            values = self._value.forward([rows])
        else:
            values = self._value.forward([*(part.flatten(0, 1) for part in seen), rows])
        self._motor = rows[:, -circuit.wiring.motor_count :]
        if circuit.output_mapping is None:
            return self._action.forward([self._motor]), values
        self._mapped = circuit.output_mapping(self._motor.requires_grad_())
        return self._action.forward([self._mapped.detach()]), values

    def backward(self, d_actions: Tensor, d_values: Tensor) -> None:
        """Set the gradients of all parameters but `log_std`, given those of `evaluate`."""
        for parameter in self._parameters:
            parameter.grad = None
        shape, shared = self._activity.shape, isinstance(self.policy.critic, SharedCritic)
        of_critic = 0 if shared or self._twin is not None else None
        d_critic = self._value.backward(d_values, of_critic)
        if self._twin is not None:
            self._twin.backward(d_critic.view(*shape[:2], -1))
        d_activity = d_critic.view(shape) if shared else torch.zeros_like(self._activity)
        d_motor = self._action.backward(d_actions, 0)
        if self.policy.actor_circuit.output_mapping is not None:
            self._mapped.backward(d_motor)
            assert self._motor.grad is not None
            d_motor = self._motor.grad
        d_activity.flatten(0, 1)[:, -d_motor.shape[1] :] += d_motor
        self._actor.backward(d_activity)


class _Body:
    """The passes of an encoded circuit."""

    def __init__(self, body: EncodedCircuit, module: ModuleType) -> None:
        compiled = compile_circuit(body.circuit)
        assert compiled is not None
        self._encoder = None
        if body.encoder is not None:
            self._encoder = NetworkPass(module, layers_of([body.encoder]))
        self._circuit = CircuitPass(body.circuit, compiled)

    def forward(
        self, seen: tuple[Tensor, Tensor], state: Tensor, elapsed_time: Tensor, starts: Tensor
    ) -> Tensor:
        """Return the activity (time, batch, neurons), given the features and `clock`."""
        inputs = seen[0]
        if self._encoder is not None:
            encoded = self._encoder.forward([part.flatten(0, 1) for part in seen])
            inputs = encoded.view(*inputs.shape[:2], -1)
        return self._circuit.forward(inputs, state.contiguous(), elapsed_time, starts)[0]

    def backward(self, d_activity: Tensor) -> None:
        d_inputs = self._circuit.backward(d_activity)
        if self._encoder is not None:
            self._encoder.backward(d_inputs.flatten(0, 1))


def why_not_fused(policy: LiquidPolicy) -> str | None:
    """Return why a policy needs autograd; None if its passes run in the kernels."""
    return next(_obstacles(policy), None)


def _obstacles(policy: LiquidPolicy) -> Iterator[str]:
    if extension.load() is None:
        yield "the compiled kernels are off or missing"
    if type(policy) is not LiquidPolicy:
        yield f"{type(policy).__name__} is a subclass of LiquidPolicy"
    if replaced := replaced_methods(policy):
        yield f"its method {replaced[0]} was replaced"
    if is_traced():
        yield "PyTorch traces the policy"
    if type(policy.critic) not in FUSED_CRITICS:
        yield f"its critic is a {type(policy.critic).__name__}"
    if policy.log_std is not None and type(policy.distribution) is not Gaussian:
        yield f"its actions follow a {type(policy.distribution).__name__}"
    yield from _obstacles_in_parameters(policy)
    yield from _obstacles_in_modules(policy)
    yield from _obstacles_in_bodies(policy)


def _obstacles_in_parameters(policy: LiquidPolicy) -> Iterator[str]:
    parameters = list(policy.parameters())
    dtype = parameters[0].dtype
    if not all(each.is_cpu for each in parameters):
        yield "its parameters are not on the CPU"
    if dtype not in IS_DOUBLE or not all(each.dtype is dtype for each in parameters):
        yield "its parameters are not all float32, or all float64"
    if not all(each.is_contiguous() for each in parameters):
        yield "a parameter is not contiguous"
    if len(list(policy.named_parameters(remove_duplicate=False))) > len(parameters):
        yield "modules share a parameter"
    if any(map(hooked, parameters)):
        yield "a parameter has hooks"


def _obstacles_in_modules(policy: LiquidPolicy) -> Iterator[str]:
    if any(GLOBAL_HOOKS) or any(map(hooked, policy.modules())):
        yield "a module has hooks"
    if any("forward" in vars(each) for each in policy.modules() if each is not policy):
        yield "the forward method of a module was replaced"
    if not (runs_in_kernels(policy.critic.head) and runs_in_kernels(policy.action_net)):
        yield "the kernels do not support a layer of its action head or its critic"


def _obstacles_in_bodies(policy: LiquidPolicy) -> Iterator[str]:
    if policy.images is not None:
        yield "the kernels do not support its encoder of images"
    bodies = [each for each in policy.modules() if isinstance(each, EncodedCircuit)]
    if not all(map(runs_in_kernels, bodies)):
        yield "the kernels do not support its circuit, or a layer of its encoder"
