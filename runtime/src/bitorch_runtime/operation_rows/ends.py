"""What a program takes and gives."""

from __future__ import annotations

from bitorch_runtime.operation_keys import (
    ARRAY_SHAPE,
    FLOATS,
    FLOATS_OR_CODES,
    ORDER,
    array,
    choice,
    gives,
    reads,
    shape,
)
from bitorch_runtime.operation_row import Choice, Key, Op

ENDS: tuple[Op, ...] = (
    Op(
        "input",
        "Inputs and outputs",
        (
            gives("output", (*FLOATS_OR_CODES, "int32"), "codes of uint8, int32 of indices"),
            choice(
                "dtype",
                (
                    Choice("float32"),
                    Choice("uint8", "codes; a call checks that they fit in their bits"),
                    Choice("int32", "indices, for an embedding; a call checks that they are below"),
                    Choice("int64", "likewise"),
                ),
            ),
            shape("of one image, whatever the order; an axis of rows up to 2^20, and all but the last together"),
            ORDER,
            Key(
                "bits",
                "setting",
                "an integer",
                low=1,
                high=8,
                default="needed with uint8, refused with others",
                doc="of the codes",
            ),
            Key(
                "below",
                "setting",
                "an integer",
                low=1,
                high=2**31 - 1,
                default="needed with int32 and int64, refused with others",
                doc="indices are 0 … below − 1",
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
    Op(
        "constant",
        "Inputs and outputs",
        (
            gives("output", FLOATS),
            array("values", "float32 [C] or [rows …, C]", FLOATS, "up to eight dimensions"),
        ),
        "Take an array of the program as a tensor, the same for every image: position embeddings, class tokens, masks.",
        "y = values",
    ),
)
