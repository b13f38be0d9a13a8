"""Sentences about the results of a study."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from liquid_control.monitoring.report.page import number
from liquid_control.sweeps.analysis import RateCurve, Reached
from liquid_control.sweeps.statistics import FEW, Estimate


def bold_in_words(sure: bool, others: Sequence[Estimate]) -> str:
    """Return why the best of a table is bold, or why it is not."""
    if not others:
        return ""
    if sure:
        return "The best is bold because its interval lies above all others."
    return f"None is bold: no interval of {FEW} runs or more lies above all others."


def estimate_in_words(each: Estimate) -> str:
    """Return an estimate with its interval, if it has one, and the number of runs."""
    runs = f"{each.runs} run{'s' if each.runs > 1 else ''}"
    if math.isnan(each.low):
        return f"{number(each.value)} ({runs})"
    return f"{number(each.value)} ({number(each.low)} to {number(each.high)}, {runs})"


def rates_in_words(curves: Sequence[RateCurve]) -> str:
    """Return the returns at each control rate."""
    return ", ".join(
        f"{curve.variant} "
        + " and ".join(
            f"{number(each.value)} at {number(1 / interval)} Hz"
            for interval, each in zip(curve.intervals, curve.estimates, strict=True)
        )
        for curve in curves
    )


def reached_in_words(rows: Sequence[Reached]) -> str:
    """Return the median steps to a threshold, or how many runs reached it."""
    return ", ".join(
        f"{each.variant} in {number(float(np.median(each.steps)))} steps"
        if math.isfinite(np.median(each.steps))
        else f"{each.variant} in {each.successes} of {len(each.steps)} runs"
        for each in rows
    )


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return names as a list in words; long lists are shortened."""
    first = list(names[:most])
    if more := len(names) - len(first):
        return f"{', '.join(first)} and {more} more"
    return " and ".join(filter(None, (", ".join(first[:-1]), *first[-1:])))
