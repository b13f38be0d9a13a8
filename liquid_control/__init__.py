"""Sparse, wired circuits of liquid neurons as recurrent policies for robots in simulation."""

from liquid_control import envs, kernels
from liquid_control.agents import LiquidPPO
from liquid_control.policies import LiquidPolicy

__version__ = "0.1.0"

kernels.plug_in()

__all__ = ["LiquidPPO", "LiquidPolicy", "__version__", "envs"]
