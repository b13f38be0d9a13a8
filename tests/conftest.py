"""Settings that every test runs under."""

from __future__ import annotations

import gc
import os

# Read when the libraries load. Tests run tiny tensors: more threads only make them wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
gc.disable()  # until the tests are collected, as almost nothing of that is garbage

# `torch.manual_seed` seeds devices too; for one that is absent it formats a stack trace each time.
for device in (torch.cuda, torch.xpu, torch.mtia):
    if not device.is_available():
        device.manual_seed_all = lambda seed: None

# The same examples in every run, and no deadline: shared machines are not punctual.
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lasts as long as the tests: modules, and the tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed what a test draws without a seed of its own, whichever tests ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # of SB3 and of environments
