"""Exported policies on a robot. Nothing here imports PyTorch."""

from liquid_control.deploy.c_policy import CompilerError, CPolicy, compile_c
from liquid_control.deploy.control_loop import ControlLoop
from liquid_control.deploy.log import read_log
from liquid_control.deploy.metadata import Metadata
from liquid_control.deploy.onnx_policy import OnnxPolicy

__all__ = [
    "CPolicy",
    "CompilerError",
    "ControlLoop",
    "Metadata",
    "OnnxPolicy",
    "compile_c",
    "read_log",
]
