"""Which function writes the C of which operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from .body import Body
from .emitters import (
    codes,
    elementwise,
    embeddings,
    ends,
    float_layers,
    functions,
    group_layers,
    layers,
    matrices,
    moves,
    norms,
    pairs,
    pools,
    reductions,
    resizes,
)

#: By the operation's name.
EMITTERS: Mapping[str, Callable[[Body], None]] = MappingProxyType(
    {
        "input": ends.input_,
        "output": ends.output,
        "constant": ends.constant,
        **dict.fromkeys(("conv2d", "linear", "conv_transpose"), layers.low_bit_layer),
        **dict.fromkeys(("conv2d_float", "linear_float", "conv_transpose_float"), float_layers.float_layer),
        "linear_groups": group_layers.linear_groups,
        "linear_weight_only": group_layers.linear_weight_only,
        "quantize": codes.quantize,
        "dequantize": codes.dequantize,
        "lookup": codes.lookup,
        "affine": elementwise.affine,
        "activation": functions.activation,
        "softmax": functions.softmax,
        "add": pairs.add,
        **dict.fromkeys(("sub", "mul", "div", "minimum", "maximum"), pairs.pair),
        "where": pairs.where,
        "max_pool": pools.max_pool,
        "avg_pool": pools.avg_pool,
        "global_avg_pool": pools.global_avg_pool,
        "adaptive_avg_pool": pools.adaptive_avg_pool,
        "adaptive_max_pool": pools.adaptive_max_pool,
        "concat": moves.concat,
        "flatten": moves.flatten,
        "reshape": moves.reshape,
        "permute": moves.permute,
        "select": moves.select,
        "take": moves.take,
        "pad": moves.pad,
        "matmul": matrices.matmul,
        "matmul_codes": matrices.matmul_codes,
        "attention": matrices.attention,
        "resize": resizes.resize,
        "normalize": norms.normalize,
        "reduce": reductions.reduce,
        "embedding": embeddings.embedding,
    }
)


def check_all(operations: Iterable[Mapping[str, Any]]) -> None:
    """Raise a ValueError that names every operation of which there is no C."""
    missing = dict.fromkeys(str(one["op"]) for one in operations if one["op"] not in EMITTERS)
    if missing:
        raise ValueError(
            f"there is no C of {', '.join(missing)}: such a network cannot become a header; bitorch_runtime runs it"
        )
