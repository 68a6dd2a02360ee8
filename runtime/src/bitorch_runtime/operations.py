"""The operations of a program: one row each, which says all that is known of it beside its code.

The page of reference in docs/operations.md is made of the rows (`python -m bitorch_runtime.operations_page`). Whatever
asks which keys of an operation name arrays, or which tensors it gives, asks them. The compiled core has checks of its
own, and `bitorch_runtime.reference` its own arithmetic; the tests hold both to the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bitorch_runtime.operation_keys import (
    ARRAY_SHAPE,
    BITS,
    CODES,
    DESCENDING,
    FLOAT_STAGES,
    FLOATS,
    FLOATS_AND_CODES,
    FLOATS_OR_CODES,
    INTEGER_STAGES,
    MEANING,
    MOST_CHANNELS,
    ORDER,
    OUT_CHANNELS,
    OUT_CHANNELS_AGAIN,
    PACKED,
    PADDING,
    POOL_WINDOW,
    THRESHOLDS,
    WEIGHT_BITS,
    WINDOW,
    array,
    choice,
    flag,
    gives,
    norm,
    number,
    pair,
    per_channel,
    reads,
    residual,
    scale_and_offset,
    shape,
)
from bitorch_runtime.operation_row import Choice, Key, Op

_SUMS = "float sums: they are added in an order that depends on the CPU"
_EXPONENTIAL = (
    "it has an exponential, computed in one sequence of float32 operations: the same on every CPU, within 2.5 units in "
    "the last place, where another library has other last bits"
)
_DOUBLE = (
    "it has exponentials, computed in double and rounded once: the same on every CPU, but another library may round "
    "the other way"
)
_OUTPUTS = (("int32", "float32", "codes"),)
_FLOAT_OUTPUTS = (("float32", "codes"),)

_ENDS = (
    Op(
        "input",
        "Inputs and outputs",
        (
            gives("output", FLOATS_OR_CODES, "codes of uint8"),
            choice("dtype", (Choice("float32"), Choice("uint8", "codes; a call checks that they fit in their bits"))),
            shape("of one image, whatever the order; an axis of rows up to 2^20, and all but the last together"),
            ORDER,
            Key(
                "bits",
                "setting",
                "an integer",
                low=1,
                high=8,
                default="needed with uint8, refused with float32",
                doc="of the codes",
            ),
            ARRAY_SHAPE,
        ),
        "Take an array from the caller: [batch, C, rows …], [batch, rows …, C] or [batch, F].",
    ),
    Op(
        "output",
        "Inputs and outputs",
        (reads("input", ("float32", "int32", "codes")), ORDER, ARRAY_SHAPE),
        "Give an array to the caller: [batch, C, rows …] or [batch, rows …, C], or [batch, F] of a vector; float32, "
        "int32, or uint8 of codes.",
    ),
)

_LAYERS = (
    Op(
        "conv2d",
        "Layers on codes",
        (reads("input", CODES), PACKED, WEIGHT_BITS, OUT_CHANNELS, *WINDOW, *MEANING, *INTEGER_STAGES),
        "Convolve codes with low-bit weights, on integers. K = h·w·C/groups weights make a channel; K times the "
        "largest weight code times the largest code of the input must stay below 2^31.",
        "D = Σ c·(q − zero_point)",
        _OUTPUTS,
        multiplies=True,
    ),
    Op(
        "linear",
        "Layers on codes",
        (reads("input", CODES, "[rows …, F]"), PACKED, WEIGHT_BITS, OUT_CHANNELS, *MEANING, *INTEGER_STAGES),
        "Multiply codes by low-bit weights, on integers, at each place of the rows: a convolution of a pixel, K = F.",
        "D = Σ c·(q − zero_point)",
        _OUTPUTS,
        multiplies=True,
    ),
    Op(
        "conv2d_float",
        "Layers on floats",
        (
            reads("input", FLOATS),
            array(
                "weight",
                "float32 [N, h, w, C/groups], or [N, w, C/groups] of one axis",
                FLOATS,
                "h and w are those of kernel_size",
            ),
            OUT_CHANNELS_AGAIN,
            *WINDOW,
            *FLOAT_STAGES,
        ),
        "Convolve floats.",
        "y = Σ w·x",
        _FLOAT_OUTPUTS,
        _SUMS,
        multiplies=True,
    ),
    Op(
        "linear_float",
        "Layers on floats",
        (
            reads("input", FLOATS, "[rows …, F]"),
            array("weight", "float32 [N, F]", FLOATS),
            OUT_CHANNELS_AGAIN,
            *FLOAT_STAGES,
        ),
        "Multiply floats at each place of the rows.",
        "y = Σ w·x",
        _FLOAT_OUTPUTS,
        _SUMS,
        multiplies=True,
    ),
)

_BETWEEN_FLOATS_AND_CODES = (
    Op(
        "quantize",
        "From floats to codes and back",
        (reads("input", FLOATS, "y"), gives("output", CODES, "q"), BITS, THRESHOLDS, DESCENDING),
        "Make codes of floats.",
        "q = round(n·clip(y, 0, 1)), n = 2^bits − 1, or a number of thresholds",
    ),
    Op(
        "dequantize",
        "From floats to codes and back",
        (
            reads("input", CODES, "q"),
            gives("output", FLOATS, "y"),
            flag("sign", "2q − 1 in the place of q, of 1-bit codes; not beside table"),
            number("scale", "q·scale; not beside table", "q/n, and with sign 2q − 1 itself"),
            array(
                "table",
                "float32 [2^bits] or [C, 2^bits], of the input's bits",
                FLOATS,
                "y is its entry q, of all channels or of each",
                "scale and sign say it",
            ),
        ),
        "Make floats of codes.",
        "y = q/n, q·scale, 2q − 1, (2q − 1)·scale or table[q]",
    ),
    Op(
        "lookup",
        "From floats to codes and back",
        (
            reads("input", CODES, "q"),
            gives("output", CODES),
            BITS,
            array(
                "table",
                "uint8 [2^bits] or [C, 2^bits], of the input's bits",
                ("uint8",),
                "its entry q is the new code, which must fit in the bits of the result",
            ),
        ),
        "Make other codes of codes.",
        "table[q]",
    ),
)

_ELEMENTWISE = (
    Op(
        "add",
        "Elementwise",
        (
            Key("inputs", "reads", "two float32 of one shape", FLOATS, doc="a and b"),
            flag("relu", "y ← max(y, 0); NaN and −0 stay"),
            *FLOATS_AND_CODES,
        ),
        "Add two tensors.",
        "y = a + b",
        _FLOAT_OUTPUTS,
    ),
    Op(
        "affine",
        "Elementwise",
        (
            reads("input", FLOATS, "x"),
            per_channel("divide", "y = x / divide"),
            *scale_and_offset("y ← y·multiply + offset, two roundings", "this step is left out"),
            *norm(""),
            residual(""),
            number("low", "y ← low where y < low; not above high", "−∞"),
            number("high", "y ← high where y > high", "∞"),
            *FLOATS_AND_CODES,
        ),
        "What stands around low-bit layers in one pass, in the order of the keys; NaN stays.",
        "y = clamp((x / divide)·multiply + offset …, low, high)",
        (("divide", "multiply", "norm_multiply", "residual", "low", "high"), *_FLOAT_OUTPUTS),
    ),
    Op(
        "mul",
        "Elementwise",
        (
            Key("inputs", "reads", "two float32 of one shape, or the second [1, 1, C]", FLOATS, doc="a and b"),
            gives("output", FLOATS),
        ),
        "Multiply two tensors, the second perhaps a gate: one number for each channel.",
        "y = a·b",
    ),
    Op(
        "activation",
        "Elementwise",
        (
            reads("input", FLOATS, "x"),
            gives("output", FLOATS),
            choice(
                "function",
                (
                    Choice("leaky_relu", "x > 0 ? x : x·slope"),
                    Choice("elu", "x > 0 ? x : slope·(e^x − 1)", _EXPONENTIAL),
                    Choice("hardswish", "x·clamp(x + 3, 0, 6)/6"),
                    Choice("hardsigmoid", "clamp(x + 3, 0, 6)/6"),
                    Choice("sigmoid", "1/(1 + e^−x)", _EXPONENTIAL),
                    Choice("tanh", "tanh x", _EXPONENTIAL),
                    Choice("silu", "x/(1 + e^−x)", _EXPONENTIAL),
                    Choice("gelu", "x·Φ(x), the share of a normal distribution below x", _EXPONENTIAL),
                    Choice("gelu_tanh", "x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2", _EXPONENTIAL),
                ),
            ),
            array("slope", "float32 [C]", FLOATS, "", "needed with leaky_relu and elu, refused with the others"),
        ),
        "Apply a function to every number; leaky_relu, hardswish and hardsigmoid round after each step.",
    ),
    Op(
        "softmax",
        "Elementwise",
        (reads("input", FLOATS, "x"), gives("output", FLOATS), flag("log", "the natural logarithm of it")),
        "Make probabilities of the channels at each place of the rows.",
        "y = e^x / Σ e^x",
        inexact=_DOUBLE,
    ),
)

_POOLS = (
    Op(
        "max_pool",
        "Pools",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS_OR_CODES, "as the input"),
            *POOL_WINDOW,
            pair("dilation", default="[1, 1]"),
        ),
        "Take the largest number of each window. Padding never wins, NaN always; of −0 and 0 either may leave.",
        "y = max x",
    ),
    Op(
        "avg_pool",
        "Pools",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS),
            *POOL_WINDOW,
            flag(
                "count_include_pad",
                "divide by all pixels of the window; else by those inside the image, and the padding must be smaller "
                "than the kernel",
                None,
            ),
            number("scale", "what one code is worth; of codes only", "1/n of codes"),
        ),
        "Take the mean of each window. Codes are added as integers, whose sum must stay below 2^31, multiplied once "
        "and divided once. Floats are added one after the other, row by row, and divided once, as PyTorch does.",
        "y = scale·Σ q / count, or Σ x / count",
    ),
    Op(
        "global_avg_pool",
        "Pools",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS, "[1, 1, C]"),
            number("scale", "what one code is worth; of codes only", "1/n of codes"),
        ),
        "Take the mean of all rows, as avg_pool does. (PyTorch's own mean of floats adds them in another order.)",
        "y = scale·Σ q / count, or Σ x / count",
    ),
    Op(
        "adaptive_avg_pool",
        "Pools",
        (reads("input", FLOATS), gives("output", FLOATS), pair("output_size")),
        "Take means over windows that cover the image evenly: pixel i of h along the height H has the rows ⌊i·H/h⌋ … "
        "⌈(i + 1)·H/h⌉ − 1, and likewise for columns. Floats are added row by row, then divided by the number of rows, "
        "then by that of columns, as PyTorch does.",
        "y = Σ x / rows / columns",
    ),
)

_MOVES = (
    Op(
        "concat",
        "Moving numbers",
        (
            Key(
                "inputs",
                "reads",
                "one or more tensors, equal but for the axis, all float32 or all codes of equal bits",
                FLOATS_OR_CODES,
            ),
            gives("output", FLOATS_OR_CODES, "as the inputs"),
            Key(
                "axis",
                "setting",
                "an integer",
                low=-7,
                high=0,
                default="0",
                doc="0: the channels; −1: the last axis of rows, −2: the one before it, …",
            ),
        ),
        "Put tensors behind one another, along the channels or an axis of rows.",
    ),
    Op(
        "flatten",
        "Moving numbers",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS_OR_CODES, "as the input, [1, 1, F]"),
            choice("order", (Choice("chw", "as PyTorch does"), Choice("hwc")), "of the features, the last fastest"),
        ),
        "Make a vector of an image: channels first, or last, and rows in their order.",
    ),
    Op(
        "select",
        "Moving numbers",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS_OR_CODES, "as the input"),
            array("channels", "int32 [K]", ("int32",), "each 0 … C − 1"),
        ),
        "Take channels in any order and any number: slices, permutations, repetitions.",
        "channel k is channel channels[k] of the input",
    ),
    Op(
        "take",
        "Moving numbers",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS_OR_CODES, "as the input"),
            Key("axis", "setting", "an integer", low=-7, high=-1, doc="−1: the last axis of rows, −2: that before it"),
            array("indices", "int32 [K]", ("int32",), "each a place along the axis"),
        ),
        "Take places along an axis of rows in any order and any number: slices, permutations, repetitions.",
        "place k is place indices[k] of the input",
    ),
    Op(
        "reshape",
        "Moving numbers",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS_OR_CODES, "as the input"),
            shape("as many numbers as the input has"),
        ),
        "Give the same numbers other axes. They stay in the order of memory: rows first, channels last.",
    ),
    Op(
        "permute",
        "Moving numbers",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS_OR_CODES, "as the input"),
            Key(
                "axes",
                "setting",
                "a list of two to eight integers, each axis once",
                low=0,
                high=7,
                doc="0 is the channels, 1 the first axis of rows",
            ),
        ),
        "Put the axes of [C, rows …] into another order: tokens become channels, and channels tokens.",
        "axis i is axis axes[i] of the input",
    ),
    Op(
        "pad",
        "Moving numbers",
        (
            reads("input", FLOATS_OR_CODES),
            gives("output", FLOATS_OR_CODES, "as the input"),
            PADDING,
            choice(
                "mode",
                (
                    Choice("constant", "value"),
                    Choice("reflect", "the image mirrored at its border pixels; padding smaller than the image"),
                    Choice("replicate", "the border pixels"),
                    Choice("circular", "the image from its other side; padding not larger than it"),
                ),
                "what the new pixels hold",
            ),
            Key(
                "value",
                "setting",
                "a number, or an integer up to 2^bits − 1 for codes",
                default="0",
                doc="of new pixels and channels; constant mode only",
            ),
            Key(
                "channels",
                "setting",
                "[before, after]",
                low=0,
                high=MOST_CHANNELS,
                default="[0, 0]",
                doc="new channels; constant mode only",
            ),
        ),
        "Put pixels around an image, and channels before and after its own.",
    ),
)

#: Every operation, by name.
OPERATIONS: Mapping[str, Op] = MappingProxyType(
    {
        row.name: row
        for rows in (_ENDS, _LAYERS, _BETWEEN_FLOATS_AND_CODES, _ELEMENTWISE, _POOLS, _MOVES)
        for row in rows
    }
)


def array_names(operation: Mapping[str, Any]) -> dict[str, str]:
    """Return the arrays that an operation of a program names, by key."""
    return {key: operation[key] for key in OPERATIONS[operation["op"]].arrays if key in operation}


def read_names(operation: Mapping[str, Any]) -> list[str]:
    """Return the tensors that an operation reads; one that it reads twice stands there twice."""
    names: list[str] = []
    for key in OPERATIONS[operation["op"]].reads:
        if key in operation:
            names.extend(operation[key] if key == "inputs" else [operation[key]])
    return names


def given_names(operation: Mapping[str, Any]) -> dict[str, str]:
    """Return the tensors that an operation gives, by key."""
    return {key: operation[key] for key in OPERATIONS[operation["op"]].gives if key in operation}


def why_inexact(operation: Mapping[str, Any]) -> str:
    """Say why the last bits of an operation's result may be others than those of `reference`; "" where they may not."""
    row = OPERATIONS[operation["op"]]
    reasons = [row.inexact]
    for key in row.keys:
        reasons.extend(one.inexact for one in key.choices if operation.get(key.name) == one.value)
    return next((reason for reason in reasons if reason), "")
