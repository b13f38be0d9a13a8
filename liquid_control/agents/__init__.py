"""Agents that train recurrent policies at any control rate."""

from liquid_control.agents.logs import ResumableLogger
from liquid_control.agents.ppo import LiquidPPO
from liquid_control.agents.resuming import ResumeCallback
from liquid_control.agents.sac import LiquidSAC
from liquid_control.agents.window_replay import WindowReplayBuffer

__all__ = ["LiquidPPO", "LiquidSAC", "ResumableLogger", "ResumeCallback", "WindowReplayBuffer"]
