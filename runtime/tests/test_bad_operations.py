"""Every rule of the operations around low-bit layers: a message names the operation, the key, and the rule."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program, _native

Array = np.ndarray[Any, Any]

INPUTS: list[dict[str, Any]] = [
    {"op": "input", "output": "x", "dtype": "float32", "shape": [3, 4, 5], "order": "nchw"},
    {"op": "input", "output": "q", "dtype": "uint8", "bits": 2, "shape": [3, 4, 5], "order": "nchw"},
    {"op": "input", "output": "v", "dtype": "float32", "shape": [3]},
    {"op": "input", "output": "p", "dtype": "uint8", "bits": 1, "shape": [2, 4, 5], "order": "nchw"},
    {"op": "input", "output": "one", "dtype": "float32", "shape": [7]},
]
INDEX = len(INPUTS)


def f32(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def u8(*shape: int) -> Array:
    return np.zeros(shape, np.uint8)


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


#: A good description of each, and its arrays.
GOOD: dict[str, tuple[dict[str, Any], dict[str, Array]]] = {
    "lookup": ({"input": "q", "output": "y", "bits": 2, "table": "t"}, {"t": u8(4)}),
    "dequantize": ({"input": "q", "output": "y", "table": "t"}, {"t": f32(3, 4)}),
    "avg_pool": (
        {"input": "x", "output": "y", "kernel_size": [2, 2], "stride": [1, 1], "padding": [0, 0, 0, 0]}
        | {"count_include_pad": True},
        {},
    ),
    "global_avg_pool": ({"input": "x", "output": "y"}, {}),
    "adaptive_avg_pool": ({"input": "x", "output": "y", "output_size": [2, 7]}, {}),
    "add": ({"inputs": ["x", "x"], "float32": "y"}, {}),
    "concat": ({"inputs": ["x", "x"], "output": "y"}, {}),
    "conv2d_float": (
        {"input": "x", "weight": "w", "kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 1]}
        | {"dilation": [1, 1], "groups": 1, "float32": "y"},
        {"w": f32(4, 3, 3, 3)},
    ),
    "linear_float": ({"input": "v", "weight": "w", "float32": "y"}, {"w": f32(4, 3)}),
    "linear_weight_only": (
        {"input": "v", "output": "y", "weight": "w", "weight_bits": 3, "out_channels": 4, "scale": "s"},
        {"w": u8(4, 2), "s": f32(4, 1)},
    ),
    "linear_groups": (
        {"input": "q", "output": "y", "weight": "w", "weight_bits": 3, "out_channels": 4, "scale": "s"},
        {"w": u8(4, 2), "s": f32(4, 3)},
    ),
    "activation": ({"input": "x", "output": "y", "function": "leaky_relu", "slope": "s"}, {"s": f32(3)}),
    "softmax": ({"input": "x", "output": "y"}, {}),
    **dict.fromkeys(("sub", "mul", "div", "minimum", "maximum"), ({"inputs": ["x", "v"], "output": "y"}, {})),
    "where": ({"inputs": ["x", "v"], "condition": "x", "output": "y"}, {}),
    "constant": ({"output": "y", "values": "c"}, {"c": f32(2, 3)}),
    "select": ({"input": "q", "output": "y", "channels": "c"}, {"c": i32(2, 0, 0)}),
    "pad": ({"input": "x", "output": "y", "padding": [1, 2, 1, 0], "mode": "constant"}, {}),
    "adaptive_max_pool": ({"input": "q", "output": "y", "output_size": [2, 7]}, {}),
    "resize": ({"input": "x", "output": "y", "output_size": [6, 7], "mode": "linear"}, {}),
    "conv_transpose": (
        {"input": "q", "weight": "w", "weight_bits": 1, "out_channels": 4, "kernel_size": [2, 2], "stride": [2, 2]}
        | {"padding": [0, 0], "output_padding": [0, 0], "dilation": [1, 1], "groups": 1, "int32": "y"},
        {"w": u8(4, 2)},
    ),
    "conv_transpose_float": (
        {"input": "x", "weight": "w", "kernel_size": [2, 2], "stride": [2, 2], "padding": [0, 0]}
        | {"output_padding": [0, 0], "dilation": [1, 1], "groups": 1, "float32": "y"},
        {"w": f32(4, 2, 2, 3)},
    ),
}

#: (operation, changed keys, arrays in place of its own, the key at fault, what the message says of it)
Mistake = tuple[str, dict[str, Any], dict[str, Array], str | None, str]

_TRANSPOSED = GOOD["conv_transpose"][1]
_FLOAT_TRANSPOSED = GOOD["conv_transpose_float"][1]
MISTAKES: list[Mistake] = [
    ("lookup", {"bits": 1}, {"t": np.array([0, 1, 2, 1], np.uint8)}, "table", "entry 2, but 1-bit codes are at most 1"),
    ("lookup", {}, {"t": u8(3)}, "table", "is uint8 [3], but must be uint8 [4]"),
    ("lookup", {}, {"t": u8(2, 4)}, "table", "is uint8 [2, 4], but must be uint8 [3, 4]"),
    ("lookup", {}, {"t": f32(4)}, "table", "is float32 [4], but must be uint8 [4]"),
    ("lookup", {}, {}, "table", "there is no array of that name"),
    ("lookup", {"bits": 9}, {"t": u8(4)}, "bits", "an integer from 1 to 8"),
    ("lookup", {"input": "x"}, {"t": u8(4)}, "input", '"x" is float32 [4, 5, 3], but must be codes'),
    ("dequantize", {}, {"t": f32(3)}, "table", "is float32 [3], but must be float32 [4]"),
    ("dequantize", {}, {"t": f32(4, 3)}, "table", "is float32 [4, 3], but must be float32 [3, 4]"),
    ("dequantize", {}, {"t": f32(1, 3, 4)}, "table", "but must be float32 [4]"),
    ("dequantize", {}, {"t": u8(4)}, "table", "is uint8 [4], but must be float32 [4]"),
    ("dequantize", {}, {}, "table", "there is no array of that name"),
    ("dequantize", {"scale": 1.0}, {"t": f32(4)}, "scale", 'has no meaning beside "table"'),
    ("dequantize", {"sign": False}, {"t": f32(4)}, "sign", 'has no meaning beside "table"'),
    ("dequantize", {"sign": True, "table": None}, {}, "sign", "needs codes of 1 bit, but the input is codes"),
    ("dequantize", {"sign": 1, "table": None}, {}, "sign", "must be true or false"),
    ("dequantize", {"scale": "a", "table": None}, {}, "scale", "must be a number"),
    ("dequantize", {"scale": 1e39, "table": None}, {}, "scale", "must be finite as a float32"),
    ("dequantize", {"input": "x", "table": None}, {}, "input", "but must be codes"),
    ("avg_pool", {"scale": 1.0}, {}, "scale", "has a meaning only for codes, but the input is float32"),
    ("avg_pool", {"count_include_pad": 1}, {}, "count_include_pad", "must be true or false"),
    (
        "avg_pool",
        {"kernel_size": [5, 2]},
        {},
        "kernel_size",
        "spans [5, 2] pixels, more than the padded input's [4, 5]",
    ),
    ("avg_pool", {"kernel_size": [0, 2]}, {}, "kernel_size", "each must be an integer from 1"),
    ("avg_pool", {"stride": [1, 0]}, {}, "stride", "each must be an integer from 1"),
    ("avg_pool", {"padding": [0, 0]}, {}, "padding", "must be a list of 4 integers"),
    (
        "avg_pool",
        {"padding": [0, 0, 2, 0], "count_include_pad": False},
        {},
        "padding",
        'must be smaller than the kernel where "count_include_pad" is false',
    ),
    (
        "avg_pool",
        {"input": "q", "kernel_size": [2**15, 2**15], "padding": [2**15] * 4},
        {},
        None,
        "sums of up to 3221225472 must stay below 2^31",
    ),
    ("adaptive_avg_pool", {"output_size": [2]}, {}, "output_size", "must have a number for each axis of rows"),
    ("adaptive_avg_pool", {"output_size": [0, 2]}, {}, "output_size", "each must be an integer from 1"),
    (
        "adaptive_avg_pool",
        {"output_size": [2**20 + 1, 2]},
        {},
        "output_size",
        "each must be an integer from 1 to 1048576",
    ),
    ("adaptive_avg_pool", {"input": "q"}, {}, "input", "but must be float32"),
    ("global_avg_pool", {"scale": 0.5}, {}, "scale", "has a meaning only for codes"),
    ("global_avg_pool", {"scale": True, "input": "q"}, {}, "scale", "must be a number"),
    ("global_avg_pool", {"output": "x"}, {}, "output", "a tensor of that name is already there"),
    ("add", {"inputs": ["x"]}, {}, "inputs", "must be two tensors"),
    ("add", {"inputs": ["x", "x", "x"]}, {}, "inputs", "must be two tensors"),
    ("add", {"inputs": []}, {}, "inputs", "must be a list of one or more names"),
    ("add", {"inputs": "x"}, {}, "inputs", "must be a list of one or more names"),
    ("add", {"inputs": ["x", "one"]}, {}, "inputs", '"one" is float32 [1, 1, 7], but "x" is float32 [4, 5, 3]'),
    ("add", {"inputs": ["x", "q"]}, {}, "inputs", '"q" is codes [4, 5, 3] of 2 bits, but must be float32'),
    ("add", {"relu": 1}, {}, "relu", "must be true or false"),
    ("add", {"bits": 2}, {}, "bits", 'has a meaning only beside "codes"'),
    ("add", {"thresholds": "t"}, {}, "thresholds", 'has a meaning only beside "codes"'),
    ("add", {"descending": "t"}, {}, "descending", 'has a meaning only beside "codes"'),
    ("add", {"float32": None}, {}, None, 'needs an output: "float32" or "codes"'),
    ("add", {"codes": "c"}, {}, None, 'the key "bits" is missing'),
    (
        "add",
        {"codes": "c", "bits": 2, "descending": "d"},
        {"d": np.zeros(3, np.bool_)},
        "descending",
        'has a meaning only beside "thresholds"',
    ),
    (
        "add",
        {"codes": "c", "bits": 2, "thresholds": "t"},
        {"t": f32(3, 2)},
        "thresholds",
        "is float32 [3, 2], but must be float32 [3, 3]",
    ),
    (
        "add",
        {"codes": "c", "bits": 1, "thresholds": "t"},
        {"t": np.zeros((3, 1), np.int32)},
        "thresholds",
        "is int32 [3, 1], but must be float32 [3, 1]",
    ),
    (
        "add",
        {"codes": "c", "bits": 2, "thresholds": "t"},
        {"t": np.array([[1, 3, 2]] * 3, np.float32)},
        None,
        "thresholds: channel 0 must be in rising order, but threshold 2 is 2.000000 after 3.000000",
    ),
    (
        "add",
        {"codes": "c", "bits": 2, "thresholds": "t"},
        {"t": np.array([[1, 2, 3], [1, np.nan, np.inf], [1, np.nan, np.nan]], np.float32)},
        None,
        "thresholds: channel 1, threshold 2 is inf after NaN, which no number reaches, and which must therefore be the",
    ),
    ("concat", {"inputs": ["x", "q"]}, {}, "inputs", "and the kind of values must be equal"),
    ("concat", {"inputs": ["q", "p"]}, {}, "inputs", '"p" is codes [4, 5, 2] of 1 bit, but "q" is codes'),
    ("concat", {"inputs": ["x", "v"]}, {}, "inputs", '"v" is float32 [1, 1, 3], but "x" is float32 [4, 5, 3]'),
    ("concat", {"inputs": ["x", "z"]}, {}, "inputs", 'no operation before this one gives a tensor called "z"'),
    ("concat", {"inputs": []}, {}, "inputs", "must be a list of one or more names"),
    (
        "conv2d_float",
        {"input": "q"},
        {"w": f32(4, 3, 3, 3)},
        "input",
        "is codes [4, 5, 3] of 2 bits, but must be float32",
    ),
    ("conv2d_float", {}, {"w": f32(4, 3, 3, 2)}, "weight", "[4, 3, 3, 2], but must be float32 [4, 3, 3, 3]"),
    ("conv2d_float", {}, {"w": f32(4, 27)}, "weight", "is float32 [4, 27], but must be float32 [4, 3, 3, 3]"),
    ("conv2d_float", {}, {"w": f32(0, 3, 3, 3)}, "weight", "must have from 1 to 16777216 output channels"),
    ("conv2d_float", {}, {"w": u8(4, 3, 3, 3)}, "weight", "is uint8 [4, 3, 3, 3], but must be float32"),
    ("conv2d_float", {"out_channels": 5}, {"w": f32(4, 3, 3, 3)}, "weight", "but must be float32 [5, 3, 3, 3]"),
    ("conv2d_float", {"groups": 2}, {"w": f32(4, 3, 3, 3)}, "groups", "must divide the input's 3 channels"),
    ("conv2d_float", {"groups": 3}, {"w": f32(4, 3, 3, 1)}, "groups", "and the 4 output channels"),
    ("conv2d_float", {"kernel_size": [7, 7]}, {"w": f32(4, 7, 7, 3)}, "kernel_size", "spans [7, 7] pixels, more than"),
    ("conv2d_float", {"dilation": [1]}, {"w": f32(4, 3, 3, 3)}, "dilation", "must be a list of 2 integers"),
    ("conv2d_float", {"weight_bits": 1}, {"w": f32(4, 3, 3, 3)}, "weight_bits", "unknown key"),
    ("conv2d_float", {"int32": "d"}, {"w": f32(4, 3, 3, 3)}, "int32", "unknown key"),
    ("conv2d_float", {"sign_activations": False}, {"w": f32(4, 3, 3, 3)}, "sign_activations", "unknown key"),
    ("conv2d_float", {"multiply": "m"}, {"w": f32(4, 3, 3, 3), "m": f32(4)}, None, '"multiply" and "offset"'),
    (
        "conv2d_float",
        {"multiply": "m", "offset": "b"},
        {"w": f32(4, 3, 3, 3), "m": f32(4), "b": f32(3)},
        "offset",
        "is float32 [3], but must be float32 [4]",
    ),
    (
        "conv2d_float",
        {"residual": "x"},
        {"w": f32(4, 3, 3, 3)},
        "residual",
        "is float32 [4, 5, 3], but the output is [4, 5, 4]",
    ),
    (
        "conv2d_float",
        {"codes": "c", "bits": 1, "thresholds": "t"},
        {"w": f32(4, 3, 3, 3), "t": np.zeros((4, 1), np.int32)},
        "thresholds",
        "is int32 [4, 1], but must be float32 [4, 1]",
    ),
    ("conv2d_float", {"float32": None}, {"w": f32(4, 3, 3, 3)}, None, 'needs an output: "float32" or "codes"'),
    ("linear_float", {"input": "x"}, {"w": f32(4, 60)}, "weight", "must be float32 [4, 3]"),
    ("linear_float", {"input": "q"}, {"w": f32(4, 60)}, "input", "but must be float32"),
    ("linear_float", {}, {"w": f32(4, 4)}, "weight", "is float32 [4, 4], but must be float32 [4, 3]"),
    ("linear_float", {}, {"w": f32(4, 1, 1, 3)}, "weight", "but must be float32 [4, 3]"),
    ("linear_float", {}, {"w": u8(4, 3)}, "weight", "is uint8 [4, 3], but must be float32 [4, 3]"),
    ("linear_float", {"out_channels": 5}, {"w": f32(4, 3)}, "weight", "but must be float32 [5, 3]"),
    ("linear_float", {"kernel_size": [1, 1]}, {"w": f32(4, 3)}, "kernel_size", "unknown key"),
    (
        "linear_float",
        {"residual": "v"},
        {"w": f32(4, 3)},
        "residual",
        "is float32 [1, 1, 3], but the output is [1, 1, 4]",
    ),
    ("linear_float", {"offset": "b"}, {"w": f32(4, 3), "b": f32(4)}, None, '"multiply" and "offset"'),
    ("linear_float", {"float32": None}, {"w": f32(4, 3)}, None, 'needs an output: "float32" or "codes"'),
    ("linear_weight_only", {"input": "q"}, {}, "input", "but must be float32"),
    ("linear_weight_only", {}, {"w": u8(4, 3)}, "weight", "is uint8 [4, 3], but must be uint8 [4, 2]"),
    ("linear_weight_only", {}, {"w": u8(4, 2) + 2}, "weight", "channel 0: the last 7 bits of its row must be zero"),
    ("linear_weight_only", {"weight_bits": 9}, {}, "weight_bits", "must be an integer from 1 to 8"),
    ("linear_weight_only", {"weight_grid": "even"}, {}, "weight_grid", 'must be one of "odd", "signed"'),
    (
        "linear_weight_only",
        {},
        {"w": u8(4, 2), "s": f32(4, 2)},
        "scale",
        "as many groups as divide the input's 3 channels",
    ),
    (
        "linear_weight_only",
        {},
        {"w": u8(4, 2), "s": f32(4)},
        "scale",
        "is float32 [4], but must be float32 [4, groups]",
    ),
    (
        "linear_weight_only",
        {},
        {"w": u8(4, 2), "s": f32(4, 0)},
        "scale",
        "is float32 [4, 0], but must be float32 [4, groups]",
    ),
    ("linear_weight_only", {}, {"w": u8(4, 2), "s": u8(4, 1)}, "scale", "is uint8 [4, 1], but must be float32 [4, 1]"),
    (
        "linear_weight_only",
        {"bias": "b"},
        {"w": u8(4, 2), "s": f32(4, 1), "b": f32(3)},
        "bias",
        "is float32 [3], but must be float32 [4]",
    ),
    ("linear_groups", {"input": "x"}, {}, "input", "but must be codes"),
    ("linear_groups", {}, {"w": u8(4, 3)}, "weight", "is uint8 [4, 3], but must be uint8 [4, 2]"),
    ("linear_groups", {}, {"w": u8(4, 2) + 2}, "weight", "channel 0: the last 7 bits of its row must be zero"),
    ("linear_groups", {"weight_bits": 9}, {}, "weight_bits", "must be an integer from 1 to 8"),
    ("linear_groups", {"weight_grid": "even"}, {}, "weight_grid", 'must be one of "odd", "signed"'),
    ("linear_groups", {"zero_point": 4}, {}, "zero_point", "must be an integer from 0 to 3"),
    ("linear_groups", {"sign_activations": True}, {}, "sign_activations", "needs an input of 1 bit"),
    (
        "linear_groups",
        {"input": "p", "sign_activations": True, "zero_point": 1},
        {"w": u8(4, 1), "s": f32(4, 1)},
        "zero_point",
        "must be 0 or missing",
    ),
    (
        "linear_groups",
        {},
        {"w": u8(4, 2), "s": f32(4, 2)},
        "scale",
        "as many groups as divide the input's 3 channels",
    ),
    ("linear_groups", {}, {"w": u8(4, 2), "s": f32(4)}, "scale", "is float32 [4], but must be float32 [4, groups]"),
    ("linear_groups", {}, {"w": u8(4, 2), "s": u8(4, 1)}, "scale", "is uint8 [4, 1], but must be float32 [4, 1]"),
    (
        "linear_groups",
        {"bias": "b"},
        {"w": u8(4, 2), "s": f32(4, 1), "b": f32(3)},
        "bias",
        "is float32 [3], but must be float32 [4]",
    ),
    ("linear_groups", {"float32": "y"}, {}, "float32", "unknown key"),
    (
        "activation",
        {"function": "relu", "slope": None},
        {},
        "function",
        'must be one of "leaky_relu", "elu", "selu"',
    ),
    ("activation", {"function": "silu"}, {"s": f32(3)}, "slope", 'has a meaning only with "function": "leaky_relu"'),
    ("activation", {"slope": None}, {}, None, 'the key "slope" is missing'),
    ("activation", {"lambda": 0.5}, {"s": f32(3)}, "lambda", 'only with "function": "hardshrink" or "softshrink"'),
    *(
        ("activation", {"slope": None, "function": function, **keys}, {}, key, rule)
        for function, keys, key, rule in (
            ("celu", {}, None, 'the key "alpha" is missing'),
            ("celu", {"alpha": 0}, "alpha", "must be above 0"),
            ("celu", {"alpha": -1.0}, "alpha", "must be above 0"),
            ("celu", {"alpha": 1e-60}, "alpha", "must be above 0"),
            ("celu", {"alpha": 1.0, "beta": 1.0}, "beta", 'has a meaning only with "function": "softplus"'),
            ("softplus", {"beta": 1.0}, None, 'the key "threshold" is missing'),
            ("softplus", {"beta": -1.0, "threshold": 20.0}, "beta", "must be above 0"),
            ("softplus", {"beta": "1", "threshold": 20.0}, "beta", "must be a number"),
            ("threshold", {"threshold": 1e39, "value": 0.0}, "threshold", "must be finite as a float32"),
            ("threshold", {"threshold": 1.0}, None, 'the key "value" is missing'),
            ("hardshrink", {"lambda": -0.5}, "lambda", "must not be below 0"),
            ("softshrink", {}, None, 'the key "lambda" is missing'),
            ("tanh", {"value": 1.0}, "value", 'has a meaning only with "function": "threshold"'),
            ("tanh", {"threshold": 1.0}, "threshold", 'only with "function": "softplus" or "threshold"'),
        )
    ),
    ("activation", {"slope": 0.1}, {}, "slope", "must be a name"),
    ("activation", {}, {"s": f32(1)}, "slope", "is float32 [1], but must be float32 [3]"),
    ("activation", {}, {"s": f32(3).astype(np.float64)}, "slope", "is float64 [3], but must be float32 [3]"),
    ("activation", {"input": "q"}, {"s": f32(3)}, "input", "is codes [4, 5, 3] of 2 bits, but must be float32"),
    ("softmax", {"log": 1}, {}, "log", "must be true or false"),
    ("softmax", {"input": "q"}, {}, "input", "but must be float32"),
    ("softmax", {"axis": 1}, {}, "axis", 'unknown key — softmax has "input", "output", "log"'),
    ("mul", {"inputs": ["x"]}, {}, "inputs", "must be two tensors"),
    ("mul", {"inputs": ["x", "x", "v"]}, {}, "inputs", "must be two tensors"),
    ("mul", {"inputs": ["x", "q"]}, {}, "inputs", '"q" is codes [4, 5, 3] of 2 bits, but must be float32'),
    ("mul", {"inputs": ["one", "x"]}, {}, "inputs", '"x" is float32 [4, 5, 3], but "one" is float32 [1, 1, 7]'),
    ("mul", {"inputs": ["one", "x"]}, {}, "inputs", "sizes must be equal or 1"),
    ("where", {"condition": "one"}, {}, "inputs", '"one" is float32 [1, 1, 7], but "x" is float32 [4, 5, 3]'),
    ("where", {"condition": "q"}, {}, "condition", "is codes [4, 5, 3] of 2 bits, but must be float32"),
    ("where", {"inputs": ["x"]}, {}, "inputs", "must be two tensors"),
    *((op, {"inputs": ["x", "q"]}, {}, "inputs", "but must be float32") for op in ("sub", "div", "minimum", "maximum")),
    *((op, {"inputs": ["x"]}, {}, "inputs", "must be two tensors") for op in ("sub", "div", "minimum", "maximum")),
    ("constant", {}, {"c": i32(1, 2)}, "values", "the array is int32 [2], but must be float32 [2]"),
    ("constant", {}, {"c": f32()}, "values", "up to 8 dimensions, or [C]"),
    ("constant", {}, {"c": f32(*[1] * 9)}, "values", "up to 8 dimensions, or [C]"),
    ("constant", {}, {"c": f32(2, 0, 3)}, None, "the result would be [2, 0, 3], empty"),
    ("constant", {}, {}, "values", "there is no array of that name"),
    ("select", {}, {"c": i32(0, 3)}, "channels", 'entry 1 is 3, but the channels of "q" are 0 to 2'),
    ("select", {}, {"c": i32(-1, 0)}, "channels", 'entry 0 is -1, but the channels of "q" are 0 to 2'),
    ("select", {}, {"c": i32()}, "channels", "is int32 [0], but must be int32 [K] of one or more channels"),
    ("select", {}, {"c": i32(0, 1).reshape(1, 2)}, "channels", "but must be int32 [K] of one or more channels"),
    ("select", {}, {"c": np.array([0, 1])}, "channels", "is int64 [2], but must be int32 [2]"),
    ("select", {}, {}, "channels", "there is no array of that name"),
    ("select", {"channels": [0, 1]}, {}, "channels", "must be a name"),
    ("pad", {"mode": "zeros"}, {}, "mode", 'must be one of "constant", "reflect", "replicate", "circular"'),
    ("pad", {"padding": [1, 1]}, {}, "padding", "must have two numbers for each axis of rows"),
    ("pad", {"padding": [0, 0, 0, -1]}, {}, "padding", "each must be an integer from 0"),
    ("pad", {"padding": [2**20] * 4}, {}, None, "the result would be [rows ..., C] = [2097156, 2097157, 3]; at most"),
    ("pad", {"mode": "reflect", "padding": [4, 0, 0, 0]}, {}, "padding", 'must be smaller than the height of "x", 4'),
    ("pad", {"mode": "reflect", "padding": [0, 0, 4, 0]}, {}, "padding", 'must be smaller than the height of "x", 4'),
    ("pad", {"mode": "reflect", "padding": [0, 5, 0, 0]}, {}, "padding", 'must be smaller than the width of "x", 5'),
    ("pad", {"mode": "circular", "padding": [5, 0, 0, 0]}, {}, "padding", 'not be larger than the height of "x", 4'),
    ("pad", {"mode": "circular", "padding": [0, 0, 0, 6]}, {}, "padding", 'not be larger than the width of "x", 5'),
    ("pad", {"mode": "replicate", "value": 0.0}, {}, "value", 'has a meaning only with "mode": "constant"'),
    ("pad", {"mode": "circular", "channels": [1, 0]}, {}, "channels", 'has a meaning only with "mode": "constant"'),
    ("pad", {"padding": [1, 1, 1]}, {}, "padding", "must have two numbers for each axis of rows"),
    ("pad", {"padding": [0] * 16}, {}, "padding", "must have two numbers for each axis of rows"),
    ("pad", {"padding": [1, 0, 0, 0, 0, 0], "mode": "reflect"}, {}, "padding", 'smaller than the depth of "x", 1'),
    ("avg_pool", {"beyond": [1]}, {}, "beyond", "must be a list of 2 integers"),
    ("avg_pool", {"beyond": [2, 0]}, {}, "beyond", 'smaller than the kernel together with "beyond"'),
    ("avg_pool", {"divisor": 0}, {}, "divisor", "must be an integer from 1"),
    ("avg_pool", {"kernel_size": [2]}, {}, "kernel_size", "must have a number for each axis of rows"),
    ("adaptive_max_pool", {"output_size": [1, 2, 3, 4]}, {}, "output_size", "must be a list of 1 to 3 integers"),
    ("adaptive_max_pool", {"output_size": [2, 0]}, {}, "output_size", "each must be an integer from 1"),
    ("resize", {"mode": "bilinear"}, {}, "mode", 'must be one of "nearest", "linear", "cubic"'),
    ("resize", {"input": "q"}, {}, "input", "but must be float32"),
    ("resize", {"output_size": [0, 1]}, {}, "output_size", "each must be an integer from 1"),
    ("resize", {"output_size": [3]}, {}, "output_size", "must have a number for each axis of rows"),
    ("resize", {"output_size": [2, 3, 4], "mode": "cubic"}, {}, "mode", 'needs two axes to be "cubic"'),
    ("resize", {"mode": "nearest", "align_corners": True}, {}, "align_corners", "has no meaning where no pixels"),
    ("resize", {"mode": "nearest", "scale": [2, 2]}, {}, "scale", "has a meaning only where pixels are blended"),
    ("resize", {"align_corners": True, "scale": [2, 2]}, {}, "scale", "has a meaning only where pixels are blended"),
    ("resize", {"scale": [2]}, {}, "scale", "must be a list of 2 numbers"),
    ("resize", {"scale": [2, "a"]}, {}, "scale", "must be numbers from 1e-6 to 1e6"),
    ("resize", {"scale": [2, 0]}, {}, "scale", "must be numbers from 1e-6 to 1e6"),
    ("conv_transpose", {"padding": [4, 0]}, _TRANSPOSED, "padding", "leaves nothing of the result: [0, 10] pixels"),
    ("conv_transpose", {"padding": [0, 0, 0, 0]}, _TRANSPOSED, "padding", "must be a list of 2 integers"),
    (
        "conv_transpose",
        {"output_padding": [2, 0]},
        _TRANSPOSED,
        "output_padding",
        "smaller than the stride or the dilation",
    ),
    ("conv_transpose", {"output_padding": [-1, 0]}, _TRANSPOSED, "output_padding", "each must be an integer from 0"),
    ("conv_transpose", {"stride": [0, 1]}, _TRANSPOSED, "stride", "each must be an integer from 1"),
    ("conv_transpose", {"groups": 2}, _TRANSPOSED, "groups", "must divide the input's 3 channels"),
    ("conv_transpose", {"kernel_size": [2, 3]}, _TRANSPOSED, "weight", "uint8"),
    ("conv_transpose_float", {"kernel_size": [2, 3]}, _FLOAT_TRANSPOSED, "weight", "must be float32 [4, 2, 3, 3]"),
    ("conv_transpose_float", {"int32": "z"}, _FLOAT_TRANSPOSED, "int32", "unknown key"),
    ("pad", {"channels": [1]}, {}, "channels", "must be a list of 2 integers"),
    ("pad", {"channels": [0, -1]}, {}, "channels", "each must be an integer from 0"),
    ("pad", {"value": "a"}, {}, "value", "must be a number"),
    ("pad", {"value": -1e39}, {}, "value", "must be finite as a float32"),
    ("pad", {"input": "q", "value": 4}, {}, "value", "must be an integer from 0 to 3"),
    ("pad", {"input": "q", "value": 0.5}, {}, "value", "must be an integer from 0 to 3"),
]
#: Keys that must be there, by operation.
NEEDED = {
    "lookup": ("input", "output", "bits", "table"),
    "dequantize": ("input", "output"),
    "avg_pool": ("input", "output", "kernel_size", "stride", "padding", "count_include_pad"),
    "global_avg_pool": ("input", "output"),
    "adaptive_avg_pool": ("input", "output", "output_size"),
    "add": ("inputs",),
    "concat": ("inputs", "output"),
    "conv2d_float": ("input", "weight", "kernel_size", "stride", "padding", "dilation", "groups"),
    "linear_float": ("input", "weight"),
    "linear_weight_only": ("input", "output", "weight", "weight_bits", "out_channels", "scale"),
    "linear_groups": ("input", "output", "weight", "weight_bits", "out_channels", "scale"),
    "activation": ("input", "output", "function"),
    "softmax": ("input", "output"),
    **dict.fromkeys(("sub", "mul", "div", "minimum", "maximum"), ("inputs", "output")),
    "where": ("inputs", "condition", "output"),
    "constant": ("output", "values"),
    "select": ("input", "output", "channels"),
    "pad": ("input", "output", "padding", "mode"),
    "adaptive_max_pool": ("input", "output", "output_size"),
    "resize": ("input", "output", "output_size", "mode"),
    "conv_transpose": ("input", "weight", "kernel_size", "stride", "padding", "output_padding", "dilation", "groups"),
}
MISTAKES += [
    (op, {key: None}, GOOD[op][1], None, f'the key "{key}" is missing') for op, keys in NEEDED.items() for key in keys
]
MISTAKES += [(op, {"colour": 1}, good[1], "colour", f"unknown key — {op} has ") for op, good in GOOD.items()]


def program(op: str, changes: dict[str, Any], arrays: dict[str, Array]) -> Program:
    """The good description with changes; a key that becomes None is left out."""
    operation = {key: value for key, value in ({"op": op} | GOOD[op][0] | changes).items() if value is not None}
    output = {"op": "output", "input": operation.get("output", operation.get("float32", "x")), "order": "nchw"}
    return Program([*INPUTS, operation, output], arrays)


@pytest.mark.parametrize("op", GOOD)
def test_the_descriptions_themselves_are_good(op: str) -> None:
    program(op, {}, GOOD[op][1])


@pytest.mark.parametrize(
    ("op", "changes", "arrays", "key", "rule"), MISTAKES, ids=[f"{i}-{m[0]}-{m[3]}" for i, m in enumerate(MISTAKES)]
)
def test_mistakes(op: str, changes: dict[str, Any], arrays: dict[str, Array], key: str | None, rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(rule)) as raised:
        program(op, changes, arrays)
    where = f"operation {INDEX} ({op})" + (": " if key is None else f', "{key}": ')
    assert str(raised.value).startswith(where), str(raised.value)


@pytest.mark.parametrize(("op", "keys"), _native.operations().items())
def test_the_keys_of_an_operation_are_those_that_are_allowed(op: str, keys: list[str]) -> None:
    with pytest.raises(ValueError, match=f'"colour": unknown key — {op} has ') as error:
        Program([{"op": op, "colour": 1}], {})
    assert sorted(re.findall(r'"(\w+)"', str(error.value).partition(" has ")[2])) == keys
    for key in keys:
        with pytest.raises(ValueError, match=r"^(?!.*unknown key)"):
            Program([{"op": op, key: 1}], {})
