"""How each operation of a program is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pairs
from .basics import Floats, Integers, Operation
from .codes import dequantize, lookup, table_entries
from .convolutions import conv2d_codes, conv2d_float
from .embeddings import embedding, packed_table
from .functions import (
    elu,
    gelu,
    gelu_tanh,
    hardsigmoid,
    hardswish,
    leaky_relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from .matrices import attention, matmul, matmul_codes
from .packed_weights import unpack_weights
from .pools import adaptive_avg_pool, avg_pool, global_avg_pool, max_pool
from .rows import as_one_row, concat, flatten, permute, reshape, take
from .sliding import as_image, as_signal, pad, two_axes
from .stages import at_least, at_most
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


def _convolve(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """conv2d, linear, conv2d_float and linear_float; a linear layer is a 1×1 convolution of all rows."""
    given = tensors[operation["input"]].values
    axes = len(operation.get("kernel_size", ()))
    x = as_image(given, axes) if axes > 0 else as_one_row(given)
    geometry = two_axes(operation)
    kernel = tuple(geometry.pop("kernel_size", (1, 1)))
    groups = operation.get("groups", 1)
    geometry |= {"groups": groups}
    weight = arrays[operation["weight"]]
    d: Integers | None = None
    y: Floats | None = None
    if operation["op"] in ("conv2d", "linear"):
        shape, grid = (*kernel, x.shape[3] // groups), operation.get("weight_grid", "odd")
        codes = unpack_weights(weight, operation["weight_bits"], shape, grid)
        meaning = {key: operation[key] for key in ("sign_activations", "zero_point") if key in operation}
        d = conv2d_codes(x, codes, **meaning, **geometry)
    else:
        y = conv2d_float(x, weight.reshape(len(weight), *kernel, x.shape[3] // groups), **geometry)
    sums: NDArray[Any] = d if d is not None else y  # type: ignore[assignment]  # one of them is there
    sums = as_signal(sums, axes) if axes > 0 else sums.reshape(*given.shape[:-1], sums.shape[-1])
    d, y = (sums, None) if d is not None else (None, sums)
    if y is not None or "multiply" in operation:
        y = apply_float_stage(operation, tensors, arrays, sums)
    return leaving(operation, arrays, y, d)


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


def _attention(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    query, key, value, *others = (tensors[name].values for name in operation["inputs"])
    bias = others[0] if others else None
    scale, causal = operation.get("scale", 1.0), operation.get("causal", False)
    return {operation["output"]: Tensor(attention(query, key, value, bias, scale, causal))}


def _concat(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    parts = [tensors[name] for name in operation["inputs"]]
    values = concat([part.values for part in parts], operation.get("axis", 0))
    return {operation["output"]: Tensor(values, parts[0].bits)}


def _quantize(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return leaving_codes(operation, arrays, x.values, None)


def _dequantize(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    if "table" in operation:
        return Tensor(table_entries(x.values, arrays[operation["table"]]))
    assert x.bits is not None
    return Tensor(dequantize(x.values, x.bits, operation.get("sign", False), operation.get("scale")))


def _lookup(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(lookup(x.values, arrays[operation["table"]]), operation["bits"])


_FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "hardswish": hardswish,
    "hardsigmoid": hardsigmoid,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}


def _activation(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    function = operation["function"]
    with_slopes = {"leaky_relu": leaky_relu, "elu": elu}
    if function in with_slopes:
        return Tensor(with_slopes[function](x.values, arrays[operation["slope"]]))
    return Tensor(_FUNCTIONS[function](x.values))


def _softmax(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(softmax(x.values, operation.get("log", False)))


def _max_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    axes = len(operation["kernel_size"])
    return Tensor(as_signal(max_pool(as_image(x.values, axes), **two_axes(operation)), axes), x.bits)


def _avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    scale, count_padding = operation.get("scale", x.code_scale), operation["count_include_pad"]
    axes = len(operation["kernel_size"])
    image, window = as_image(x.values, axes), two_axes(operation)
    return Tensor(as_signal(avg_pool(image, **window, count_include_pad=count_padding, scale=scale), axes))


def _global_avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(global_avg_pool(x.values, operation.get("scale", x.code_scale)))


def _adaptive_avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    size = operation["output_size"]
    means = adaptive_avg_pool(as_image(x.values, len(size)), size if len(size) == 2 else [1, *size])
    return Tensor(as_signal(means, len(size)))


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


def _pad(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    keys = {key: operation[key] for key in ("value", "channels") if key in operation}
    padding = operation["padding"]
    if not any(padding):  # of any number of row axes
        padded = pad(as_one_row(x.values), (0, 0, 0, 0), operation["mode"], **keys)
        return Tensor(padded.reshape(*x.values.shape[:-1], padded.shape[-1]), x.bits)
    axes = len(padding) // 2
    around = padding if axes == 2 else [0, padding[0], 0, padding[1]]
    return Tensor(as_signal(pad(as_image(x.values, axes), around, operation["mode"], **keys), axes), x.bits)


def _embedding(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    table = arrays[operation["table"]]
    if table.dtype == np.uint8:
        keys = operation["weight_bits"], operation["channels"], operation.get("weight_grid", "odd")
        table = packed_table(table, *keys, arrays[operation["scale"]])
    return Tensor(embedding(x.values, table))


#: How each operation is applied; "input" and "output" are what `run` begins and ends with.
APPLY: Mapping[str, Apply] = MappingProxyType(
    {
        **dict.fromkeys(("conv2d", "linear", "conv2d_float", "linear_float"), _convolve),
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
        "flatten": of_one(_flatten),
        "select": of_one(_select),
        "pad": of_one(_pad),
        "take": of_one(_take),
        "reshape": of_one(_reshape),
        "permute": of_one(_permute),
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
