"""Largest numbers and means of windows."""

from __future__ import annotations

from bitorch_runtime.operation_keys import (
    FLOATS,
    FLOATS_OR_CODES,
    MOST_CHANNELS,
    POOL_WINDOW,
    flag,
    gives,
    number,
    pair,
    reads,
)
from bitorch_runtime.operation_row import Key, Op

POOLS: tuple[Op, ...] = (
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
                "divide by all pixels of the window and of its padding; else by those inside the image, and the "
                "padding must be smaller than the kernel",
                None,
            ),
            pair("beyond", "pixels that the last windows reach behind the padding, which never count", "[0, 0]", low=0),
            Key("divisor", "setting", "an integer", low=1, high=MOST_CHANNELS, default="the pixels that count"),
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
        "⌈(i + 1)·H/h⌉ − 1, and likewise for the other axes. Floats are added row by row, then divided by the number "
        "of pixels along each axis, one axis after the other, as PyTorch does.",
        "y = Σ x / rows / columns",
    ),
    Op(
        "adaptive_max_pool",
        "Pools",
        (reads("input", FLOATS_OR_CODES), gives("output", FLOATS_OR_CODES, "as the input"), pair("output_size")),
        "Take the largest number of each of the windows of adaptive_avg_pool. NaN wins always; of −0 and 0 either may "
        "leave.",
        "y = max x",
    ),
)
