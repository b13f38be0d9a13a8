"""MuJoCo tasks with variable control rates and partial observations."""

from __future__ import annotations

from liquid_control.envs.batched import BatchedVecEnv
from liquid_control.envs.factory import SerialVecEnv, make, make_vec
from liquid_control.envs.intervals import (
    DroppedFrames,
    Endpoints,
    Fixed,
    Interval,
    Jitter,
    LogUniform,
    PerEpisode,
    Trace,
    Uniform,
    interval_from,
)
from liquid_control.envs.observe_only import ObserveOnly
from liquid_control.envs.task_env import register
from liquid_control.envs.tasks import Simulations, Task
from liquid_control.envs.variable_rate import VariableRate
from liquid_control.envs.window import VecWindow

__all__ = [
    "BatchedVecEnv",
    "DroppedFrames",
    "Endpoints",
    "Fixed",
    "Interval",
    "Jitter",
    "LogUniform",
    "ObserveOnly",
    "PerEpisode",
    "SerialVecEnv",
    "Simulations",
    "Task",
    "Trace",
    "Uniform",
    "VariableRate",
    "VecWindow",
    "interval_from",
    "make",
    "make_vec",
    "register",
]
