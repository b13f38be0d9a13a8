"""Sparse, wired circuits of liquid neurons as recurrent policies for robots in simulation."""

from typing import TYPE_CHECKING

from liquid_control import envs, policies
from liquid_control.agents import LiquidPPO, LiquidSAC, WindowReplayBuffer
from liquid_control.policies import LiquidExtractor, LiquidPolicy, SoftLiquidPolicy

if TYPE_CHECKING:
    from liquid_control.commands.controller import load_controller
    from liquid_control.policies import LiquidRecurrentPolicy

__version__ = "0.1.0"

__all__ = [
    "LiquidExtractor",
    "LiquidPPO",
    "LiquidPolicy",
    "LiquidSAC",
    "SoftLiquidPolicy",
    "WindowReplayBuffer",
    "__version__",
    "envs",
    "load_controller",
]
if "LiquidRecurrentPolicy" in policies.__all__:  # requires sb3-contrib
    __all__ += ["LiquidRecurrentPolicy"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import on first access what needs more than training does."""
        if name == "load_controller":
            from liquid_control.commands.controller import load_controller

            return load_controller
        if name != "LiquidRecurrentPolicy":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return policies.LiquidRecurrentPolicy

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
