"""How each operation of a program is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import functions, pairs
from .basics import Floats, Integers, Operation
from .codes import dequantize, lookup, table_entries
from .convolutions import conv2d_codes, conv2d_float, conv_transpose_codes, conv_transpose_float
from .embeddings import embedding, packed_table
from .matrices import attention, linear_groups, linear_weight_only, matmul, matmul_codes
from .norms import normalize
from .packed_weights import unpack_weights
from .pools import adaptive_avg_pool, adaptive_max_pool, avg_pool, global_avg_pool, max_pool
from .reductions import reduce
from .resizing import resize, resize_nearest
from .rows import as_one_row, concat, flatten, permute, reshape, take, with_rows
from .sliding import pad
from .softmax import softmax
from .stages import at_least, at_most, round_quantize
from .tensor import (
    Apply,
    Arrays,
    Tensor,
    Tensors,
    apply_float_stage,
    leaving,
    leaving_codes,
    of_one,
)


def _sums(operation: Operation, x: NDArray[Any], arrays: Arrays) -> NDArray[Any]:
    """D of a layer on codes, or the sums of one on floats, of x [B, *rows, C] with an axis for each of the window's."""
    axes = x.ndim - 2
    kernel = operation.get("kernel_size", [1] * axes)
    none = {"stride": [1] * axes, "padding": [0] * 2 * axes, "dilation": [1] * axes}
    transposed = operation["op"].startswith("conv_transpose")
    keys = [*none, "output_padding"] if transposed else none
    groups = operation.get("groups", 1)
    geometry = {key: operation.get(key, none.get(key)) for key in keys} | {"groups": groups}
    weight = arrays[operation["weight"]]
    if operation["op"].endswith("_float"):
        convolve: Callable[..., NDArray[Any]] = conv_transpose_float if transposed else conv2d_float
        return convolve(x, weight.reshape(len(weight), *kernel, x.shape[-1] // groups), **geometry)
    shape, grid = (*kernel, x.shape[-1] // groups), operation.get("weight_grid", "odd")
    codes = unpack_weights(weight, operation["weight_bits"], shape, grid)
    meaning = {key: operation[key] for key in ("sign_activations", "zero_point") if key in operation}
    return (conv_transpose_codes if transposed else conv2d_codes)(x, codes, **meaning, **geometry)


def _convolve(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """All layers; a linear one is a 1×1 convolution of all rows."""
    given = tensors[operation["input"]].values
    has_window = "kernel_size" in operation
    x = with_rows(given, len(operation["kernel_size"])) if has_window else as_one_row(given)
    sums = _sums(operation, x, arrays)
    if not has_window:
        sums = sums.reshape(*given.shape[:-1], sums.shape[-1])
    is_float = operation["op"].endswith("_float")
    y: Floats | None = None
    if is_float or "multiply" in operation:
        y = apply_float_stage(operation, tensors, arrays, sums)
    return leaving(operation, arrays, y, None if is_float else sums)


def _affine(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """y = x / divide, the float stage of it, clamped; NaN stays NaN."""
    y = tensors[operation["input"]].values
    if "divide" in operation:
        y = y / arrays[operation["divide"]]
    y = apply_float_stage(operation, tensors, arrays, y)
    if "low" in operation:
        y = at_least(y, operation["low"])
    if "high" in operation:
        y = at_most(y, operation["high"])
    return leaving(operation, arrays, y)


def _matmul(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    a, b = (tensors[name].values for name in operation["inputs"])
    settings = {key: operation[key] for key in ("transposed", "scale") if key in operation}
    return {operation["output"]: Tensor(matmul(a, b, **settings))}


def _matmul_codes(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    q, r = (tensors[name].values for name in operation["inputs"])
    settings = {key: operation[key] for key in ("transposed", "zero_points", "signs") if key in operation}
    d = matmul_codes(q, r, **settings)
    y = d.astype(np.float32) * np.float32(operation["scale"]) if "scale" in operation else None
    return leaving(operation, arrays, y, d)


def _linear_weight_only(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(linear_weight_only(x.values, *_in_groups(operation, x, arrays)))


def _linear_groups(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    meaning = {key: operation[key] for key in ("sign_activations", "zero_point") if key in operation}
    return Tensor(linear_groups(x.values, *_in_groups(operation, x, arrays), **meaning))


def _in_groups(operation: Operation, x: Tensor, arrays: Arrays) -> tuple[Integers, Floats, Floats | None]:
    """Weight codes [N, F], their scales [N, G] and the bias [N]."""
    grid, inputs = operation.get("weight_grid", "odd"), x.values.shape[-1]
    codes = unpack_weights(arrays[operation["weight"]], operation["weight_bits"], (inputs,), grid)
    return codes, arrays[operation["scale"]], arrays[operation["bias"]] if "bias" in operation else None


def _attention(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    query, key, value, *others = (tensors[name].values for name in operation["inputs"])
    bias = others[0] if others else None
    scale, causal = operation.get("scale", 1.0), operation.get("causal", False)
    return {operation["output"]: Tensor(attention(query, key, value, bias, scale, causal))}


def _normalize(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    settings = {key: operation[key] for key in ("rows", "groups") if key in operation}
    weights: dict[str, Any] = {key: arrays[operation[key]] for key in ("weight", "bias") if key in operation}
    x = tensors[operation["input"]].values
    return leaving(operation, arrays, normalize(x, operation["by"], operation["eps"], **settings, **weights))


def _reduce(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    function = operation["function"]
    scale = operation.get("scale", x.code_scale) if function in ("sum", "mean") else None
    values = reduce(x.values, function, operation["axes"], operation.get("correction", 1.0), scale)
    return Tensor(values, x.bits if function in ("amax", "amin") else None)


def _concat(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    parts = [tensors[name] for name in operation["inputs"]]
    values = concat([part.values for part in parts], operation.get("axis", 0))
    return {operation["output"]: Tensor(values, parts[0].bits)}


def _quantize(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    if "zero_point" in operation:
        bits = operation["bits"]
        return Tensor(round_quantize(x.values, bits, operation["zero_point"]), bits)
    return leaving_codes(operation, arrays, x.values, None)


def _dequantize(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    if "table" in operation:
        return Tensor(table_entries(x.values, arrays[operation["table"]]))
    assert x.bits is not None
    return Tensor(dequantize(x.values, x.bits, operation.get("sign", False), operation.get("scale")))


def _lookup(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(lookup(x.values, arrays[operation["table"]]), operation["bits"])


#: Functions without parameters, by name.
_FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "selu": functions.selu,
    "hardswish": functions.hardswish,
    "hardsigmoid": functions.hardsigmoid,
    "sigmoid": functions.sigmoid,
    "logsigmoid": functions.logsigmoid,
    "tanh": functions.tanh,
    "silu": functions.silu,
    "mish": functions.mish,
    "gelu": functions.gelu,
    "gelu_tanh": functions.gelu_tanh,
    "softsign": functions.softsign,
    "erf": functions.erf,
    "exp": functions.exp,
    "log": functions.log,
    "sqrt": functions.sqrt,
    "rsqrt": functions.rsqrt,
    "reciprocal": functions.reciprocal,
    "abs": functions.absolute,
    "sign": functions.sign,
}
#: Functions with numbers, and the keys of these.
_WITH_NUMBERS: Mapping[str, tuple[Callable[..., Floats], tuple[str, ...]]] = {
    "celu": (functions.celu, ("alpha",)),
    "softplus": (functions.softplus, ("beta", "threshold")),
    "threshold": (functions.threshold, ("threshold", "value")),
    "hardshrink": (functions.hardshrink, ("lambda",)),
    "softshrink": (functions.softshrink, ("lambda",)),
}
_WITH_SLOPES: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "leaky_relu": functions.leaky_relu,
    "elu": functions.elu,
}


def _activation(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    name = operation["function"]
    if name in _WITH_SLOPES:
        return Tensor(_WITH_SLOPES[name](x.values, arrays[operation["slope"]]))
    if name in _WITH_NUMBERS:
        function, keys = _WITH_NUMBERS[name]
        return Tensor(function(x.values, *(operation[key] for key in keys)))
    return Tensor(_FUNCTIONS[name](x.values))


def _softmax(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(softmax(x.values, operation.get("log", False)))


def _window(operation: Operation) -> dict[str, Any]:
    """The settings of a pool's window."""
    keys = ("kernel_size", "stride", "padding")
    return {key: operation[key] for key in keys}


def _max_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    axes = len(operation["kernel_size"])
    dilation = operation.get("dilation", [1] * axes)
    return Tensor(max_pool(with_rows(x.values, axes), **_window(operation), dilation=dilation), x.bits)


def _avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    axes = len(operation["kernel_size"])
    means = avg_pool(
        with_rows(x.values, axes),
        **_window(operation),
        count_include_pad=operation["count_include_pad"],
        scale=operation.get("scale", x.code_scale),
        beyond=operation.get("beyond", [0] * axes),
        divisor=operation.get("divisor"),
    )
    return Tensor(means)


def _global_avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(global_avg_pool(x.values, operation.get("scale", x.code_scale)))


def _adaptive_avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    size = operation["output_size"]
    return Tensor(adaptive_avg_pool(with_rows(x.values, len(size)), size))


def _adaptive_max_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    size = operation["output_size"]
    return Tensor(adaptive_max_pool(with_rows(x.values, len(size)), size), x.bits)


def _flatten(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(flatten(x.values, operation["order"]), x.bits)


def _select(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(x.values[..., arrays[operation["channels"]]], x.bits)


def _take(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(take(x.values, operation["axis"], arrays[operation["indices"]]), x.bits)


def _reshape(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(reshape(x.values, operation["shape"]), x.bits)


def _permute(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(permute(x.values, operation["axes"]), x.bits)


def _resize(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    size, mode = operation["output_size"], operation["mode"]
    image = with_rows(x.values, len(size))
    if mode == "nearest":
        return Tensor(resize_nearest(image, size), x.bits)
    return Tensor(resize(image, size, mode, operation.get("align_corners", False), operation.get("scale")))


def _pad(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    keys = {key: operation[key] for key in ("value", "channels") if key in operation}
    padding = operation["padding"]
    if not any(padding):  # of any number of row axes
        padding = [0] * 2 * (x.values.ndim - 2)
    image = with_rows(x.values, len(padding) // 2)
    return Tensor(pad(image, padding, operation["mode"], **keys), x.bits)


def _embedding(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    table = arrays[operation["table"]]
    if table.dtype == np.uint8:
        keys = operation["weight_bits"], operation["channels"], operation.get("weight_grid", "odd")
        levels = arrays[operation["levels"]] if "levels" in operation else None
        table = packed_table(table, *keys, arrays[operation["scale"]], levels)
    return Tensor(embedding(x.values, table))


#: How each operation is applied; "input" and "output" are what `run` begins and ends with.
APPLY: Mapping[str, Apply] = MappingProxyType(
    {
        **dict.fromkeys(("conv2d", "linear", "conv_transpose"), _convolve),
        **dict.fromkeys(("conv2d_float", "linear_float", "conv_transpose_float"), _convolve),
        "linear_groups": of_one(_linear_groups),
        "linear_weight_only": of_one(_linear_weight_only),
        "affine": _affine,
        **dict.fromkeys(("sub", "mul", "div", "minimum", "maximum"), pairs.pair),
        "add": pairs.add,
        "where": pairs.where,
        "constant": pairs.constant,
        "matmul": _matmul,
        "matmul_codes": _matmul_codes,
        "attention": _attention,
        "concat": _concat,
        "quantize": of_one(_quantize),
        "dequantize": of_one(_dequantize),
        "lookup": of_one(_lookup),
        "activation": of_one(_activation),
        "softmax": of_one(_softmax),
        "max_pool": of_one(_max_pool),
        "avg_pool": of_one(_avg_pool),
        "global_avg_pool": of_one(_global_avg_pool),
        "adaptive_avg_pool": of_one(_adaptive_avg_pool),
        "adaptive_max_pool": of_one(_adaptive_max_pool),
        "flatten": of_one(_flatten),
        "select": of_one(_select),
        "pad": of_one(_pad),
        "take": of_one(_take),
        "resize": of_one(_resize),
        "reshape": of_one(_reshape),
        "permute": of_one(_permute),
        "normalize": _normalize,
        "reduce": of_one(_reduce),
        "embedding": of_one(_embedding),
    }
)


def apply(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """Apply one operation, any but "input" and "output".

    Args:
        operation: its description, for example {"op": "flatten", "input": "x", "output": "y", "order": "chw"}.
        tensors: all that are defined so far, by name.
        arrays: the program's arrays, by name.

    Returns:
        the tensors that the operation defines, by name.

    Raises:
        ValueError: there is no such operation.
    """
    if operation["op"] not in APPLY:
        raise ValueError(f"there is no operation {operation['op']!r}")
    with np.errstate(all="ignore"):  # inf and NaN are values like any other
        return APPLY[operation["op"]](operation, tensors, arrays)
