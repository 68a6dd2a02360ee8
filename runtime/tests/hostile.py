"""Small files that ask for as much memory, or as much time, as they can: for every operation there is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bitorch_runtime import format

Array = np.ndarray[Any, Any]
Operation = dict[str, Any]
#: Operations, and the arrays that they share.
Hostile = tuple[list[Operation], dict[str, Array]]

#: Half a megabyte: the other half of a file of one megabyte describes operations.
SHARED = 2**19
WINDOW = {"stride": [1, 1], "padding": [0, 0, 0, 0]}
CONV = {**WINDOW, "dilation": [1, 1], "groups": 1, "kernel_size": [1, 1]}


LAYERS = ("conv2d", "conv_transpose", "linear", "conv2d_float", "conv_transpose_float", "linear_float")


def floats(channels: int, height: int = 1, width: int = 1) -> list[Operation]:
    """One channel from outside, padded to a tensor "x"."""
    start: Operation = {"op": "input", "output": "in", "dtype": "float32", "shape": [1, height, width], "order": "nchw"}
    pad = {
        "op": "pad",
        "input": "in",
        "output": "x",
        "padding": [0] * 4,
        "mode": "constant",
        "channels": [0, channels - 1],
    }
    return [start, pad]


def codes(channels: int, height: int = 1, width: int = 1, bits: int = 1) -> list[Operation]:
    shape = [channels, height, width]
    return [{"op": "input", "output": "x", "dtype": "uint8", "bits": bits, "shape": shape, "order": "nchw"}]


NORMALIZE: Operation = {"op": "normalize", "input": "x", "by": "deviation", "rows": 7, "eps": 1e-5}
SUM: Operation = {"function": "sum", "axes": [0, -1]}


def many(
    head: list[Operation], operation: Operation, count: int, result: str = "output", **varied: list[Any]
) -> list[Operation]:
    """The operation `count` times, each with a result of its own; the keys of `varied` go through their values."""
    operations = list(head)
    values = {key: itertools.cycle(each) for key, each in varied.items()}
    for i in range(count):
        changed = {key: next(value) for key, value in values.items()}
        operations.append(operation | changed | {result: f"r{i}"})
    return [*operations, {"op": "output", "input": "r0", "order": "nchw"}]


def line(channels: int, bits: int = 8) -> Array:
    """Thresholds on a line, the slowest to look at."""
    n = 2**bits - 1
    return np.tile(np.arange(n, dtype=np.float32) / n, (channels, 1))


def convolutions(op: str) -> Iterator[Hostile]:
    """Weights that grow, that many layers share, and what stands beside them."""
    linear, low_bit = op.startswith("linear"), not op.endswith("_float")
    transposed = op.startswith("conv_transpose")
    base: Operation = {"op": op, "input": "x", "weight": "w"} | ({} if linear else CONV)
    if transposed:
        base |= {"padding": [0, 0], "output_padding": [0, 0]}
    if low_bit:
        base |= {"weight_bits": 1}
    result = "int32" if low_bit else "float32"

    def weights(out: int, inputs: int, *kernel: int) -> Array:
        if low_bit:
            return np.zeros((out, (inputs * int(np.prod(kernel, dtype=int)) + 7) // 8), np.uint8)
        return np.zeros((out, inputs) if linear else (out, *(kernel or (1, 1)), inputs), np.float32)

    def layers(out: int, inputs: int, count: int, **more: Any) -> Hostile:
        head = codes(inputs, bits=8) if low_bit else floats(inputs)
        return many(head, base | {"out_channels": out}, count, result, **more), {"w": weights(out, inputs)}

    wide = SHARED if low_bit else SHARED // 4
    yield layers(wide, 1, 3000)  # a block of 32 lanes for each channel
    yield layers(1, wide * (8 if low_bit else 1), 3000)  # 31 lanes of nothing
    side = 512 * (4 if low_bit else 1)
    yield layers(side, 256 * (4 if low_bit else 1), 3000)
    stage = {"multiply": "a", "offset": "a", "norm_multiply": "a", "norm_offset": "a", "float32": "y"}
    channels = wide // 8
    head = codes(1, bits=8) if low_bit else floats(1)
    scaled = base | stage | {"out_channels": channels}
    yield many(head, scaled, 3000, "float32"), {"w": weights(channels, 1), "a": np.ones(channels, np.float32)}
    # Codes by thresholds, other ones each time.
    channels = SHARED // 255 // 4 // 32 * 32
    fit = line(channels) if not low_bit else np.tile(np.arange(255, dtype=np.int32), (channels, 1))
    head = codes(8, bits=8) if low_bit else floats(8)
    layer = base | {"out_channels": channels, "bits": 8, "thresholds": "t"}
    masks = {f"d{i}": np.arange(channels) == i for i in range(300)}
    falling = {name: np.zeros(channels, np.bool_) for name in masks}
    yield many(head, layer, 3000, "codes", descending=[*falling]), {"w": weights(channels, 8), "t": fit} | falling
    if linear:
        return
    # Kernels as large as the image, of one channel.
    size = 2048 if low_bit else 256
    head = codes(1, size, size, bits=8) if low_bit else floats(1, size, size)
    largest = base | {"kernel_size": [size, size]}
    yield many(head, largest | {"out_channels": 1}, 3000, result), {"w": weights(1, 1, size, size)}
    groups = wide
    head = codes(groups, bits=8) if low_bit else floats(groups)
    yield many(head, base | {"out_channels": groups, "groups": groups}, 3000, result), {"w": weights(groups, 1)}
    if transposed:  # as many parts as there are strides, and a kernel for each of them or for none
        head = codes(1, 1, 1, bits=8) if low_bit else floats(1)
        most = base | {"stride": [2**20, 2**20], "output_padding": [0, 1023]}
        yield many(head, most | {"out_channels": 1}, 3000, result), {"w": weights(1, 1)}
        side = 512 if low_bit else 128
        strided = base | {"kernel_size": [side, side], "stride": [side, side], "out_channels": 1}
        yield many(head, strided, 3000, result), {"w": weights(1, 1, side, side)}
    else:  # slices of the output that each see other ones of the input
        side = 1024 if low_bit else 256
        head = codes(1, side, 1, bits=8) if low_bit else floats(1, side, 1)
        deep = {"kernel_size": [side, 1, 1], "stride": [1] * 3, "dilation": [1] * 3, "padding": [side // 2, 0, 0] * 2}
        reshape = {"op": "reshape", "input": "x", "output": "deep", "shape": [1, side, 1, 1]}
        layer = base | deep | {"input": "deep", "out_channels": 1}
        yield many([*head, reshape], layer, 3000, result), {"w": weights(1, 1, side, 1, 1)}
    if not low_bit:
        return
    # Borders: a class of pixels for every row and column; or few classes, but all weights are summed for them.
    head = codes(1, 512, 512, bits=1)
    padding = [[256 - i % 8] * (2 if transposed else 4) for i in range(8)]
    bordered = base | {"kernel_size": [512, 512], "out_channels": 16, "sign_activations": True}
    yield many(head, bordered, 3000, result, padding=padding), {"w": weights(16, 1, 512, 512)}
    head = codes(8192, bits=2)
    pointed = base | {"out_channels": 512, "zero_point": 1}
    yield many(head, pointed, 4000, result), {"w": weights(512, 8192)}
    head = codes(1, 2**20, 1, bits=1)
    yield many(head, base | {"out_channels": 1, "sign_activations": True}, 6000, result), {"w": weights(1, 1)}


def pairs(widest: int, op: str) -> Iterator[Hostile]:
    """Results of the widest tensors, and of a row and a column that make much of little."""
    base: Operation = {"op": op, **({"condition": "x"} if op == "where" else {})}
    yield many(floats(widest), base | {"inputs": ["x", "x"]}, 5000), {}
    column = {"op": "reshape", "input": "x", "output": "c", "shape": [1, 4096, 1, 1]}
    yield many([*floats(4096), column], base | {"inputs": ["x", "c"]}, 5000), {}


def pools(widest: int, op: str, **keys: Any) -> Iterator[Hostile]:
    base = {"op": op, "input": "x", **keys}
    yield many(floats(widest), base, 5000), {}
    if op not in ("adaptive_avg_pool", "resize"):
        yield many(codes(widest, bits=8), base, 5000), {}


def writers(widest: int, op: str, inputs: Operation, result: str = "codes") -> Iterator[Hostile]:
    """Codes of floats: the widest tensors, and thresholds with and without channels that fall."""
    base = {"op": op, **inputs, "bits": 1}
    yield many(floats(widest), base, 3000, result), {}
    channels = SHARED // 255 // 4 // 32 * 32
    yield many(floats(channels), base | {"bits": 8, "thresholds": "t"}, 5000, result), {"t": line(channels)}
    masks: dict[str, Array] = {f"d{i}": np.zeros(channels, np.bool_) for i in range(300)}
    varied = base | {"bits": 8, "thresholds": "t"}
    yield many(floats(channels), varied, 3000, result, descending=[*masks]), {"t": line(channels)} | masks


def cases(widest: int) -> dict[str, Callable[[], Iterator[Hostile]]]:
    """For each operation, files that ask for as much as they can; tensors of `widest` channels fit into the limit."""
    half = SHARED // 4
    square = {"kernel_size": [1, 1], **WINDOW}

    def inputs() -> Iterator[Hostile]:
        shapes: list[Operation] = [
            {"op": "input", "output": f"i{i}", "dtype": "float32", "shape": [widest]} for i in range(5000)
        ]
        yield [*shapes, {"op": "output", "input": "i0"}], {}

    def outputs() -> Iterator[Hostile]:
        """Results that share their place in the workspace, but not in the caller's memory."""
        operations = floats(widest)
        for i in range(4000):
            operations += [
                {"op": "softmax", "input": "x", "output": f"s{i}"},
                {"op": "output", "input": f"s{i}"},
            ]
        yield operations, {}

    def pads() -> Iterator[Hostile]:
        pad = {"op": "pad", "input": "x", "padding": [0] * 4, "mode": "constant"}
        most = [0, widest - 1]
        yield many(codes(1, bits=8), pad | {"channels": most}, 60), {}
        yield many(codes(1, bits=8), pad | {"channels": most}, 256, value=list(range(256))), {}
        yield many(floats(1), pad | {"channels": most}, 3000, value=[i / 7 for i in range(3000)]), {}
        yield many(floats(1), pad | {"padding": [2**19 - 1] * 4}, 3000), {}

    def selects() -> Iterator[Hostile]:
        select = {"op": "select", "input": "x", "channels": "c"}
        yield many(floats(2), select, 5000), {"c": np.arange(half, dtype=np.int32) % 2}
        few = np.arange(1000, dtype=np.int32) % 2
        names = {f"c{i}": few[: 500 + i] for i in range(250)}
        yield many(floats(2), select, 5000, channels=[*names]), names

    def takes() -> Iterator[Hostile]:
        take = {"op": "take", "input": "x", "axis": -1, "indices": "i"}
        yield many(floats(widest), take, 5000), {"i": np.zeros(2, np.int32)}
        yield many(codes(8), take, 5000), {"i": np.zeros(half, np.int32)}
        few = np.zeros(1000, np.int32)
        names = {f"i{i}": few[: 500 + i] for i in range(250)}
        yield many(floats(2), take, 5000, indices=[*names]), names

    def permutes() -> Iterator[Hostile]:
        image = floats(widest // 32**2, 32, 32)  # rows that are channels behind it may be no more than 2**20
        yield many(image, {"op": "permute", "input": "x", "axes": [1, 2, 0]}, 6000), {}
        permute = {"op": "permute", "input": "x", "axes": [7, 6, 5, 4, 3, 2, 1, 0]}
        yield many(codes(widest // 32**2, 32, 32, bits=8), permute, 6000), {}

    def affines() -> Iterator[Hostile]:
        keys = ["divide", "multiply", "offset", "norm_multiply", "norm_offset"]
        affine = {"op": "affine", "input": "x"} | dict.fromkeys(keys, "a")
        yield many(floats(half), affine, 4000, "float32"), {"a": np.ones(half, np.float32)}
        yield many(floats(widest), {"op": "affine", "input": "x", "low": 0.0}, 5000, "float32"), {}
        yield from writers(widest, "affine", {"input": "x", "low": 0.0})

    def activations() -> Iterator[Hostile]:
        leaky = {"op": "activation", "input": "x", "function": "leaky_relu", "slope": "a"}
        yield many(floats(half), leaky, 5000), {"a": np.ones(half, np.float32)}
        yield many(floats(widest), {"op": "activation", "input": "x", "function": "sigmoid"}, 5000), {}

    def dequantizes() -> Iterator[Hostile]:
        yield (
            many(codes(half // 256, bits=8), {"op": "dequantize", "input": "x", "table": "t"}, 6000),
            {"t": np.ones((half // 256, 256), np.float32)},
        )
        yield many(codes(widest, bits=8), {"op": "dequantize", "input": "x"}, 6000), {}

    def lookups() -> Iterator[Hostile]:
        lookup = {"op": "lookup", "input": "x", "bits": 1, "table": "t"}
        yield many(codes(SHARED // 2), lookup, 6000), {"t": np.ones((SHARED // 2, 2), np.uint8)}

    def concats() -> Iterator[Hostile]:
        wide = {"op": "concat", "inputs": ["x"] * 60000}
        yield many(floats(256), wide, 2), {}
        yield many(floats(2**16), {"op": "concat", "inputs": ["x"] * 256}, 700), {}
        yield many(floats(2**8), {"op": "concat", "inputs": ["x"] * 60000, "axis": -1}, 2), {}
        yield many(floats(2**16), {"op": "concat", "inputs": ["x"] * 256, "axis": -2}, 700), {}

    def embeddings() -> Iterator[Hostile]:
        """Rows of a table that is small, for many indices."""
        head = {"op": "input", "output": "x", "dtype": "int64", "below": 1, "shape": [1, 2**20], "order": "nhwc"}
        embedding = {"op": "embedding", "input": "x", "table": "t"}
        yield many([head], embedding, 6000), {"t": np.zeros((1, 2**10), np.float32)}
        packed = embedding | {"weight_bits": 1, "channels": 2**20, "scale": "s"}
        yield many([head], packed, 6000), {"t": np.zeros((1, 2**17), np.uint8), "s": np.ones(1, np.float32)}

    def group_scales(op: str, head: Callable[..., list[Operation]]) -> Iterator[Hostile]:
        """A matrix that all layers share, each with outputs of its own, and one that is small for many rows."""
        layer = {"op": op, "input": "x", "weight": "w", "weight_bits": 1, "scale": "s"}
        for channels, outputs in ((2**10, 2**11), (2**15, 2**6), (1, 2**16)):
            arrays: dict[str, Array] = {
                "w": np.zeros((outputs, -(-channels // 8)), np.uint8),
                "s": np.ones((outputs, 1), np.float32),
            }
            yield many(head(channels), layer | {"out_channels": outputs}, 5000), arrays
        small: dict[str, Array] = {"w": np.zeros((8, 1), np.uint8), "s": np.ones((8, 8), np.float32)}
        yield many(head(8, 2**10, 2**10), layer | {"out_channels": 8}, 5000), small

    def code_groups() -> Iterator[Hostile]:
        """The same, and sums of weights for many zero points."""
        yield from group_scales("linear_groups", codes)
        layer = {
            "op": "linear_groups",
            "input": "x",
            "weight": "w",
            "weight_bits": 1,
            "scale": "s",
            "out_channels": 2**10,
        }
        arrays: dict[str, Array] = {"w": np.zeros((2**10, 16), np.uint8), "s": np.ones((2**10, 128), np.float32)}
        yield many(codes(128, bits=8), layer, 5000, zero_point=list(range(128))), arrays

    def matrices(op: str, count: int) -> Iterator[Hostile]:
        """Scores, and panels, of sizes that no array backs."""
        operation = {"op": op, "inputs": ["x"] * count}
        yield many(floats(widest), operation | ({"transposed": [0, 1]} if op == "matmul" else {}), 5000), {}
        yield many(floats(16, 1, 4096), operation | ({"transposed": [0, 1]} if op == "matmul" else {}), 5000), {}

    def code_matrices() -> Iterator[Hostile]:
        operation = {"op": "matmul_codes", "inputs": ["x"] * 2, "transposed": [0, 1]}
        yield many(codes(widest), operation, 5000, "int32"), {}

    return {
        "input": inputs,
        "output": outputs,
        **{op: lambda op=op: convolutions(op) for op in LAYERS},  # type: ignore[misc]
        "max_pool": lambda: pools(widest, "max_pool", **square),
        "avg_pool": lambda: pools(widest, "avg_pool", **square, count_include_pad=True),
        "global_avg_pool": lambda: pools(widest, "global_avg_pool"),
        "adaptive_avg_pool": lambda: pools(widest, "adaptive_avg_pool", output_size=[2**10, 2**10]),
        "adaptive_max_pool": lambda: pools(widest, "adaptive_max_pool", output_size=[2**10, 2**10]),
        "resize": lambda: pools(1, "resize", output_size=[2**10, 2**10], mode="cubic"),
        "quantize": lambda: writers(widest, "quantize", {"input": "x"}, "output"),
        "add": lambda: writers(widest, "add", {"inputs": ["x", "x"]}),
        "affine": affines,
        "activation": activations,
        "dequantize": dequantizes,
        "lookup": lookups,
        "concat": concats,
        "flatten": lambda: iter(
            [(many(floats(1, 4096, 4096), {"op": "flatten", "input": "x", "order": "chw"}, 6000), {})]
        ),
        "normalize": lambda: iter([(many(floats(widest), NORMALIZE, 5000, "float32"), {})]),
        "reduce": lambda: iter([(many(floats(widest), {"op": "reduce", "input": "x", **SUM}, 5000), {})]),
        "softmax": lambda: iter([(many(floats(widest), {"op": "softmax", "input": "x"}, 6000), {})]),
        **{op: lambda op=op: pairs(widest, op) for op in ("sub", "mul", "div", "minimum", "maximum", "where")},  # type: ignore[misc]
        "constant": lambda: iter(
            [
                (
                    many(floats(1), {"op": "constant", "values": "v"}, 6000),
                    {"v": np.zeros((SHARED // 64, 16), np.float32)},
                )
            ]
        ),
        "matmul": lambda: matrices("matmul", 2),
        "matmul_codes": code_matrices,
        "attention": lambda: matrices("attention", 3),
        "linear_weight_only": lambda: group_scales("linear_weight_only", floats),
        "linear_groups": code_groups,
        "select": selects,
        "embedding": embeddings,
        "take": takes,
        "permute": permutes,
        "reshape": lambda: iter(
            [(many(codes(widest), {"op": "reshape", "input": "x", "shape": [1, widest]}, 6000), {})]
        ),
        "pad": pads,
    }


def small(hostile: Hostile) -> bytes:
    """The file, with as many of the operations as fit into a megabyte."""
    operations, arrays = hostile
    data = format.encode(operations, arrays, {})
    program = len(json.dumps(json.dumps(operations, separators=(",", ":")))) / len(operations)
    while len(data) >= 2**20:
        assert len(operations) > 300, "the arrays alone are too large"
        spare = int((len(data) - 2**20) / program) + 2
        operations = [*operations[: -1 - spare], operations[-1]]
        data = format.encode(operations, arrays, {})
    return data
