"""What tests that run a user's modules leave behind in this process, taken back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import torch


@contextmanager
def imports_undone(folder: Path) -> Iterator[None]:
    """Forget the modules that are imported from a folder, and the tasks that they register."""
    path, modules, tasks = [*sys.path], {*sys.modules}, {*gym.registry}
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in {*sys.modules} - modules:
            where = getattr(sys.modules[name], "__file__", None)
            if where and Path(where).is_relative_to(folder):
                del sys.modules[name]
        for name in {*gym.registry} - tasks:
            del gym.registry[name]
        torch.set_num_threads(threads)
