"""MuJoCo tasks with variable control rates and partial observations."""

from __future__ import annotations

from liquid_control.envs.actuators import RateLimit
from liquid_control.envs.batched import BatchedVecEnv
from liquid_control.envs.bodies import Randomize
from liquid_control.envs.check import check_env
from liquid_control.envs.conditioned import Conditioned
from liquid_control.envs.conditions import Conditions, conditions_from
from liquid_control.envs.delay import Delay
from liquid_control.envs.events import Change, Push
from liquid_control.envs.factory import SerialVecEnv, make, make_vec
from liquid_control.envs.intervals import (
    Chosen,
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
from liquid_control.envs.sensors import Age, Dropout, Noise, Quantize
from liquid_control.envs.step_for import StepFor
from liquid_control.envs.task_env import register
from liquid_control.envs.tasks import Simulations, Task
from liquid_control.envs.variable_rate import VariableRate
from liquid_control.envs.window import VecWindow

__all__ = [
    "Age",
    "BatchedVecEnv",
    "Change",
    "Chosen",
    "Conditioned",
    "Conditions",
    "Delay",
    "Dropout",
    "DroppedFrames",
    "Endpoints",
    "Fixed",
    "Interval",
    "Jitter",
    "LogUniform",
    "Noise",
    "ObserveOnly",
    "PerEpisode",
    "Push",
    "Quantize",
    "Randomize",
    "RateLimit",
    "SerialVecEnv",
    "Simulations",
    "StepFor",
    "Task",
    "Trace",
    "Uniform",
    "VariableRate",
    "VecWindow",
    "check_env",
    "conditions_from",
    "interval_from",
    "make",
    "make_vec",
    "register",
]
