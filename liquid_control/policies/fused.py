"""A policy's forward and backward pass in the compiled kernels, without autograd."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType, NoneType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from liquid_control.kernels import extension
from liquid_control.kernels.fused import addresses
from liquid_control.kernels.group import Acted, GroupActor
from liquid_control.kernels.learner import Learner, PolicyMemory, Seen
from liquid_control.kernels.passes import NetworkPass, gradient_of
from liquid_control.policies.compiled import BodyPass, layers_of, obstacles, runs_in_kernels
from liquid_control.policies.distributions import Gaussian
from liquid_control.policies.liquid import LiquidPolicy
from liquid_control.policies.moments import ObservationNormalizer
from liquid_control.policies.networks import (
    MlpCritic,
    SharedCritic,
    TwinCritic,
    clock,
)
from liquid_control.policies.observations import bounds_of_elapsed_time

FUSED_CRITICS = (MlpCritic, SharedCritic, TwinCritic)


class FusedPolicy:
    """The passes of one policy, whose parameters stay the same tensors; see `kernels.passes`.

    In a rollout `act` replaces `LiquidPolicy.forward`, and in a loop of updates `evaluate` and
    `backward` replace `LiquidPolicy.unroll` and `torch.Tensor.backward`. `FusedPolicy.of` creates
    it.
    """

    def __init__(self, policy: LiquidPolicy, module: ModuleType) -> None:
        self.policy, self.module = policy, module
        self._parameters = list(policy.parameters())
        self.precision = self._parameters[0].dtype
        critic: Any = policy.critic
        self._actor = BodyPass(policy.actor, module)
        self._twin = BodyPass(critic.body, module) if isinstance(critic, TwinCritic) else None
        self._is_shared = isinstance(critic, SharedCritic)
        self._value = NetworkPass(module, layers_of([critic.head]))
        self._action = NetworkPass(module, layers_of([policy.action_net]))
        self._mapping = policy.actor_circuit.output_mapping
        wiring = policy.actor_circuit.wiring
        self._first_motor = wiring.neuron_count - wiring.motor_count
        self._motor = self._mapped = torch.empty(0)  # of the actor's neurons
        self._d_log_std = None if policy.log_std is None else gradient_of(policy.log_std)
        self._learner: Learner | None = None
        self._acting = [*policy.actor.parameters(), *policy.action_net.parameters()]
        self._acting_at = self._acting_addresses()
        self._group = self._group_actor()

    @classmethod
    def of(cls, policy: LiquidPolicy) -> FusedPolicy | None:
        """Return the passes of a policy; None where autograd is needed.

        It is needed by subclasses, hooks, networks wider than `WIDEST`, circuits that PyTorch
        unrolls, and devices and dtypes that the kernels do not support.
        """
        module = extension.load()
        return None if module is None or why_not_fused(policy) else cls(policy, module)

    def act(
        self, features: Tensor, elapsed_time: Tensor, state: Tensor, episode_start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sample actions for one control step; see `LiquidPolicy.forward`."""
        policy = self.policy
        starts = (episode_start if episode_start.dtype is torch.bool else episode_start != 0)[None]
        seen = policy._normalize(self._typed(policy._for_actor(features))).contiguous()
        elapsed_time = self._typed(elapsed_time)
        flow = elapsed_time.contiguous()[None], starts.contiguous()
        own = policy._actor_state(self._typed(state))
        rows, after = self._actor.forward(
            (seen, clock(elapsed_time, policy.nominal_interval)), own, *flow
        )
        motor = policy.actor_circuit.readout(rows)
        outputs = self._action.forward([motor])
        actions = policy.distribution_with(outputs, policy.mask_of(features)).get_actions()
        return actions, policy._with_memory(after.clone(), features)

    @property
    def can_choose(self) -> bool:
        """Whether `choose` may return actions."""
        return self._group is not None

    def choose(
        self, features: Tensor, elapsed_time: Tensor, state: Tensor, episode_start: Tensor
    ) -> Acted | None:
        """Do what `act` and `LiquidPolicy.for_env` do, in one call of the kernels.

        Arguments as in `act`.

        Returns:
            None if `can_choose` is false, or if something has to be rejected, see
            `GroupActor.act`.
        """
        if (where := self._acting_addresses()) != self._acting_at:  # a user gave it other memory
            self._acting_at, self._group = where, self._group_actor()
        if self._group is None:
            return None
        starts = episode_start if episode_start.dtype is torch.bool else episode_start != 0
        given = self._typed(features), self._typed(elapsed_time), self._typed(state)
        acted = self._group.act(*given, starts)
        if acted is None or not self.policy.memory_size:
            return acted
        return acted._replace(state=self.policy._with_memory(acted.state, features))

    def _acting_addresses(self) -> list[int]:
        """Return where everything is that `choose` depends on."""
        normalizer = self.policy.normalizer
        moments = [] if normalizer is None else [normalizer.shift, normalizer.scale]
        return addresses([*self._acting, self.policy.log_std, *moments])

    def _group_actor(self) -> GroupActor | None:
        policy, normalizer = self.policy, self.policy.normalizer
        space = policy.action_space
        if (
            policy.log_std is None
            or space.dtype != np.float32
            or self._mapping is not None
            or self.precision is not torch.float32
            or self._actor.is_derived
            or type(normalizer) not in (ObservationNormalizer, NoneType)
        ):
            return None
        assert isinstance(space, spaces.Box)
        nominal = policy.nominal_interval
        any_interval = policy.options.allow_any_interval
        shortest, longest = bounds_of_elapsed_time(nominal, allow_any_interval=any_interval)
        return GroupActor(
            self.module,
            self._actor.memory(),
            self._action.memory(),
            normalizer=(None, None) if normalizer is None else (normalizer.shift, normalizer.scale),
            log_std=policy.log_std,
            state_size=policy.actor_circuit.state_size,
            width=policy.width,
            features=policy.observed,
            clip=0.0 if normalizer is None else normalizer.clip,
            nominal=policy.actor.time_scale,
            shortest=shortest,
            longest=longest,
            low=space.low.ravel(),
            high=space.high.ravel(),
        )

    def seen(self, features: Tensor, elapsed_time: Tensor, episode_start: Tensor) -> Seen:
        """Return what the policy sees in sequences, (time, batch, ...).

        It does not depend on parameters, so that a loop of updates computes it once.
        """
        starts = episode_start if episode_start.dtype is torch.bool else episode_start != 0
        elapsed_time = self._typed(elapsed_time).contiguous()
        normalised, time = self._inputs(features, elapsed_time)
        return Seen(normalised, time, elapsed_time, starts.contiguous())

    def _inputs(self, features: Tensor, elapsed_time: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised features, and `clock`, of sequences (time, batch, ...)."""
        features = self.policy._normalize(self.policy.for_critic(self._typed(features)))
        return features.contiguous(), clock(elapsed_time, self.policy.nominal_interval)

    def states(self, seen: Seen, features: Tensor, state: Tensor, length: int) -> Tensor | None:
        """Do what `LiquidPolicy.states` does, in one call of the kernels; None if it cannot.

        Args:
            seen: in whole sequences.
            features: of the same steps, raw.
            state: (batch, state_size) before the first step.
            length: steps from one state to the next.
        """
        kernels = self._in_kernels()
        if kernels is None:
            return None
        states = kernels.unroll(seen, state, length)
        if size := self.policy.memory_size:
            last = features.unflatten(0, (-1, length))[:, -1]
            for each, row in zip(states[1:], last, strict=True):
                each[:, -size:] = self.policy._memory_of(row)
        return states

    def evaluate(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        state: Tensor,
        episode_start: Tensor,
        inputs: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, Tensor]:
        """Run actor and critic over sequences; arguments as in `LiquidPolicy.unroll`.

        Args:
            features: (time, batch, features).
            elapsed_time: (time, batch) seconds.
            state: (batch, state_size) before the first step.
            episode_start: (time, batch).
            inputs: rows (time * batch, ...) of the first two columns of `seen`, if they are known.

        Returns:
            parameters of the distributions (time * batch, ...), and values (time * batch, 1).
        """
        policy = self.policy
        starts = episode_start if episode_start.dtype is torch.bool else episode_start != 0
        state = self._typed(state)
        elapsed_time = self._typed(elapsed_time)
        if not inputs:
            inputs = tuple(each.flatten(0, 1) for each in self._inputs(features, elapsed_time))
        seen, time = inputs
        of_actor = policy._for_actor(seen)
        flow = (elapsed_time.contiguous(), starts.contiguous())
        rows, _ = self._actor.forward((of_actor, time), policy._actor_state(state), *flow)
        if self._twin is not None:
            critic, _ = self._twin.forward((seen, time), policy.critic_part(state), *flow)
            values = self._value.forward([critic])
        elif self._is_shared:
            values = self._value.forward([rows])
        else:
            values = self._value.forward([seen, time, rows])
        self._motor = rows[:, self._first_motor :]
        if self._mapping is None:
            return self._action.forward([self._motor]), values
        self._mapped = self._mapping(self._motor.requires_grad_())
        return self._action.forward([self._mapped.detach()]), values

    def backward(
        self, d_actions: Tensor, d_values: Tensor, d_log_std: Tensor | None = None
    ) -> None:
        """Set the gradients of all parameters, given those of `evaluate` and of `log_std`."""
        for parameter in self._parameters:
            parameter.grad = None
        self._set_log_std(d_log_std)
        of_critic = 0 if self._is_shared or self._twin is not None else None
        d_critic = self._value.backward(d_values, of_critic)
        if self._twin is not None:
            self._twin.backward(d_critic)
        d_motor = self._action.backward(d_actions, 0)
        if self._mapping is not None:
            self._mapped.backward(d_motor)
            assert self._motor.grad is not None
            d_motor = self._motor.grad
        if self._is_shared:
            d_critic[:, self._first_motor :] += d_motor
            self._actor.backward(d_critic)
        else:
            self._actor.backward(d_motor, self._first_motor)

    def learner(self) -> Learner | None:
        """Return the updates of a whole epoch in the kernels; None if they are made one by one.

        They are where parameters have no gradients yet, for actions that are not Gaussian, for
        circuits that map their motor neurons or compute the parameters of the kernels from others,
        and in double precision.
        """
        log_std, gradient = self.policy.log_std, self._d_log_std
        if (
            log_std is None
            or log_std.grad is not (gradient if log_std.requires_grad else None)
            or self._mapping is not None
            or not all(part.has_gradients() for part in self._parts())
        ):
            return None
        return self._in_kernels()

    def _parts(self) -> list[BodyPass | NetworkPass]:
        twin = [] if self._twin is None else [self._twin]
        return [self._actor, self._value, self._action, *twin]

    def _in_kernels(self) -> Learner | None:
        """Return the policy in the kernels; None if they have no access to its parameters."""
        bodies = [each for each in (self._actor, self._twin) if each is not None]
        if self.precision is not torch.float32 or any(body.is_derived for body in bodies):
            return None
        log_std = self.policy.log_std
        is_trained = log_std is not None and log_std.requires_grad
        memory = PolicyMemory(
            self._actor.memory(),
            None if self._twin is None else self._twin.memory(),
            self._is_shared,
            self._value.memory(),
            self._action.memory(),
            *addresses((log_std, self._d_log_std if is_trained else None)),
        )
        if self._learner is None or self._learner.memory != memory:
            self._learner = Learner(self.module, memory)
        return self._learner

    def _set_log_std(self, gradient: Tensor | None) -> None:
        log_std, memory = self.policy.log_std, self._d_log_std
        if gradient is not None and log_std is not None and log_std.requires_grad:
            assert memory is not None
            log_std.grad = memory.copy_(gradient)

    def _typed(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.dtype is self.precision else tensor.to(self.precision)


def why_not_fused(policy: LiquidPolicy) -> str | None:
    """Return why a policy needs autograd; None if its passes run in the kernels."""
    return next(_obstacles(policy), None)


def _obstacles(policy: LiquidPolicy) -> Iterator[str]:
    yield from obstacles(policy, LiquidPolicy)
    if type(policy.critic) not in FUSED_CRITICS:
        yield f"its critic is a {type(policy.critic).__name__}"
    if policy.log_std is not None and type(policy.distribution) is not Gaussian:
        yield f"its actions follow a {type(policy.distribution).__name__}"
    if not (runs_in_kernels(policy.critic.head) and runs_in_kernels(policy.action_net)):
        yield "the kernels do not support a layer of its action head or its critic"
