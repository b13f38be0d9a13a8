"""How many threads PyTorch uses beside the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[int]:
    """Let PyTorch use one thread in this context, which gets the number that it used before.

    Its other threads stay busy for a while after each operation, and would keep processors from
    those of the kernels.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
