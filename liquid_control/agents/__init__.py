"""Agents that train recurrent policies at any control rate."""

from liquid_control.agents.ppo import LiquidPPO

__all__ = ["LiquidPPO"]
