"""Runs the command `liquid-control` as `python -m liquid_control`."""

from __future__ import annotations

import sys

from liquid_control.cli import main

if __name__ == "__main__":
    sys.exit(main())
