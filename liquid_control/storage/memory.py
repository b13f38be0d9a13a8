"""The machine's memory."""

from __future__ import annotations

import math
import os


def memory_of_machine() -> float:
    """Return the bytes of memory of this machine, or infinity if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return math.inf


def gigabytes(count: float) -> str:
    """Return a number of bytes as text."""
    return f"{count / 1e9:,.1f} GB"
