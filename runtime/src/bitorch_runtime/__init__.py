"""Low-bit neural networks on CPUs, computed on integers and exact to the bit. Needs NumPy only."""

from bitorch_runtime import format, reference
from bitorch_runtime._native import version as __version__
from bitorch_runtime.cpu import cpu, get_num_threads, set_num_threads
from bitorch_runtime.layers import Conv2d, Linear
from bitorch_runtime.model import Model, load, save
from bitorch_runtime.packing import pack_weights, unpack_weights
from bitorch_runtime.profiling import Profile
from bitorch_runtime.program import Program

__all__ = [
    "Conv2d",
    "Linear",
    "Model",
    "Profile",
    "Program",
    "__version__",
    "cpu",
    "format",
    "get_num_threads",
    "load",
    "pack_weights",
    "reference",
    "save",
    "set_num_threads",
    "unpack_weights",
]
