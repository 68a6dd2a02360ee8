"""Low-bit neural networks on CPUs, computed on integers and exact to the bit. Needs NumPy only."""

from bitorch_runtime import reference
from bitorch_runtime.cpu import cpu, get_num_threads, set_num_threads
from bitorch_runtime.layers import Conv2d, Linear
from bitorch_runtime.packing import pack_weights, unpack_weights
from bitorch_runtime.program import Program

__all__ = [
    "Conv2d",
    "Linear",
    "Program",
    "cpu",
    "get_num_threads",
    "pack_weights",
    "reference",
    "set_num_threads",
    "unpack_weights",
]
