"""Whose threads the runtime's training kernels compute on: PyTorch's own, where these can be called.

A second pool beside PyTorch's would wait for its cores: OpenMP's threads keep spinning for a while after each operator.
So the runtime gets the function that starts them, GOMP_parallel of the libgomp that comes with PyTorch's wheels for
Linux. Elsewhere (macOS, Windows, a PyTorch built with another OpenMP) it has threads of its own.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

from .packed_programs import runtime


@cache
def share_threads() -> bool:
    """Let the training kernels compute on PyTorch's threads, and say whether they do."""
    runtime()  # where it is missing, an error that says so
    from bitorch_runtime import training

    address = parallel_function()
    training.set_executor(address)
    return address is not None


def parallel_function() -> int | None:
    """Return the address of GOMP_parallel in the libgomp that PyTorch computes with; None where there is none."""
    libraries = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    if len(libraries) != 1 or "OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        function = ctypes.CDLL(str(libraries[0])).GOMP_parallel
    except (OSError, AttributeError):  # not for this machine, or without that function
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
