"""Kernels to test, and settings that tests change and that others need as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from liquid_control.kernels import extension


@pytest.fixture
def kernels() -> None:
    """Skip a test where there are no kernels: PyTorch would be compared with itself."""
    if extension.load() is None:
        pytest.skip("no compiled kernels")


@pytest.fixture
def thread_count() -> Iterator[None]:
    """Give PyTorch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
