"""Operations on each number, or on the numbers of each place."""

from __future__ import annotations

from bitorch_runtime.operation_keys import (
    FLOATS,
    FLOATS_AND_CODES,
    array,
    choice,
    flag,
    gives,
    norm,
    number,
    per_channel,
    reads,
    residual,
    scale_and_offset,
)
from bitorch_runtime.operation_row import Choice, Op
from bitorch_runtime.operation_rows.common import DOUBLE, EXPONENTIAL, FLOAT_OUTPUTS

ELEMENTWISE: tuple[Op, ...] = (
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
        (("divide", "multiply", "norm_multiply", "residual", "low", "high"), *FLOAT_OUTPUTS),
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
                    Choice("elu", "x > 0 ? x : slope·(e^x − 1)", EXPONENTIAL),
                    Choice("hardswish", "x·clamp(x + 3, 0, 6)/6"),
                    Choice("hardsigmoid", "clamp(x + 3, 0, 6)/6"),
                    Choice("sigmoid", "1/(1 + e^−x)", EXPONENTIAL),
                    Choice("tanh", "tanh x", EXPONENTIAL),
                    Choice("silu", "x/(1 + e^−x)", EXPONENTIAL),
                    Choice("gelu", "x·Φ(x), the share of a normal distribution below x", EXPONENTIAL),
                    Choice("gelu_tanh", "x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2", EXPONENTIAL),
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
        inexact=DOUBLE,
    ),
)
