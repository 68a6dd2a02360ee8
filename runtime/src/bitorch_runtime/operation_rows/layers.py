"""Layers: sums of products."""

from __future__ import annotations

from bitorch_runtime.operation_keys import (
    CODES,
    FLOAT_STAGES,
    FLOATS,
    GROUP_SCALES,
    INTEGER_STAGES,
    MEANING,
    OUT_CHANNELS,
    OUT_CHANNELS_AGAIN,
    PACKED,
    TRANSPOSED_WINDOW,
    WEIGHT_BITS,
    WEIGHT_GRID,
    WINDOW,
    array,
    gives,
    reads,
)
from bitorch_runtime.operation_row import Op
from bitorch_runtime.operation_rows.common import FLOAT_OUTPUTS, OUTPUTS, SUMS

LAYERS: tuple[Op, ...] = (
    Op(
        "conv2d",
        "Layers on codes",
        (reads("input", CODES), PACKED, WEIGHT_BITS, OUT_CHANNELS, *WINDOW, *MEANING, *INTEGER_STAGES),
        "Convolve codes with low-bit weights, on integers, along one to three axes of rows. K = h·w·C/groups weights "
        "make a channel; K times the largest weight code times the largest code of the input must stay below 2^31.",
        "D = Σ c·(q − zero_point)",
        OUTPUTS,
        multiplies=True,
    ),
    Op(
        "conv_transpose",
        "Layers on codes",
        (reads("input", CODES), PACKED, WEIGHT_BITS, OUT_CHANNELS, *TRANSPOSED_WINDOW, *MEANING, *INTEGER_STAGES),
        "Convolve codes, transposed: tap k of pixel i goes to output i·stride + k·dilation − padding, along one to "
        "three axes of rows. Weights, K and its bound are those of conv2d. Outputs that no pixel reaches have D = 0.",
        "D = Σ c·(q − zero_point)",
        OUTPUTS,
        multiplies=True,
    ),
    Op(
        "linear",
        "Layers on codes",
        (reads("input", CODES, "[rows …, F]"), PACKED, WEIGHT_BITS, OUT_CHANNELS, *MEANING, *INTEGER_STAGES),
        "Multiply codes by low-bit weights, on integers, at each place of the rows: a convolution of a pixel, K = F.",
        "D = Σ c·(q − zero_point)",
        OUTPUTS,
        multiplies=True,
    ),
    Op(
        "linear_groups",
        "Layers on codes",
        (
            reads("input", CODES, "[rows …, F]"),
            gives("output", FLOATS, "[rows …, N]"),
            PACKED,
            WEIGHT_BITS,
            OUT_CHANNELS,
            *MEANING,
            *GROUP_SCALES,
        ),
        "Multiply codes by low-bit weights with a scale for each group of inputs at each place of the rows. K = F, and "
        "its bound, are those of linear. The sums D of groups are exact. float32(D)·scale of one group after the other "
        "is added, and then the bias: each product and each sum is rounded to float32.",
        "y = Σ_g scale·D + bias, D = Σ c·(q − zero_point) of each group g",
        multiplies=True,
    ),
    Op(
        "conv2d_float",
        "Layers on floats",
        (
            reads("input", FLOATS),
            array(
                "weight",
                "float32 [N, h, w, C/groups], or [N, w, C/groups] of one axis, or [N, d, h, w, C/groups] of three",
                FLOATS,
                "d, h and w are those of kernel_size",
            ),
            OUT_CHANNELS_AGAIN,
            *WINDOW,
            *FLOAT_STAGES,
        ),
        "Convolve floats, along one to three axes of rows.",
        "y = Σ w·x",
        FLOAT_OUTPUTS,
        SUMS,
        multiplies=True,
    ),
    Op(
        "conv_transpose_float",
        "Layers on floats",
        (
            reads("input", FLOATS),
            array(
                "weight",
                "float32 [N, h, w, C/groups], or [N, w, C/groups] of one axis, or [N, d, h, w, C/groups] of three",
                FLOATS,
                "d, h and w are those of kernel_size",
            ),
            OUT_CHANNELS_AGAIN,
            *TRANSPOSED_WINDOW,
            *FLOAT_STAGES,
        ),
        "Convolve floats, transposed, as conv_transpose does codes.",
        "y = Σ w·x",
        FLOAT_OUTPUTS,
        SUMS,
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
        FLOAT_OUTPUTS,
        SUMS,
        multiplies=True,
    ),
    Op(
        "linear_weight_only",
        "Layers on floats",
        (
            reads("input", FLOATS, "[rows …, F]"),
            gives("output", FLOATS, "[rows …, N]"),
            PACKED,
            WEIGHT_BITS,
            WEIGHT_GRID,
            OUT_CHANNELS,
            *GROUP_SCALES,
        ),
        "Multiply floats by low-bit weights with a scale for each group of inputs, at each place of the rows. K = F.",
        "y = Σ_g scale·Σ c·x + bias, of each group g the inputs that are in it",
        inexact=SUMS,
        multiplies=True,
    ),
)
