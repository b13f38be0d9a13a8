"""Sparse, wired circuits of liquid neurons as recurrent policies for robots in simulation."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from liquid_control import envs
    from liquid_control.agents import LiquidPPO, LiquidSAC, WindowReplayBuffer, WorkerVecEnv
    from liquid_control.commands.controller import load_controller
    from liquid_control.policies import (
        LiquidExtractor,
        LiquidPolicy,
        LiquidRecurrentPolicy,
        SoftLiquidPolicy,
    )

__version__ = "0.2.0"

__all__ = [
    "LiquidExtractor",
    "LiquidPPO",
    "LiquidPolicy",
    "LiquidSAC",
    "SoftLiquidPolicy",
    "WindowReplayBuffer",
    "WorkerVecEnv",
    "__version__",
    "envs",
    "load_controller",
]
if find_spec("sb3_contrib"):  # an extra
    __all__ += ["LiquidRecurrentPolicy"]

if not TYPE_CHECKING:
    # Where the public names are. They are imported when they are first used, because PyTorch and
    # MuJoCo take seconds, and parts of the package do without them.
    _PLACES = {
        "LiquidExtractor": "policies",
        "LiquidPPO": "agents",
        "LiquidPolicy": "policies",
        "LiquidRecurrentPolicy": "policies",
        "LiquidSAC": "agents",
        "SoftLiquidPolicy": "policies",
        "WindowReplayBuffer": "agents",
        "WorkerVecEnv": "agents",
        "load_controller": "commands.controller",
    }
    _PARTS = ("agents", "checkpoints", "envs", "kernels", "neurons", "policies", "wiring")

    def __getattr__(name: str) -> object:
        """Import a public name, or a part of the package."""
        if name in _PARTS:
            return import_module(f"{__name__}.{name}")
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            module = import_module(f"{__name__}.{_PLACES[name]}")
        except AttributeError as error:  # `from liquid_control import ...` would hide it
            raise ImportError(f"{__name__}.{_PLACES[name]} cannot be imported: {error}") from error
        value = globals()[name] = getattr(module, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_PARTS})
