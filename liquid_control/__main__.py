"""Runs the command `liquid-control` as `python -m liquid_control`."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    # Python puts the working directory first, where files of strangers may lie. As in the command
    # `liquid-control`, it is searched only for modules that the user names.
    with suppress(FileNotFoundError):  # of a working directory that was deleted
        if not sys.flags.safe_path and sys.path[:1] == [str(Path.cwd())]:
            del sys.path[0]

    from liquid_control.cli import main

    sys.exit(main())
