"""Checks for NaN and infinity in collected steps, before they reach a weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LARGEST = float(np.finfo(np.float32).max)  # circuits compute in single precision


class NotFinite(ValueError):  # noqa: N818  # reads well in tracebacks
    """A number of one environment is NaN or infinite.

    Attributes:
        quantity: its name.
        environment: its index.
        timesteps: of the training.
        observation: the last one of all environments, where the agent has forgotten it.
    """

    def __init__(self, quantity: str, environment: int, step: int | None, timesteps: int) -> None:
        where = "" if step is None else f"at step {step} of the rollout, "
        super().__init__(
            f"{quantity} of environment {environment} not finite {where}after {timesteps} "
            "timesteps; no weight was changed by it. Check the environment, or lower the learning "
            "rate"
        )
        self.quantity, self.environment, self.timesteps = quantity, environment, timesteps
        self.observation: Any = None
        self._step = step

    def shifted(self, first: int) -> NotFinite:
        """Return the error with environments numbered from `first`."""
        return NotFinite(self.quantity, first + self.environment, self._step, self.timesteps)

    def __reduce__(self) -> tuple[type[NotFinite], tuple[str, int, int | None, int]]:
        """Return the arguments to construct it in other processes."""
        return NotFinite, (self.quantity, self.environment, self._step, self.timesteps)


def check_observation(observation: Any, step: int | None, timesteps: int) -> None:
    """Raise a NotFinite if an observation of several environments is not finite as float32.

    Args:
        observation: (num_envs, ...), or a dict of such arrays.
        step: of the rollout, for the message; None where there are no rollouts.
        timesteps: of the training, for the message.
    """
    parts = observation if isinstance(observation, dict) else {"observation": observation}
    for name, values in parts.items():
        check_each(name, values, step, timesteps)


def check_each(name: str, values: NDArray[Any], step: int | None, timesteps: int) -> None:
    """Raise a NotFinite if values (num_envs, ...) of environments are not finite as float32."""
    is_half = values.dtype == np.float16  # which cannot hold the bound
    finite = np.isfinite(values) if is_half else np.abs(values) <= _LARGEST
    if not finite.all():
        raise NotFinite(name, int(np.argwhere(~finite)[0, 0]), step, timesteps)


def check_column(name: str, column: Tensor, timesteps: int) -> None:
    """Raise `NotFinite` if a rollout's column (steps, num_envs, ...) holds NaN or infinity."""
    finite = torch.isfinite(column.reshape(*column.shape[:2], -1)).all(dim=-1)
    if not finite.all():
        step, env = (int(index) for index in torch.nonzero(~finite)[0])
        raise NotFinite(name, env, step, timesteps)


def check_step(name: str, values: Tensor, timesteps: int) -> None:
    """Raise `NotFinite` if one step's values (num_envs, ...) hold NaN or infinity."""
    finite = torch.isfinite(values.reshape(len(values), -1)).all(dim=-1)
    if not finite.all():
        raise NotFinite(name, int(torch.nonzero(~finite)[0]), None, timesteps)
