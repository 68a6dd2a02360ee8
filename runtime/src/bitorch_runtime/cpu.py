"""Which CPU this is, which kernels it runs, and how many threads work."""

from __future__ import annotations

import os
from typing import TypedDict

from bitorch_runtime import _native


class CPU(TypedDict):
    """What :func:`cpu` returns."""

    name: str
    flags: list[str]
    kernels: list[str]
    kernel: str
    reason: str
    cpus: int
    threads: int


def cpu() -> CPU:
    """Describe this CPU and the choice of kernels.

    Returns:
        A dict with the keys

        - ``name``: the CPU as its maker calls it, or ``"unknown"``
        - ``flags``: those of its instruction sets that kernels make use of
        - ``kernels``: the kernels that it can run, slowest first
        - ``kernel``: the one in use
        - ``reason``: why that one, ``"BITORCH_KERNEL"`` or ``"fastest of portable, avx2, ..."``
        - ``cpus``: how many CPUs this process may use (affinity and cgroup quota)
        - ``threads``: how many threads a program uses

    Raises:
        ValueError: the environment variable ``BITORCH_KERNEL`` names kernels that do not exist or that this CPU lacks.
    """
    kernels = _native.available_kernels()
    chosen = _native.kernels_name()
    named = os.environ.get("BITORCH_KERNEL", "") == chosen
    return CPU(
        name=_native.cpu_name(),
        flags=_native.cpu_flags(),
        kernels=kernels,
        kernel=chosen,
        reason="BITORCH_KERNEL" if named else f"fastest of {', '.join(kernels)}",
        cpus=_native.usable_cpus(),
        threads=_native.get_num_threads(),
    )


def set_num_threads(n: int) -> None:
    """Set how many threads each call of a program uses, from now on and in all programs.

    Args:
        n: 1 to 256; the caller is one of them, so that 1 starts no thread.

    Raises:
        ValueError: `n` is out of range.
        TypeError: `n` is no integer.
    """
    if isinstance(n, bool):
        raise TypeError(f"n={n}: the number of threads must be an int")
    try:
        _native.set_num_threads(n)
    except TypeError:
        if isinstance(n, int):  # beyond the C++ integer
            raise ValueError(f"n={n}: the number of threads must be from 1 to 256") from None
        raise TypeError(f"n={n!r}: the number of threads must be an int") from None


def get_num_threads() -> int:
    """Return how many threads a program uses.

    By default as many as the CPUs that this process may use: its affinity mask, or its cgroup's quota if lower.
    """
    return _native.get_num_threads()
