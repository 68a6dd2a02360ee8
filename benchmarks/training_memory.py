"""Bytes that a training step takes: of PyTorch's allocator, and of the process. Imports nothing but torch."""

from __future__ import annotations

from collections.abc import Callable

import torch


def resident_bytes(field: str) -> int:
    """Return VmRSS (now) or VmHWM (peak) of this process, which Linux counts."""
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))


def peak_allocated(step: Callable[[], object]) -> int:
    """Return the most bytes that PyTorch's allocator holds during a step, over what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    # profiler.events() leaves out the allocations that belong to an operator, so the records behind it are read.
    assert profiler.profiler is not None
    records = profiler.profiler.kineto_results.events()
    changes = sorted((r.start_ns(), r.nbytes()) for r in records if r.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
