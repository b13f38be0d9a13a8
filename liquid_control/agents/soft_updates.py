"""Updates of LiquidSAC in the compiled kernels."""

from __future__ import annotations

import torch

from liquid_control.kernels import extension
from liquid_control.kernels.learning import AdamMemory, AdamRates, clipped_adam
from liquid_control.kernels.soft_learner import SoftBatch, SoftFigures, SoftSettings
from liquid_control.policies.fused_soft import FusedSoftPolicy
from liquid_control.policies.optimizer import AdamGroups
from liquid_control.policies.soft import SoftLiquidPolicy
from liquid_control.storage.replay import Sequences


class SoftUpdates:
    """What the kernels do in the updates of one agent; copies begin anew."""

    def __init__(self) -> None:
        self._fused: FusedSoftPolicy | None = None
        self._groups: list[tuple[AdamMemory, AdamRates]] = []
        self._of_policy, self._of_ent_coef = AdamGroups(), AdamGroups()

    def __reduce__(self) -> tuple[type[SoftUpdates], tuple[()]]:
        """Leave addresses in memory out of copies."""
        return SoftUpdates, ()

    def begin(self, policy: SoftLiquidPolicy) -> bool:
        """Return whether the kernels make the next updates of a policy; never the first one.

        As long as nothing but they change the policy, `update` may follow any number of times.
        """
        earlier, self._fused = self._fused, None
        if self._of_policy.has_begun(policy.optimizer):
            self._fused = FusedSoftPolicy.of(policy, earlier)
        groups = None if self._fused is None else self._of_policy.of(policy.optimizer)
        self._groups = groups or []
        return groups is not None

    def update(self, sequences: Sequences, settings: SoftSettings, threads: int) -> SoftFigures:
        """Make an update, with new noise for the actions; see `SoftLearner.learn`."""
        assert self._fused is not None
        seen = self._fused.seen(
            sequences.features,
            sequences.elapsed_time,
            sequences.episode_start,
            sequences.previous_actions,
        )
        batch = SoftBatch(
            *seen,
            sequences.state,
            sequences.actions,
            sequences.rewards,
            sequences.terminated,
            sequences.mask,
            sequences.duration,
            torch.randn(
                *sequences.duration.shape,
                sequences.actions.shape[-1],
                dtype=torch.float32,
                device="cpu",
            ),
        )
        return self._fused.learner.learn(batch, settings, self._groups, threads)

    def step_ent_coef(self, optimizer: torch.optim.Optimizer) -> None:
        """Make a step of the entropy coefficient's optimizer, in PyTorch if it is the first."""
        module, groups = extension.load(), self._of_ent_coef.of(optimizer)
        if module is None or groups is None:
            optimizer.step()
            return
        for memory, rates in groups:
            clipped_adam(module, memory, rates)
