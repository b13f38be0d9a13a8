"""SB3 policies built on wired circuits."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from liquid_control.policies.controller import Controller
from liquid_control.policies.extractor import LiquidExtractor
from liquid_control.policies.liquid import LiquidPolicy
from liquid_control.policies.soft import SoftLiquidPolicy

if TYPE_CHECKING:
    from liquid_control.policies.recurrent import LiquidRecurrentPolicy

__all__ = ["Controller", "LiquidExtractor", "LiquidPolicy", "SoftLiquidPolicy"]
if find_spec("sb3_contrib"):  # an extra
    __all__ += ["LiquidRecurrentPolicy"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import `LiquidRecurrentPolicy`, which needs sb3-contrib, on first use."""
        if name != "LiquidRecurrentPolicy":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from liquid_control.policies.recurrent import LiquidRecurrentPolicy

        return LiquidRecurrentPolicy
