"""Updates of SAC in the kernels, one call each."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from liquid_control.kernels.fused import addresses
from liquid_control.kernels.learner import BodyMemory, NetworkMemory, plain
from liquid_control.kernels.learning import AdamMemory, AdamRates


class HeadsMemory(NamedTuple):
    """Value heads, relu layers each, and where their parameters are.

    Attributes:
        heads: how many there are.
        neurons: of the circuit that they see.
        inputs: of that circuit.
        actions: in an action.
        layers: sizes of a head's layers.
        parameters: addresses, see `policies.soft.SoftCritic.tensors`.
        gradients: addresses, zero for unwanted ones.
        targets: addresses of the target's parameters.
    """

    heads: int
    neurons: int
    inputs: int
    actions: int
    layers: tuple[int, ...]
    parameters: list[int]
    gradients: list[int]
    targets: list[int]


class SoftPolicyMemory(NamedTuple):
    """The parts of a soft policy in single precision, and where their parameters are.

    Attributes:
        actor: the acting circuit.
        critic: the critics' circuit.
        target: its slowly changing copy.
        action: the actor's head, without a mapping of the motor neurons before it.
        heads: the critics' and the target's.
        copies: numbers in a parameter of the critics, its address, and that of the target's.
    """

    actor: BodyMemory
    critic: BodyMemory
    target: BodyMemory
    action: NetworkMemory
    heads: HeadsMemory
    copies: list[tuple[int, int, int]]


class SoftBatch(NamedTuple):
    """A minibatch: steps of burn-in, steps that are learned from, and one after them.

    Attributes:
        seen: by the actor, (burn_in + length + 1, batch, features), normalised.
        seen_by_critics: likewise; the same tensor unless critics see more.
        clock: (burn_in + length + 1, batch), see `policies.networks.clock`.
        elapsed_time: likewise, in seconds.
        episode_start: likewise, bool.
        state: (batch, size) of both circuits.
        actions: (length, batch, actions) in [-1, 1].
        rewards: (length, batch).
        terminated: (length, batch), nonzero where the episode terminated.
        mask: (length, batch), zero for steps that do not count.
        duration: (length + 1, batch) nominal intervals.
        noise: (length + 1, batch, actions), standard Gaussian.
    """

    seen: Tensor
    seen_by_critics: Tensor
    clock: Tensor
    elapsed_time: Tensor
    episode_start: Tensor
    state: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    mask: Tensor
    duration: Tensor
    noise: Tensor


class SoftSettings(NamedTuple):
    """Settings of an update.

    Attributes:
        gamma: discount per nominal interval.
        ent_coef: alpha.
        target_entropy: of an action that lasts a nominal interval.
        target_share: of the way to the critics that the target moves after the update.
    """

    gamma: float
    ent_coef: float
    target_entropy: float
    target_share: float


class SoftFigures(NamedTuple):
    """What an update found; see `agents.soft_losses.SoftLosses`. NaN: it ended before."""

    actor_loss: float
    critic_loss: float
    deficit: float
    gradient: float
    weights: float


class SoftLearner:
    """A soft actor-critic in the kernels, as long as its parameters stay where they are."""

    def __init__(self, module: ModuleType, memory: SoftPolicyMemory) -> None:
        self.memory = memory
        self._learner = module.SoftLearner(*memory)

    def learn(
        self,
        batch: SoftBatch,
        settings: SoftSettings,
        groups: Sequence[tuple[AdamMemory, AdamRates]],
        threads: int,
    ) -> SoftFigures:
        """Make an update: losses, gradients, the steps of Adam, and that of the target.

        It ends before the steps if a loss or the norm of the gradient is not finite.

        Args:
            batch: to learn from.
            settings: of the losses and of the target.
            groups: of parameters, and the rates of their steps; no gradient is clipped.
            threads: of the kernels.
        """
        burn_in = len(batch.seen) - len(batch.duration)
        length, count = batch.rewards.shape
        shape = burn_in, length, count, batch.state.shape[1]
        features = batch.seen.shape[2], batch.seen_by_critics.shape[2]
        figures = torch.full((len(SoftFigures._fields),), torch.nan, dtype=torch.float64)
        batch = SoftBatch(*plain(batch))
        self._learner.learn(
            (*shape, *features),
            addresses(batch),
            settings,
            [(adam.sizes, adam.addresses, rates) for adam, rates in groups],
            figures.data_ptr(),
            threads,
        )
        return SoftFigures(*figures.tolist())
