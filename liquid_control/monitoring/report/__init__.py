"""Reports of trained agents, as HTML pages."""

from liquid_control.monitoring.report.inspection import report_on

__all__ = ["report_on"]
