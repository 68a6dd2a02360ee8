"""Rows of a table in the place of indices."""

from __future__ import annotations

from bitorch_runtime.operation_keys import FLOATS, MOST_CHANNELS, WEIGHT_GRID, array, gives, reads
from bitorch_runtime.operation_row import Key, Op

_OF_CODES = "needed of packed codes, refused with floats"

EMBEDDINGS: tuple[Op, ...] = (
    Op(
        "embedding",
        "Embeddings",
        (
            reads(
                "input",
                ("int32",),
                "indices, of one channel: an input of int32 or int64, up to as many as there are rows",
            ),
            gives("output", FLOATS, "[rows of the input …, channels]"),
            array(
                "table",
                "float32 or uint8 [N, channels], packed [N, ⌈channels·weight_bits / 8⌉]",
                ("float32", "uint8"),
                "its rows; packed codes as those of a [layer's weight](runtime.md#packed-weights)",
            ),
            Key("weight_bits", "setting", "an integer", low=1, high=8, default=_OF_CODES, doc="of packed codes"),
            WEIGHT_GRID,
            Key("channels", "setting", "an integer", low=1, high=MOST_CHANNELS, default=_OF_CODES, doc="of a row"),
            array(
                "levels",
                "float32 [2^weight_bits]",
                FLOATS,
                "what each code is worth, the lowest first",
                default="the code itself",
            ),
            array("scale", "float32 [1] or [N]", FLOATS, "of all codes, or of each row", default=_OF_CODES),
        ),
        "Take a row of a table for each index. What packed codes are worth is multiplied by their scale, one rounding.",
        "y = table[index], or levels[code]·scale",
    ),
)
