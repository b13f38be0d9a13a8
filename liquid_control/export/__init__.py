"""Policies as files for robots: a description without a framework, and what is made of it."""

from liquid_control.export.description import ExportError
from liquid_control.export.folder import export_policy, verify_folder
from liquid_control.export.policies import describe_policy

__all__ = ["ExportError", "describe_policy", "export_policy", "verify_folder"]
