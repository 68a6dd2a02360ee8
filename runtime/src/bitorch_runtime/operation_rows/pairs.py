"""Functions of two tensors, number by number."""

from __future__ import annotations

from bitorch_runtime.operation_keys import FLOATS, FLOATS_AND_CODES, flag, gives, reads
from bitorch_runtime.operation_row import Key, Op
from bitorch_runtime.operation_rows.common import FLOAT_OUTPUTS

_INPUTS = Key(
    "inputs",
    "reads",
    "two float32, along each axis of equal size or 1",
    FLOATS,
    doc="a and b; the result has the larger size",
)


def _pair(name: str, doc: str, formula: str) -> Op:
    return Op(name, "Pairs of tensors", (_INPUTS, gives("output", FLOATS)), doc, formula)


PAIRS: tuple[Op, ...] = (
    Op(
        "add",
        "Pairs of tensors",
        (_INPUTS, flag("relu", "y ← max(y, 0); NaN and −0 stay"), *FLOATS_AND_CODES),
        "Add two tensors. Here and below each is repeated along the axes where it has one place: a vector [1, 1, C] at "
        "every place of [rows …, C], one channel for all, one row for all. Axes of rows are counted from the last one.",
        "y = a + b",
        FLOAT_OUTPUTS,
    ),
    _pair("sub", "Subtract a tensor from another.", "y = a − b"),
    _pair("mul", "Multiply two tensors, the second perhaps a gate: one number for each channel.", "y = a·b"),
    _pair("div", "Divide a tensor by another.", "y = a/b"),
    _pair("minimum", "Take the smaller number; NaN of either stays.", "y = a if a < b or a is NaN, else b"),
    _pair("maximum", "Take the larger number; NaN of either stays.", "y = a if a > b or a is NaN, else b"),
    Op(
        "where",
        "Pairs of tensors",
        (
            _INPUTS,
            reads("condition", FLOATS, "repeated as the inputs are; NaN is not 0"),
            gives("output", FLOATS),
        ),
        "Choose between two tensors number by number.",
        "y = a where condition ≠ 0, else b",
    ),
)
