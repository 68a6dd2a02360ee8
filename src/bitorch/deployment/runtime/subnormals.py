"""PyTorch's mode in which numbers below 2^-126 count as zero, which a packed program does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def are_flushed() -> bool:
    """Say whether this thread takes subnormal numbers for zero: `torch.set_flush_denormal(True)`."""
    return bool((torch.full((1,), 2.0**-140) * 1.0 == 0).item())


@contextmanager
def subnormals_kept() -> Iterator[None]:
    """Compute as IEEE 754 has it inside, as packed programs always do, and leave the thread's mode as it was.

    The mode is that of a thread, and threads inherit it, so inside this one computes alone.
    """
    if not are_flushed():
        yield
        return
    threads = torch.get_num_threads()
    torch.set_flush_denormal(False)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
