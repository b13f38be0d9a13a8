"""SB3 policies built on wired circuits."""

from liquid_control.policies.liquid import LiquidPolicy

__all__ = ["LiquidPolicy"]
