"""Kernels to test, and settings that are restored after a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from liquid_control.kernels import extension


@pytest.fixture
def kernels() -> None:
    """Skip a test without kernels, which would compare PyTorch with itself."""
    if extension.load() is None:
        pytest.skip("no compiled kernels")


@pytest.fixture
def thread_count() -> Iterator[None]:
    """Restore PyTorch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
