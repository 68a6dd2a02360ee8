"""Products of two tensors, both of which depend on the input."""

from __future__ import annotations

from bitorch_runtime.operation_keys import CODES, FLOATS, flag, gives, leaves, number
from bitorch_runtime.operation_row import Key, Op
from bitorch_runtime.operation_rows.common import SUMS

_FAMILY = "Matrices"
_TRANSPOSED = Key(
    "transposed",
    "setting",
    "[a, b]",
    low=0,
    high=1,
    default="[0, 0]",
    doc="1: that tensor's matrices lie the other way round, [rows …, K, M] and [rows …, N, K]",
)

MATRICES: tuple[Op, ...] = (
    Op(
        "matmul",
        _FAMILY,
        (
            Key(
                "inputs",
                "reads",
                "two float32, [rows …, M, K] and [rows …, K, N]",
                FLOATS,
                doc="a and b. The last axis of rows and the channels are a matrix; the axes of rows in front of it are "
                "equal, or 1, and then that matrix meets all of the other's",
            ),
            gives("output", FLOATS, "[rows …, M, N]"),
            _TRANSPOSED,
            number("scale", "the product is multiplied with it", "1"),
        ),
        "Multiply the matrices of two tensors.",
        "y = scale·Σ a·b",
        inexact=SUMS,
        multiplies=True,
    ),
    Op(
        "matmul_codes",
        _FAMILY,
        (
            Key(
                "inputs",
                "reads",
                "two tensors of codes, [rows …, M, K] and [rows …, K, N]",
                CODES,
                doc="q and r; axes of rows as of `matmul`",
            ),
            _TRANSPOSED,
            Key(
                "zero_points",
                "setting",
                "[of q, of r]",
                low=0,
                high=255,
                default="[0, 0]",
                doc="the codes that stand for 0",
            ),
            Key(
                "signs",
                "setting",
                "[of q, of r]",
                low=0,
                high=1,
                default="[0, 0]",
                doc="1: that tensor's codes, of 1 bit, 0 and 1, stand for −1 and 1",
            ),
            Key(
                "scale",
                "setting",
                "a number, finite as float32",
                default="no floats leave",
                beside="float32",
                doc="y = D·scale, rounded once",
            ),
            leaves("int32", "D"),
            leaves("float32", "y", "scale"),
        ),
        "Multiply the matrices of two tensors of codes, on integers. K times the largest numbers that codes stand for "
        "must stay below 2^31.",
        "D = Σ (q − zero point)·(r − zero point)",
        (("int32", "float32"),),
        multiplies=True,
    ),
    Op(
        "attention",
        _FAMILY,
        (
            Key(
                "inputs",
                "reads",
                "three float32, [heads …, T, D], [heads …, S, D] and [heads …, S, E], or four, the last one "
                "[heads …, T or 1, S]",
                FLOATS,
                doc="queries q, keys k, values v, and a bias. The axes of rows in front of the matrices are equal, or "
                "1; the last of them may also be a multiple of that of keys and values, which that many neighbours "
                "share",
            ),
            gives("output", FLOATS, "[heads …, T, E]"),
            number("scale", "of the scores, before the bias is added", "1"),
            flag("causal", "query t sees keys 0 … t only"),
        ),
        "Attend: each query gets the mean of the values, weighted by the softmax of its scores. One whose scores are "
        "all −∞ gets zeros. The scores are nowhere as a whole: a block of queries is done at a time.",
        "y = softmax(scale·q·k + bias)·v",
        inexact=SUMS,
        multiplies=True,
    ),
)
