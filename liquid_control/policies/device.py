"""The device that "auto" stands for."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.utils import get_device

from liquid_control.policies.observations import image_spaces


def choose_device(name: torch.device | str, space: spaces.Space[Any] | None) -> torch.device | str:
    """Return the device `name`; "auto" is the CPU, or as in SB3 for observations with images.

    In SB3, "auto" is a GPU if there is one. Small circuits train many times faster in the compiled
    kernels, which run on the CPU (docs/results/speed.md).

    Args:
        name: of a device, or "auto".
        space: of the observations; None before it is known.
    """
    if name != "auto":
        return name
    return get_device("auto") if space is not None and image_spaces(space) else torch.device("cpu")
