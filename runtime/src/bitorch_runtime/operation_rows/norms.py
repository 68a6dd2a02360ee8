"""Normalisations and reductions: what is made of many numbers that belong together."""

from __future__ import annotations

from bitorch_runtime.operation_keys import (
    FLOATS,
    FLOATS_AND_CODES,
    FLOATS_OR_CODES,
    MOST_CHANNELS,
    array,
    choice,
    number,
    reads,
)
from bitorch_runtime.operation_row import Choice, Key, Op
from bitorch_runtime.operation_rows.common import FLOAT_OUTPUTS


def _by_place(name: str, doc: str) -> Key:
    """Numbers for each channel, or for each channel at each place of a set."""
    return array(name, "float32 [C] or [places, C]", FLOATS, doc, "this step is left out")


NORMS: tuple[Op, ...] = (
    Op(
        "normalize",
        "Normalisations and reductions",
        (
            reads("input", FLOATS, "x"),
            choice(
                "by",
                (
                    Choice("deviation", "m is the mean, f = 1/√(mean of (x − m)² + eps)"),
                    Choice("root_mean_square", "m = 0, f = 1/√(mean of x² + eps)"),
                    Choice("norm", "m = 0, f = 1/max(√(Σ x²), eps)"),
                ),
                "of the numbers of a set",
            ),
            Key(
                "rows",
                "setting",
                "an integer",
                low=0,
                high=7,
                default="0",
                doc="a set has all places of so many of the last row axes, of all where there are fewer; 0: one place",
            ),
            Key(
                "groups",
                "setting",
                "an integer that divides C",
                low=1,
                high=MOST_CHANNELS,
                default="1",
                doc="a set has the channels of one of so many groups of neighbours",
            ),
            Key("eps", "setting", "a number, finite as float32, 0 or more"),
            _by_place("weight", "y ← y·weight; with two dimensions a row for each place of a set, in their order"),
            _by_place("bias", "y ← y + bias, likewise"),
            *FLOATS_AND_CODES,
        ),
        "Bring sets of numbers to a common mean and size: layer, group, instance and RMS normalisation. Sums are "
        "float64: of each channel one place after the other, then of channels in 32 lanes, number i in lane i mod 32, "
        "and lane l takes lane l + 16, 8, 4, 2, 1. At one place squares of float32(x − m) are float32, and so are sums "
        "of 16 of a lane. m and f are rounded to float32, f from a float32 mean; then each step rounds.",
        "y = (x − m)·f·weight + bias",
        FLOAT_OUTPUTS,
    ),
    Op(
        "reduce",
        "Normalisations and reductions",
        (
            reads("input", FLOATS_OR_CODES, "x"),
            Key(
                "output",
                "gives",
                "float32, codes as the input for amax and amin, int32 for argmax and argmin",
                ("float32", "codes", "int32"),
                doc="the axes become 1",
            ),
            choice(
                "function",
                (
                    Choice("sum", "Σ x"),
                    Choice("mean", "Σ x / count"),
                    Choice("norm", "√Σ x², of float32"),
                    Choice("var", "Σ (x − mean)² / max(0, count − correction), of float32"),
                    Choice("std", "its root"),
                    Choice("amax", "the largest; NaN wins"),
                    Choice("amin", "the smallest; NaN wins"),
                    Choice("argmax", "where it stands, the first of equal ones, along one axis"),
                    Choice("argmin", "likewise"),
                ),
            ),
            Key(
                "axes",
                "setting",
                "a list of one to eight integers, each axis once",
                low=-7,
                high=0,
                doc="0: the channels; −1: the last axis of rows, −2: the one before it, …",
            ),
            number("correction", "of var and std only", "1"),
            number("scale", "what one code is worth; of sums and means of codes only", "1/n of codes"),
        ),
        "Make one number of all along some axes. Sums are float64, in the order of normalize, rounded once; of codes "
        "they are exact, and mean is float32(Σ q)·scale / count, two more roundings.",
    ),
)
