"""Settings that every test runs under."""

from __future__ import annotations

import os

# Read when the libraries load. Tests run tiny tensors: more threads only make them wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# The same examples in every run, and no deadline: shared machines are not punctual.
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed what a test draws without a seed of its own, whichever tests ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # of SB3 and of environments
