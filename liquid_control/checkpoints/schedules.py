"""Schedules of SB3, such as learning rates, as JSON and back."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

UNKNOWN = {"kind": "function"}
"""A schedule that a file cannot hold; whoever loads it has to say what it is."""


def schedule_to_json(schedule: Any) -> Any:
    """A number, None, or a schedule that interpolates linearly; `UNKNOWN` for other functions."""
    match schedule:
        case FloatSchedule():
            return schedule_to_json(schedule.value_schedule)
        case ConstantSchedule():
            return float(schedule.val)
        case LinearSchedule():
            ends = {"start": schedule.start, "end": schedule.end}
            return {"kind": "linear", **ends, "end_fraction": schedule.end_fraction}
    return UNKNOWN if callable(schedule) else schedule


def schedule_from_json(data: Any) -> Any:
    """What `schedule_to_json` was given; data that is no schedule as it is."""
    if isinstance(data, dict) and data.get("kind") == "linear":
        return LinearSchedule(float(data["start"]), float(data["end"]), float(data["end_fraction"]))
    return data
