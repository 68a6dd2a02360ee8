"""Small programs of one operation each, which together have every key, and every choice, that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bitorch_runtime import reference

Array = np.ndarray[Any, Any]
Operation = dict[str, Any]
#: An operation and the arrays that it names.
Example = tuple[Operation, dict[str, Array]]


def _port(name: str, shape: list[int], bits: int | None = None) -> Operation:
    kind: Operation = {"dtype": "float32"} if bits is None else {"dtype": "uint8", "bits": bits}
    return {"op": "input", "output": name, "shape": shape, **kind, **({"order": "nchw"} if len(shape) == 3 else {})}


#: What operations may read, as inputs of a program: floats, codes of two bits and of one; of images, then of vectors.
TENSORS: dict[str, Operation] = {
    "x": _port("x", [2, 4, 4]),
    "other": _port("other", [2, 4, 4]),
    "row": _port("row", [4, 1, 4]),
    "bias": _port("bias", [4, 4, 4]),
    "row_codes": _port("row_codes", [4, 1, 4], 8),
    "q": _port("q", [2, 4, 4], 2),
    "signs": _port("signs", [2, 4, 4], 1),
    "gate": _port("gate", [2]),
    "line": _port("line", [1, 1, 4]),
    "column": _port("column", [2, 4, 1]),
    "vector": _port("vector", [6]),
    "vector_codes": _port("vector_codes", [6], 2),
    "vector_signs": _port("vector_signs", [6], 1),
    "indices": {"op": "input", "output": "indices", "dtype": "int64", "below": 4, "shape": [1, 5], "order": "nhwc"},
}
WINDOW = {"kernel_size": [1, 1], "stride": [1, 1], "padding": [0, 0, 0, 0]}
CONV = {**WINDOW, "dilation": [1, 1], "groups": 1}
TRANSPOSED = {**CONV, "padding": [0, 0], "output_padding": [0, 0]}
#: Keys of steps, called as their arrays are.
SCALE = {"multiply": "multiply", "offset": "offset"}
NORM = {"norm_multiply": "norm_multiply", "norm_offset": "norm_offset"}
BY_THRESHOLDS = {"codes": "z", "bits": 2, "thresholds": "thresholds", "descending": "descending"}

#: Functions of the operation "activation" without a key of their own, and the others with numbers.
FUNCTIONS = (
    *("selu", "hardswish", "hardsigmoid", "sigmoid", "logsigmoid", "tanh", "silu", "mish", "gelu", "gelu_tanh"),
    *("softsign", "erf", "exp", "log", "sqrt", "rsqrt", "reciprocal", "abs", "sign"),
)
FUNCTIONS_WITH_NUMBERS: dict[str, dict[str, float]] = {
    "celu": {"alpha": 1.5},
    "softplus": {"beta": 2.0, "threshold": 20.0},
    "threshold": {"threshold": 0.1, "value": -1.0},
    "hardshrink": {"lambda": 0.5},
    "softshrink": {"lambda": 0.5},
}


def _steps(channels: int, *, integers: bool = False) -> dict[str, Array]:
    """Arrays of all steps."""
    numbers = np.linspace(0.3, 0.7, channels, dtype=np.float32)
    falls = np.arange(channels) % 2 == 1
    thresholds = np.tile(np.array([-3, 0, 2] if integers else [-0.5, 0.25, 1.5]), (channels, 1))
    thresholds[falls] = thresholds[falls, ::-1]
    names = ("multiply", "offset", "norm_multiply", "norm_offset", "divide", "slope")
    return {
        **{name: numbers + np.float32(i) for i, name in enumerate(names)},
        "thresholds": thresholds.astype(np.int32 if integers else np.float32),
        "descending": falls,
    }


def example(operation: Operation, arrays: dict[str, Array]) -> Example:
    """An operation, and those of the arrays that it names."""
    named = {value for value in operation.values() if isinstance(value, str)}
    return operation, {name: array for name, array in arrays.items() if name in named}


def _low_bit_layers() -> Iterator[Example]:
    for op, head, codes, signs, same in (
        ("conv2d", CONV, "q", "signs", "x"),
        ("conv_transpose", TRANSPOSED, "q", "signs", "x"),
        ("linear", {}, "vector_codes", "vector_signs", "vector"),
    ):
        channels = 6 if op == "linear" else 2
        weight = (np.arange(channels * channels).reshape(channels, channels) % 3 == 0) * 2 - 1
        layer = {"op": op, "weight": "weight", "weight_bits": 1, "out_channels": channels, **head}
        arrays = {"weight": reference.pack_weights(weight, 1)}
        by_sums, by_floats = (arrays | _steps(channels, integers=integers) for integers in (True, False))
        yield example({**layer, "input": codes, "int32": "d"}, arrays)
        yield example({**layer, "input": signs, "sign_activations": True, "int32": "d"}, arrays)
        meaning = {"weight_grid": "odd", "zero_point": 1}
        stages = {**SCALE, **NORM, "residual": same, "relu": True, "float32": "y"}
        yield example({**layer, **meaning, "input": codes, **stages, **BY_THRESHOLDS, "int32": "d"}, by_sums)
        yield example({**layer, **meaning, "input": codes, **stages, **BY_THRESHOLDS}, by_floats)
        yield example({**layer, "input": codes, **SCALE, "float32": "y"}, by_floats)
        yield example({**layer, "input": codes, **SCALE, "codes": "z", "bits": 2}, by_floats)
        signed = {"weight": reference.pack_weights((weight - 1) // 2, 1, "signed")}
        yield example({**layer, "input": codes, "weight_grid": "signed", "int32": "d"}, signed)


def _float_layers() -> Iterator[Example]:
    for op, head, same in (
        ("conv2d_float", CONV, "x"),
        ("conv_transpose_float", TRANSPOSED, "x"),
        ("linear_float", {}, "vector"),
    ):
        channels = 6 if op == "linear_float" else 2
        shape = (channels, channels) if op == "linear_float" else (channels, 1, 1, channels)
        weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        layer = {"op": op, "input": same, "weight": "weight", **head}
        arrays = {"weight": weight, **_steps(channels)}
        yield example({**layer, "float32": "y"}, arrays)
        yield example({**layer, "codes": "z", "bits": 1}, arrays)
        stages = {**SCALE, **NORM, "residual": same, "relu": True, "float32": "y"}
        yield example({**layer, "out_channels": channels, **stages, **BY_THRESHOLDS}, arrays)


def _weight_only() -> Iterator[Example]:
    """Codes of three bits in groups of two and three inputs, and single bits with one scale for each channel."""
    layer: Operation = {"op": "linear_weight_only", "input": "vector", "output": "y", "weight": "w", "out_channels": 5}
    codes = np.arange(30).reshape(5, 6)
    for bits, grid, groups in ((3, "signed", 3), (3, "odd", 2), (1, "odd", 1)):
        step, lowest = reference.code_line(bits, grid)
        weight = reference.pack_weights(step * (codes % 2**bits) + lowest, bits, grid)
        scale: Array = np.linspace(0.3, 0.7, 5 * groups, dtype=np.float32).reshape(5, groups)
        arrays: dict[str, Array] = {"w": weight, "scale": scale}
        bias = {} if bits == 1 else {"bias": "bias"}
        arrays |= {key: np.linspace(-1, 1, 5, dtype=np.float32) for key in bias}
        grids = {} if bits == 1 else {"weight_grid": grid}
        yield example({**layer, "weight_bits": bits, **grids, "scale": "scale", **bias}, arrays)


def _groups() -> Iterator[Example]:
    """The same on codes of two bits and of one."""
    for operation, arrays in _weight_only():
        layer = {**operation, "op": "linear_groups"}
        yield layer | {"input": "vector_codes"}, arrays
        yield layer | {"input": "vector_codes", "zero_point": 2}, arrays
        yield layer | {"input": "vector_signs", "sign_activations": True}, arrays


def _windows() -> Iterator[Example]:
    """Layers along three axes, and those whose outputs lie between the pixels."""
    deep: Operation = {"kernel_size": [2, 1, 2], "stride": [1, 2, 1], "dilation": [1, 1, 1], "groups": 1}
    ordinary = {**deep, "padding": [1, 0, 0, 0, 1, 1]}
    transposed = {**deep, "padding": [0, 1, 0], "output_padding": [0, 1, 0]}
    flat: Operation = {"kernel_size": [2, 2], "stride": [2, 2], "dilation": [1, 1], "groups": 1}
    between = {**flat, "padding": [0, 0], "output_padding": [1, 0]}
    for op, head, count in (("conv2d", ordinary, 4), ("conv_transpose", transposed, 4), ("conv_transpose", between, 4)):
        weight = (np.arange(2 * count * 2).reshape(2, count * 2) % 3 == 0) * 2 - 1
        arrays = {"weight": reference.pack_weights(weight, 1)}
        layer = {"op": op, "weight": "weight", "weight_bits": 1, "out_channels": 2, **head}
        yield example({**layer, "input": "q", "zero_point": 2, "int32": "d"}, arrays)
        axes = head["kernel_size"]
        floats = {"weight": np.ones((2, *axes, 2), np.float32)}
        yield example({"op": f"{op}_float", "input": "x", "weight": "weight", **head, "float32": "y"}, floats)


def _codes() -> Iterator[Example]:
    steps = _steps(2)
    yield example({"op": "quantize", "input": "x", "output": "z", "bits": 3}, {})
    yield example({"op": "quantize", "input": "x", "output": "z", "bits": 3, "zero_point": 4}, {})
    with_thresholds = {**BY_THRESHOLDS, "output": "z"}
    del with_thresholds["codes"]
    yield example({"op": "quantize", "input": "x", **with_thresholds}, steps)
    del with_thresholds["descending"]
    rising = {"thresholds": np.sort(steps["thresholds"], axis=1)}
    yield example({"op": "quantize", "input": "x", **with_thresholds}, rising)
    table = np.arange(8, dtype=np.float32).reshape(2, 4)
    back = {"op": "dequantize", "output": "y"}
    yield example({**back, "input": "q"}, {})
    yield example({**back, "input": "q", "scale": 0.3}, {})
    yield example({**back, "input": "signs", "sign": True, "scale": 0.3}, {})
    yield example({**back, "input": "q", "table": "table"}, {"table": table})
    yield example({**back, "input": "q", "table": "table"}, {"table": table[0]})
    look = {"op": "lookup", "input": "q", "output": "z", "bits": 3, "table": "table"}
    yield example(look, {"table": table.astype(np.uint8)})
    yield example(look, {"table": table[1].astype(np.uint8)})


def _elementwise() -> Iterator[Example]:
    steps = _steps(2)
    affine = {"op": "affine", "input": "x"}
    whole = {"divide": "divide", **SCALE, **NORM, "residual": "other", "low": -0.5, "high": 1.5}
    yield example({**affine, **whole, "float32": "y", **BY_THRESHOLDS}, steps)
    for part in ({"divide": "divide"}, SCALE, NORM, {"residual": "x"}, {"low": 0.0}, {"high": 6}):
        yield example({**affine, **part, "float32": "y"}, steps)
    yield example({**affine, "low": 0, "codes": "z", "bits": 4}, {})
    activation = {"op": "activation", "input": "x", "output": "y"}
    yield example({**activation, "function": "leaky_relu", "slope": "slope"}, steps)
    yield example({**activation, "function": "elu", "slope": "slope"}, steps)
    for function in FUNCTIONS:
        yield example({**activation, "function": function}, {})
    for function, numbers in FUNCTIONS_WITH_NUMBERS.items():
        yield example({**activation, "function": function, **numbers}, {})
    yield example({"op": "softmax", "input": "x", "output": "y"}, {})
    yield example({"op": "softmax", "input": "x", "output": "y", "log": True}, {})


def _pairs() -> Iterator[Example]:
    steps = _steps(2)
    add = {"op": "add", "inputs": ["x", "other"]}
    yield example({**add, "float32": "y"}, {})
    yield example({**add, "codes": "z", "bits": 8}, {})
    yield example({**add, "relu": True, "float32": "y", **BY_THRESHOLDS}, steps)
    yield example({"op": "add", "inputs": ["line", "gate"], "relu": True, "float32": "y", **BY_THRESHOLDS}, steps)
    for function in ("sub", "mul", "div", "minimum", "maximum"):
        for inputs in (["x", "other"], ["x", "gate"], ["line", "x"], ["gate", "column"], ["x", "x"]):
            yield example({"op": function, "inputs": inputs, "output": "y"}, {})
    where = {"op": "where", "inputs": ["x", "other"], "output": "y"}
    for condition in ("other", "line", "gate"):
        yield example({**where, "condition": condition}, {})
    yield example({**where, "condition": "x", "inputs": ["gate", "column"]}, {})


def _constants() -> Iterator[Example]:
    constant = {"op": "constant", "output": "y", "values": "values"}
    yield example(constant, {"values": np.linspace(-1, 1, 5, dtype=np.float32)})
    yield example(constant, {"values": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)})


def _matrices() -> Iterator[Example]:
    matmul = {"op": "matmul", "output": "y"}
    yield example({**matmul, "inputs": ["x", "other"], "transposed": [0, 1], "scale": 0.5}, {})
    yield example({**matmul, "inputs": ["x", "other"], "transposed": [1, 0]}, {})
    yield example({**matmul, "inputs": ["row", "x"]}, {})
    yield example({**matmul, "inputs": ["vector", "vector"], "transposed": [1, 0], "scale": -2}, {})
    codes = {"op": "matmul_codes", "int32": "d"}
    yield example({**codes, "inputs": ["q", "q"], "transposed": [0, 1], "zero_points": [2, 1]}, {})
    yield example({**codes, "inputs": ["q", "signs"], "transposed": [1, 0], "signs": [0, 1]}, {})
    floats = {"float32": "y", "scale": 0.3}
    yield example({**codes, **floats, "inputs": ["signs", "signs"], "transposed": [0, 1], "signs": [1, 1]}, {})
    yield example(
        {"op": "matmul_codes", **floats, "inputs": ["vector_codes", "vector_codes"], "transposed": [1, 0]}, {}
    )
    yield example({**codes, "inputs": ["row_codes", "q"]}, {})
    attention = {"op": "attention", "output": "y"}
    yield example({**attention, "inputs": ["x", "other", "x"], "scale": 0.7}, {})
    yield example({**attention, "inputs": ["x", "other", "x", "row"], "causal": True}, {})
    yield example({**attention, "inputs": ["x", "x", "other", "bias"]}, {})


def _pools() -> Iterator[Example]:
    pool = {"output": "y", **WINDOW, "kernel_size": [2, 2], "padding": [1, 0, 1, 0]}
    for name in ("x", "q"):
        yield example({"op": "max_pool", "input": name, **pool}, {})
        yield example({"op": "max_pool", "input": name, **pool, "dilation": [2, 1]}, {})
        yield example({"op": "avg_pool", "input": name, **pool, "count_include_pad": name == "x"}, {})
        yield example({"op": "global_avg_pool", "input": name, "output": "y"}, {})
    yield example({"op": "avg_pool", "input": "q", **pool, "count_include_pad": False, "scale": 0.1}, {})
    yield example({"op": "global_avg_pool", "input": "q", "output": "y", "scale": 0.1}, {})
    for size in ([3, 2], [1, 3, 2]):
        yield example({"op": "adaptive_avg_pool", "input": "x", "output": "y", "output_size": size}, {})
        for name in ("x", "q"):
            yield example({"op": "adaptive_max_pool", "input": name, "output": "y", "output_size": size}, {})
    beyond = {**pool, "padding": [0, 0, 0, 0], "stride": [3, 1], "beyond": [1, 0]}
    yield example({"op": "avg_pool", "input": "x", **beyond, "count_include_pad": True}, {})
    yield example({"op": "avg_pool", "input": "q", **beyond, "count_include_pad": True, "divisor": 3}, {})
    deep = {"output": "y", "kernel_size": [1, 2, 2], "stride": [1, 2, 2], "padding": [0, 0, 1, 0, 0, 0]}
    yield example({"op": "max_pool", "input": "q", **deep}, {})
    yield example({"op": "avg_pool", "input": "q", **deep, "count_include_pad": False}, {})


def _norms() -> Iterator[Example]:
    steps = _steps(2) | {"bias": np.linspace(-0.2, 0.3, 2, dtype=np.float32)}
    by_place = {"weight": np.linspace(0.5, 1.5, 8, dtype=np.float32).reshape(4, 2)}
    norm = {"op": "normalize", "input": "x", "eps": 1e-5}
    scales = {"weight": "multiply", "bias": "bias"}
    yield example({**norm, "by": "deviation", "float32": "y"}, {})
    yield example({**norm, "by": "deviation", **scales, "float32": "y", **BY_THRESHOLDS}, steps)
    yield example({**norm, "by": "root_mean_square", "weight": "multiply", "codes": "z", "bits": 3}, steps)
    yield example({**norm, "by": "norm", "groups": 2, "float32": "y"}, {})
    yield example({**norm, "by": "deviation", "rows": 1, "weight": "weight", "float32": "y"}, by_place)
    whole = {"rows": 7, "groups": 2, **scales, "float32": "y", **BY_THRESHOLDS}
    yield example({**norm, "by": "deviation", **whole}, steps)
    yield example({**norm, "by": "root_mean_square", "rows": 2, "codes": "z", "bits": 8}, {})


def _reductions() -> Iterator[Example]:
    one = {"op": "reduce", "output": "y"}
    for name in ("x", "q"):
        for function in ("sum", "mean", "amax", "amin"):
            for axes in ([0], [-1], [-2, 0], [-1, -2]):
                yield example({**one, "input": name, "function": function, "axes": axes}, {})
        for function in ("argmax", "argmin"):
            for axis in (0, -1, -2, -3):
                yield example({**one, "input": name, "function": function, "axes": [axis]}, {})
    yield example({**one, "input": "q", "function": "mean", "axes": [-2], "scale": 0.3}, {})
    for function in ("norm", "var", "std"):
        for axes in ([0], [-1], [0, -1, -2]):
            yield example({**one, "input": "x", "function": function, "axes": axes}, {})
    yield example({**one, "input": "x", "function": "std", "axes": [0], "correction": 0}, {})


def _moves() -> Iterator[Example]:
    for name in ("x", "q"):
        yield example({"op": "concat", "inputs": [name], "output": "y"}, {})
        yield example({"op": "concat", "inputs": [name, name], "output": "y"}, {})
        for order in ("chw", "hwc"):
            yield example({"op": "flatten", "input": name, "output": "y", "order": order}, {})
        for axis in (0, -1, -2, -3):
            yield example({"op": "concat", "inputs": [name, name], "output": "y", "axis": axis}, {})
            take = {"op": "take", "input": name, "output": "y", "axis": axis, "indices": "indices"}
            if axis < 0:
                yield example(take, {"indices": np.array([0] if axis == -3 else [3, 0, 0], np.int32)})
        yield example({"op": "reshape", "input": name, "output": "y", "shape": [4, 2, 2, 2]}, {})
        yield example({"op": "reshape", "input": name, "output": "y", "shape": [32]}, {})
        for axes in ([0, 2, 1], [1, 2, 0], [2, 3, 1, 0]):
            yield example({"op": "permute", "input": name, "output": "y", "axes": axes}, {})
        select = {"op": "select", "input": name, "output": "y", "channels": "channels"}
        yield example(select, {"channels": np.array([1, 1, 0], np.int32)})
        for mode in ("constant", "reflect", "replicate", "circular"):
            yield example({"op": "pad", "input": name, "output": "y", "padding": [1, 0, 2, 1], "mode": mode}, {})
        deep = {"op": "pad", "input": name, "output": "y", "padding": [1, 0, 1, 0, 2, 0], "mode": "replicate"}
        yield example(deep, {})
        constant = {"op": "pad", "input": name, "output": "y", "padding": [0, 1, 0, 0], "mode": "constant"}
        yield example({**constant, "value": 1, "channels": [1, 2]}, {})


def _resizes() -> Iterator[Example]:
    resize = {"op": "resize", "input": "x", "output": "y", "output_size": [6, 3]}
    yield example({**resize, "mode": "nearest"}, {})
    yield example({**resize, "input": "q", "mode": "nearest", "output_size": [8, 8]}, {})
    yield example({**resize, "mode": "linear"}, {})
    yield example({**resize, "mode": "linear", "align_corners": True}, {})
    yield example({**resize, "mode": "cubic", "scale": [1.6, 0.9]}, {})
    yield example({**resize, "mode": "linear", "output_size": [2, 5, 3]}, {})


def _embeddings() -> Iterator[Example]:
    embedding = {"op": "embedding", "input": "indices", "output": "y", "table": "table"}
    yield example(embedding, {"table": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)})
    codes = np.arange(12).reshape(4, 3) % 4
    scale: Array = np.linspace(0.3, 0.7, 4, dtype=np.float32)
    packed = {**embedding, "weight_bits": 2, "channels": 3, "scale": "scale"}
    odd: dict[str, Array] = {"table": reference.pack_weights(2 * codes - 3, 2), "scale": scale}
    yield example(packed, odd)
    yield example({**packed, "weight_grid": "odd"}, odd | {"scale": scale[:1]})
    signed: dict[str, Array] = {"table": reference.pack_weights(codes - 2, 2, "signed"), "scale": scale[:1]}
    yield example({**packed, "weight_grid": "signed", "levels": "levels"}, signed | {"levels": scale[::-1].copy()})


def examples() -> list[Example]:
    """All of them; "input" and "output" stand around each."""
    parts = (
        _low_bit_layers(),
        _float_layers(),
        _weight_only(),
        _groups(),
        _codes(),
        _elementwise(),
        _pairs(),
        _constants(),
        _matrices(),
        _pools(),
        _norms(),
        _reductions(),
        _moves(),
        _windows(),
        _resizes(),
        _embeddings(),
    )
    return [one for part in parts for one in part]


def program(operation: Operation, reads: list[str], gives: list[str]) -> list[Operation]:
    """The inputs that an operation reads, or any, the operation, and an output for each tensor that it gives."""
    orders: list[Operation] = [{"order": "nhwc"}, {"order": "nchw"}]
    inputs = [TENSORS[name] for name in dict.fromkeys(reads if reads else ["x"])]
    outputs = [{"op": "output", "input": name, **orders[i % 2]} for i, name in enumerate(gives)]
    return [*inputs, operation, *outputs]


def port_programs() -> list[list[Operation]]:
    """Programs of inputs and outputs, with all keys of both."""
    image = {"op": "input", "output": "i", "dtype": "float32", "shape": [2, 3, 4]}
    leaves = {"op": "output", "input": "i"}
    return [
        [{**image, "order": "nchw"}, {**leaves, "order": "nhwc"}],
        [{**image, "order": "nhwc", "array_shape": [24]}, {**leaves, "order": "nchw", "array_shape": [6, 4]}],
        [{"op": "input", "output": "i", "dtype": "float32", "shape": [5]}, leaves],
        [{"op": "input", "output": "i", "dtype": "uint8", "bits": 4, "shape": [1], "array_shape": []}, leaves],
        [{**image, "dtype": "int32", "below": 9, "order": "nchw"}, {**leaves, "order": "nhwc"}],
        [{**image, "dtype": "int64", "below": 9, "order": "nhwc"}, {**leaves, "order": "nhwc"}],
    ]


def arrays_for(operations: list[Operation]) -> list[Array]:
    """Inputs of a batch of two for a program."""
    rng = np.random.default_rng(1)
    inputs: list[Array] = []
    for one in (operation for operation in operations if operation["op"] == "input"):
        shape: list[int] = one["shape"]
        if len(shape) > 1 and one["order"] == "nhwc":
            shape = [*shape[1:], shape[0]]
        outside: list[int] = one.get("array_shape", shape)
        full = (2, *outside)
        below = 2 ** one["bits"] if one["dtype"] == "uint8" else one.get("below", 0)
        values = rng.integers(0, below, full) if below > 0 else rng.normal(0.5, 1, full)
        inputs.append(values.astype(one["dtype"]))
    return inputs
