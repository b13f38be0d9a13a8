"""Batched implementations of Gymnasium's MuJoCo v5 tasks, and the interface of a task."""

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

from liquid_control.envs.tasks.arms import Pusher, Reacher
from liquid_control.envs.tasks.humanoids import Humanoid, HumanoidStandup
from liquid_control.envs.tasks.locomotion import Ant, HalfCheetah, Hopper, Swimmer, Walker2d
from liquid_control.envs.tasks.pendulums import InvertedDoublePendulum, InvertedPendulum
from liquid_control.envs.tasks.task import Simulations, Task

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
"""Gymnasium's tasks and their batched implementations."""

__all__ = ["GYMNASIUM", "Simulations", "Task"]
