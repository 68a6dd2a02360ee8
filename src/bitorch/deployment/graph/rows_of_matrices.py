"""Products of two tensors that both depend on the input, and attention."""

from __future__ import annotations

from . import shapes
from .kind import FLAG, INTS, QUANTIZER, Kind

#: The settings of the quantizers of both operands.
_BOTH = {f"{side}_{key}": types for side in ("left", "right") for key, types in QUANTIZER.items()}

MATRICES: tuple[Kind, ...] = (
    Kind(
        "low_bit_matmul",
        "A QMatmul: a product as of matmul, of codes. Settings of both operands' quantizers, and `largest` absolute "
        "codes; `scale`, what one of the sums is worth.",
        arity=2,
        settings={**_BOTH, "transposed": INTS, "largest": INTS, "scale": (float,)},
        shape=shapes.multiplied,
    ),
    Kind(
        "matmul",
        "`scale` times the product of two tensors' matrices, [N, *rows, M] of [K, *rows, M] and [N, *rows, K]; where "
        "`transposed` of one is 1, its channels and its last row axis change places. Rows in front are equal, or 1.",
        arity=2,
        settings={"transposed": INTS, "scale": (float,)},
        shape=shapes.multiplied,
        sums=True,
        exact=False,
    ),
    Kind(
        "attention",
        "softmax(`scale`·q kᵀ + bias) v, [E, *heads, T], of q [D, *heads, T], k [D, *heads, S], v [E, *heads, S], and "
        "perhaps a bias, [S, *heads, T or 1]. `causal`: query t sees keys 0 … t. The last axis of heads of q may be a "
        "multiple of that of k and v.",
        arity=None,
        settings={"scale": (float,), "causal": FLAG},
        shape=shapes.attended,
        sums=True,
        exact=False,
    ),
)
