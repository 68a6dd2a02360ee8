from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

class Port(TypedDict):
    """An input or output of a program.

    `shape` is that of one image, and −1 stands for sizes that are open. `bits` is that of codes; of inputs of int32 and
    int64 it is how many indices there are, 0 … bits − 1.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    order: str
    bits: int

class Tensor(TypedDict):
    name: str
    dtype: str
    layout: str
    shape: tuple[int, ...]
    bits: int
    halo: tuple[int, int, int, int]

class Choice(TypedDict):
    kernel: str
    nanoseconds: float
    measured: bool

class Operation(TypedDict):
    op: str
    kernel: str
    inputs: list[str]
    outputs: list[Tensor]
    macs: int
    weight_bytes: int
    choices: list[Choice]

version: str
format_version: int
memory_limit: int

class Plans:
    def __init__(self, json: str, arrays: dict[str, NDArray[Any]], memory_limit: int | None = None) -> None: ...
    def is_open(self) -> bool: ...
    def at(self, shapes: list[tuple[int, ...]]) -> Program: ...
    def smallest(self) -> Program: ...
    def choices(self) -> list[tuple[tuple[int, int], ...]]: ...
    def inputs(self) -> list[Port]: ...
    def outputs(self) -> list[Port]: ...
    def count(self) -> int: ...
    def kept_bytes(self) -> int: ...

class Program:
    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]: ...
    def profile(self, inputs: list[NDArray[Any]], repeats: int) -> list[float]: ...
    def describe(self) -> list[Operation]: ...
    def workspace_bytes(self, batch: int) -> int: ...
    def kept_bytes(self) -> int: ...
    def kernels_name(self) -> str: ...

class LayerCall:
    """A program of one input, float32 as its outputs are, called with addresses, and the bytes that it was made of.

    `run` trusts its caller: x is of `batch` inputs, the first addresses have room for as many results of each output,
    and the others are of as many bytes as each array has. It returns 0; 1 where x holds a NaN; 2 and does nothing where
    the bytes are others.
    """

    def __init__(self, program: Program, arrays: list[NDArray[Any]]) -> None: ...
    def run(self, x: int, batch: int, /, *addresses: int) -> int: ...

#: The plans, the format's version, the operations and the info as JSON, the SHA-256.
Parts: TypeAlias = tuple[Plans, int, str, str, str]

#: Each operation, and the keys that its description may have besides "op", in the order of the alphabet.
def operations() -> dict[str, list[str]]: ...
def load_file(path: bytes, memory_limit: int) -> Parts: ...
def load_file_tuned(path: bytes, memory_limit: int, times: dict[str, float]) -> tuple[Parts, dict[str, float]]: ...
def load_bytes(bytes: bytes, memory_limit: int) -> Parts: ...
def available_kernels() -> list[str]: ...
def kernels_name() -> str: ...
def cpu_flags() -> list[str]: ...
def cpu_name() -> str: ...
def usable_cpus() -> int: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def pack_weights(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]: ...
def unpack_weights(packed: NDArray[np.uint8], bits: int, columns: int) -> NDArray[np.uint8]: ...

# Of steps of training: bitorch_runtime.training says what they compute. `kernel` "" is the default.
def training_kernels() -> list[str]: ...
def training_kernel(name: str) -> str: ...
def training_executor(address: int) -> None: ...
def training_forward(
    kernel: str,
    linear: bool,
    geometry: list[int],
    x: NDArray[np.float32],
    bits: int,
    low: int | None,
    codes: NDArray[np.int8] | NDArray[np.int16],
    scale: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    save: bool,
    masked: bool,
    out: tuple[NDArray[Any] | None, ...],
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None, bool]: ...
def training_forward_planes(
    kernel: str,
    linear: bool,
    geometry: list[int],
    bits: int,
    low: int | None,
    codes: NDArray[np.int8] | NDArray[np.int16],
) -> bool: ...
def training_backward(
    kernel: str,
    linear: bool,
    geometry: list[int],
    g: NDArray[np.float32],
    gradient_bits: int,
    has_zero: bool,
    key: list[int] | None,
    codes: NDArray[np.int8] | NDArray[np.int16],
    weight_scale: float,
    saved: NDArray[np.uint8],
    masked: bool,
    bits: int,
    low: int | None,
    input_scale: float,
    needs: list[bool],
    out: tuple[NDArray[Any] | None, ...],
    threads: int,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, NDArray[np.float32] | None]: ...
def training_codes(
    kernel: str, g: NDArray[np.float32], bits: int, has_zero: bool, key: list[int] | None, threads: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]: ...

# Convolutions of few channels: bitorch_runtime.few_channels says what they compute.
def few_channels_forward(
    kernel: str,
    geometry: list[int],
    x: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    out: NDArray[Any] | None,
    threads: int,
) -> NDArray[np.float32]: ...
def few_channels_backward(
    kernel: str,
    geometry: list[int],
    x: NDArray[np.float32],
    g: NDArray[np.float32],
    has_bias: bool,
    out: tuple[NDArray[Any] | None, ...],
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]: ...

# And of steps behind a BatchNorm: bitorch_runtime.training_norm.
def training_moments(
    kernel: str, y: NDArray[np.float32], channels: int, threads: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def training_norm_forward(
    kernel: str,
    linear: bool,
    geometry: list[int],
    norm_geometry: list[int],
    pools: bool,
    positive: bool,
    y: NDArray[np.float32],
    norm_scale: NDArray[np.float32],
    norm_shift: NDArray[np.float32],
    bits: int,
    codes: NDArray[np.int8] | NDArray[np.int16],
    scale: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    save: bool,
    out: tuple[NDArray[Any] | None, ...],
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None, NDArray[np.uint8] | None]: ...
def training_norm_backward(
    kernel: str,
    norm_geometry: list[int],
    pools: bool,
    dv: NDArray[np.float32],
    y: NDArray[np.float32],
    winners: NDArray[np.uint8] | None,
    mean: NDArray[np.float64],
    inverse: NDArray[np.float64],
    gamma: NDArray[np.float32] | None,
    out: tuple[NDArray[Any] | None, ...],
    threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]: ...
