"""A soft policy's updates in the compiled kernels, without autograd."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from liquid_control.kernels import extension
from liquid_control.kernels.fused import addresses
from liquid_control.kernels.passes import WIDEST, NetworkPass, gradient_of
from liquid_control.kernels.soft_learner import HeadsMemory, SoftLearner, SoftPolicyMemory
from liquid_control.policies.compiled import (
    BodyPass,
    derives_weights,
    layers_of,
    obstacles,
    runs_in_kernels,
)
from liquid_control.policies.networks import clock
from liquid_control.policies.soft import SoftActor, SoftCritic, SoftLiquidPolicy


class SoftlySeen(NamedTuple):
    """What a soft policy sees in sequences, (time, batch, ...), as `SoftBatch` takes it."""

    seen: Tensor
    seen_by_critics: Tensor
    clock: Tensor
    elapsed_time: Tensor
    episode_start: Tensor


class FusedSoftPolicy:
    """The updates of one policy, whose parameters stay the same tensors.

    `FusedSoftPolicy.of` creates it.

    Attributes:
        policy: whose updates they are.
        learner: makes them.
    """

    learner: SoftLearner

    def __init__(
        self, policy: SoftLiquidPolicy, module: ModuleType, earlier: FusedSoftPolicy | None
    ) -> None:
        self.policy = policy
        actor, critic, target = policy.actor, policy.critic, policy.critic_target
        bodies = [BodyPass(each.body, module) for each in (actor, critic, target)]
        action = NetworkPass(module, layers_of([actor.head]))
        heads = critic.tensors()
        gradients = [gradient_of(each) if each.requires_grad else None for each in heads]
        for body in bodies:
            body.hold_gradients()
        action.hold_gradients()
        for parameter, gradient in zip(heads, gradients, strict=True):
            parameter.grad = gradient
        body_of_actor, body_of_critic, body_of_target = (each.memory() for each in bodies)
        neurons = critic.circuit.wiring.neuron_count
        memory = SoftPolicyMemory(
            body_of_actor,
            body_of_critic,
            body_of_target,
            action.memory(),
            HeadsMemory(
                len(critic.of_context),
                neurons,
                critic.of_context.shape[1] - neurons,
                policy.action_size,
                (critic.of_context.shape[2], *(each.shape[2] for each in critic.weights)),
                addresses(heads),
                addresses(gradients),
                addresses(target.tensors()),
            ),
            [
                (each.numel(), each.data_ptr(), copy.data_ptr())
                for each, copy in zip(critic.parameters(), target.parameters(), strict=True)
            ],
        )
        known: SoftLearner | None = None if earlier is None else earlier.learner
        is_same = known is not None and known.memory == memory
        self.learner = known if known and is_same else SoftLearner(module, memory)

    @classmethod
    def of(
        cls, policy: SoftLiquidPolicy, earlier: FusedSoftPolicy | None = None
    ) -> FusedSoftPolicy | None:
        """Return the updates of a policy; None where autograd is needed.

        It is needed by subclasses, hooks, layers wider than `WIDEST`, circuits that PyTorch unrolls
        or whose motor neurons are mapped, an encoder that actor and critics share, and devices and
        dtypes that the kernels do not support.

        Args:
            policy: to train.
            earlier: updates whose memory is used again if they are those of the same parameters.
        """
        module = extension.load()
        return None if module is None or why_not_fused(policy) else cls(policy, module, earlier)

    def seen(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        episode_start: Tensor,
        previous_actions: Tensor,
    ) -> SoftlySeen:
        """Return what actor and critics see; arguments as in `SoftLiquidPolicy.signal`."""
        policy = self.policy
        with torch.no_grad():
            signal = policy.signal(features, elapsed_time, episode_start, previous_actions)
        seen = signal.features
        of_actor = policy.seen_by_actor(seen) if policy.privileged else seen
        time = clock(elapsed_time, policy.nominal_interval)
        return SoftlySeen(of_actor, seen, time, elapsed_time, episode_start != 0)


def why_not_fused(policy: SoftLiquidPolicy) -> str | None:
    """Return why a policy needs autograd; None if its updates run in the kernels."""
    return next(_obstacles(policy), None)


def _obstacles(policy: SoftLiquidPolicy) -> Iterator[str]:
    yield from obstacles(policy, SoftLiquidPolicy)
    if type(policy.actor) is not SoftActor or type(policy.critic) is not SoftCritic:
        yield f"it has a {type(policy.actor).__name__} and a {type(policy.critic).__name__}"
    if next(policy.parameters()).dtype is not torch.float32:
        yield "its parameters are not float32"
    if policy.share_encoder:
        yield "actor and critics share an encoder"
    if policy.actor_circuit.output_mapping is not None:
        yield f"{type(policy.actor_circuit).__name__} neurons map the motor neurons"
    if any(map(derives_weights, (policy.actor_circuit, policy.critic.circuit))):
        yield f"{type(policy.actor_circuit).__name__} neurons compute weights from others"
    layers = [size for each in policy.critic.tensors() for size in each.shape[1:]]
    if not runs_in_kernels(policy.actor.head) or max(layers) > WIDEST:
        yield "the kernels do not support a layer of its action head or its critics"
