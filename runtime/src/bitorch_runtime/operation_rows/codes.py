"""From floats to codes and back."""

from __future__ import annotations

from bitorch_runtime.operation_keys import (
    BITS,
    CODES,
    DESCENDING,
    FLOATS,
    THRESHOLDS,
    array,
    flag,
    gives,
    number,
    reads,
)
from bitorch_runtime.operation_row import Key, Op

BETWEEN_FLOATS_AND_CODES: tuple[Op, ...] = (
    Op(
        "quantize",
        "From floats to codes and back",
        (
            reads("input", FLOATS, "y"),
            gives("output", CODES, "q"),
            BITS,
            Key(
                "zero_point",
                "setting",
                "an integer, up to 2^bits − 1",
                low=0,
                default=THRESHOLDS.default,
                doc="q = clip(round(y) + zero_point, 0, n), half to even; not beside thresholds",
            ),
            THRESHOLDS,
            DESCENDING,
        ),
        "Make codes of floats.",
        "q = round(n·clip(y, 0, 1)), n = 2^bits − 1, or clip(round(y) + zero_point, 0, n), or a number of thresholds",
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
