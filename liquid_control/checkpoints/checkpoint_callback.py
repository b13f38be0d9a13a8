"""A callback that saves checkpoints for exact resumption."""

from __future__ import annotations

from numbers import Real
from pathlib import Path

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.checkpoints.saved_agent import SavedAgent
from liquid_control.checkpoints.signals import StopRequest


def check_every(every: float) -> None:
    """Raise an error unless a callback may act once every `every` control steps."""
    if not isinstance(every, Real) or isinstance(every, bool):
        raise TypeError(f"every must be a number of control steps, got {every!r}")
    if not every >= 1:  # so is NaN
        raise ValueError(f"every must be at least one control step, got {every}")


class ResumeCallback(BaseCallback):
    """Saves a checkpoint before the first rollout, and then every `every` control steps.

    After a stop request it saves, and ends `learn` at the next step, which a resumed training
    repeats. The agent with the best mean return of recent episodes is saved as `best.zip`.

    Args:
        manager: of the checkpoints, or their folder.
        every: control steps between checkpoints, over all environments.
        stop: from `stop_on_signals`.

    Attributes:
        stopped: whether it ended the training.

    Raises:
        ValueError: when `learn` begins: the folder holds checkpoints of a longer training.
    """

    model: SavedAgent

    def __init__(
        self, manager: CheckpointManager | Path | str, every: int, stop: StopRequest | None = None
    ) -> None:
        super().__init__()
        check_every(every)
        self.manager = (
            manager if isinstance(manager, CheckpointManager) else CheckpointManager(manager)
        )
        self.every, self.stop = every, stop
        self.stopped = False

    def _on_training_start(self) -> None:
        self.manager.check_newest(self.num_timesteps)
        self._last = self.num_timesteps
        self._best = self.manager.best_score()

    def _on_rollout_start(self) -> None:
        self.stopped = bool(self.stop)
        due = self.num_timesteps // self.every > self._last // self.every
        if due or self.stopped or not self.manager.paths():
            self._last = self.num_timesteps
            self.manager.save(self.num_timesteps, self.model.state_dict(training=True))
            self._save_best()

    def _on_step(self) -> bool:
        return not self.stopped

    def _save_best(self) -> None:
        episodes = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        if episodes and (score := float(np.mean(episodes))) > self._best:
            self._best = score
            self.manager.save_best(score, self.model.state_dict())
