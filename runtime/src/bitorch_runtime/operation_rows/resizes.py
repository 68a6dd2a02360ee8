"""Images of another size."""

from __future__ import annotations

from bitorch_runtime.operation_keys import FLOATS_OR_CODES, choice, flag, gives, pair, reads
from bitorch_runtime.operation_row import Choice, Key, Op

RESIZES: tuple[Op, ...] = (
    Op(
        "resize",
        "Other sizes",
        (
            reads("input", FLOATS_OR_CODES, "codes where mode is nearest"),
            gives("output", FLOATS_OR_CODES, "as the input"),
            pair("output_size"),
            choice(
                "mode",
                (
                    Choice("nearest", "output o of n along an axis of s is pixel ⌊o·s/n⌋"),
                    Choice("linear", "two pixels along each axis, with weights that add up to 1"),
                    Choice("cubic", "four along each of two axes, by the cubic of A = −0.75"),
                ),
                "what an output is made of",
            ),
            flag("align_corners", "the outer outputs lie on the outer pixels; not of nearest"),
            Key(
                "scale",
                "setting",
                "[vertical, horizontal] numbers, 1e-6 to 1e6; of one axis or of three as many",
                default="the output's size / the input's",
                doc="how many outputs a pixel makes, which may be less than its size says; not of nearest, nor with "
                "align_corners",
            ),
        ),
        "Make an image larger or smaller. Output o lies at (o + ½)/scale − ½ pixels, rounded to float32 once, with "
        "align_corners at o·(s − 1)/(n − 1); weights are PyTorch's; along an axis that keeps its size linear ones are "
        "1 and 0 of the pixel itself. The last axis is summed first; each sum goes from "
        "the first pixel to the last, and each product and sum is rounded once.",
        "y = Σ w·x",
    ),
)
