"""What only puts numbers elsewhere."""

from __future__ import annotations

from bitorch_runtime.operation_keys import (
    FLOATS_OR_CODES,
    MOST_CHANNELS,
    PADDING_OF_ANY,
    array,
    choice,
    gives,
    reads,
    shape,
)
from bitorch_runtime.operation_row import Choice, Key, Op

MOVES: tuple[Op, ...] = (
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
            PADDING_OF_ANY,
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
