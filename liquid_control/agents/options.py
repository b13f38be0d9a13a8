"""Options of LiquidPPO and LiquidSAC that a recipe can set, with their defaults and bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from annotated_types import Ge, Le
from stable_baselines3.common.type_aliases import Schedule

from liquid_control.policies.options import (
    FINITE,
    CircuitOptions,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    PositiveFloat,
    PositiveInt,
)

Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
Rate: TypeAlias = NonNegativeFloat | Schedule
PositiveRate: TypeAlias = PositiveFloat | Schedule
Coefficient: TypeAlias = Annotated[float, Ge(0), FINITE]
LearningRate: TypeAlias = Coefficient | Schedule
TrainFreq: TypeAlias = tuple[PositiveInt, str]
DeviceName: TypeAlias = Annotated[str, "device"]


@dataclass(frozen=True, kw_only=True)
class AgentOptions(Options):
    """Options of both agents."""

    learning_rate: LearningRate = 3e-4
    gamma: Share = 0.99
    stats_window_size: PositiveInt = 100
    device: torch.device | DeviceName = "auto"
    normalize_observations: bool = CircuitOptions.normalize_observations

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device != "auto":
            _check_device(self.device)


def _check_device(name: torch.device | str) -> None:
    """Raise ValueError for a missing device; SB3 would use the CPU instead."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or another PyTorch device, got {name!r}"
        ) from error
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(str(name).partition(":")[2] or 0)  # PyTorch keeps the last byte of it
    if device.type == "cuda" and not 0 <= index < gpus:
        found = f"CUDA finds {gpus} GPUs here" if gpus else "CUDA finds no GPU here"
        raise ValueError(f'device {str(name)!r} is missing: {found}; use "cpu" or "auto"')


def _check_text(name: str, value: float | str, prefix: str = "", least: float = -math.inf) -> None:
    """Raise a ValueError if a string is neither "auto" nor a finite number after a prefix."""
    if isinstance(value, str) and value != "auto":
        try:
            number = float(value.removeprefix(prefix))
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= least):
            started = f", '{prefix}0.1'" if prefix else ""
            bound = "" if least == -math.inf else f" of at least {least:g}"
            raise ValueError(f"{name} must be 'auto'{started} or a number{bound}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class PPOOptions(AgentOptions):
    """Options of `LiquidPPO`, described there."""

    n_steps: PositiveInt = 2048
    batch_size: PositiveInt | None = None
    n_epochs: PositiveInt = 10
    gae_lambda: Share = 0.95
    clip_range: Rate = 0.2
    clip_range_vf: PositiveRate | None = None
    normalize_advantage: bool = True
    ent_coef: FiniteFloat = 0.0
    vf_coef: Coefficient = 0.5
    max_grad_norm: PositiveFloat = 0.5
    target_kl: PositiveFloat | None = None
    sequence_length: PositiveInt | None = None
    recurrent_learning_rate: LearningRate | None = None
    normalize_returns: bool = True


@dataclass(frozen=True, kw_only=True)
class SACOptions(AgentOptions):
    """Options of `LiquidSAC`, described there."""

    buffer_size: PositiveInt = 1_000_000
    learning_starts: NonNegativeInt = 100
    batch_size: PositiveInt = 1024
    tau: Share = 0.005
    train_freq: PositiveInt | TrainFreq = 1
    gradient_steps: Annotated[int, Ge(-1)] = 1
    ent_coef: Coefficient | str = "auto"
    target_update_interval: PositiveInt = 1
    target_entropy: FiniteFloat | str = "auto"
    sequence_length: PositiveInt = 32
    burn_in: NonNegativeInt = 16
    recurrent_learning_rate: LearningRate | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_text("ent_coef", self.ent_coef, "auto_", least=0)
        _check_text("target_entropy", self.target_entropy)
