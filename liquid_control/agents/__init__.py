"""Agents that train recurrent policies at any control rate."""

from liquid_control.agents.ppo import LiquidPPO
from liquid_control.agents.sac import LiquidSAC
from liquid_control.checkpoints.checkpoint_callback import ResumeCallback
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.collectors.worker_env import WorkerVecEnv
from liquid_control.storage.window_replay import WindowReplayBuffer

__all__ = [
    "LiquidPPO",
    "LiquidSAC",
    "ResumableLogger",
    "ResumeCallback",
    "WindowReplayBuffer",
    "WorkerVecEnv",
]
