"""Policies as files for robots, from a description that does not depend on a framework."""

from liquid_control.export.description import ExportError
from liquid_control.export.folder import export_policy
from liquid_control.export.policies import describe_policy
from liquid_control.export.verification import verify_folder

__all__ = ["ExportError", "describe_policy", "export_policy", "verify_folder"]
