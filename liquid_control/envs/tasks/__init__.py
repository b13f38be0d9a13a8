"""Tasks as functions of batched arrays: Gymnasium's MuJoCo v5 tasks, and what yours are made of."""

from __future__ import annotations

from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.humanoidstandup_v5 import HumanoidStandupEnv
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from liquid_control.envs.tasks.ant import Ant
from liquid_control.envs.tasks.arms import Pusher, Reacher
from liquid_control.envs.tasks.humanoids import Humanoid, HumanoidStandup
from liquid_control.envs.tasks.pendulums import InvertedDoublePendulum, InvertedPendulum
from liquid_control.envs.tasks.runners import HalfCheetah, Swimmer
from liquid_control.envs.tasks.task import Task
from liquid_control.envs.tasks.walkers import Hopper, Walker2d

GYMNASIUM: dict[type[MujocoEnv], type[Task]] = {
    AntEnv: Ant,
    HalfCheetahEnv: HalfCheetah,
    HopperEnv: Hopper,
    HumanoidEnv: Humanoid,
    HumanoidStandupEnv: HumanoidStandup,
    InvertedDoublePendulumEnv: InvertedDoublePendulum,
    InvertedPendulumEnv: InvertedPendulum,
    PusherEnv: Pusher,
    ReacherEnv: Reacher,
    SwimmerEnv: Swimmer,
    Walker2dEnv: Walker2d,
}
"""Gymnasium's tasks, and the same as functions of batched arrays."""

__all__ = ["GYMNASIUM", "Task"]
