"""Exported policies on a robot. Nothing here imports PyTorch."""

from liquid_control.deploy.c_policy import CPolicy, compile_c
from liquid_control.deploy.metadata import Metadata

__all__ = ["CPolicy", "Metadata", "compile_c"]
