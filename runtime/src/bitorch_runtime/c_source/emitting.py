"""Which function writes the C of which operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from .body import Body
from .emitters import codes, elementwise, ends, float_layers, functions, layers, moves, pairs, pools

#: By the operation's name.
EMITTERS: Mapping[str, Callable[[Body], None]] = MappingProxyType(
    {
        "input": ends.input_,
        "output": ends.output,
        "constant": ends.constant,
        **dict.fromkeys(("conv2d", "linear", "conv_transpose"), layers.low_bit_layer),
        **dict.fromkeys(("conv2d_float", "linear_float", "conv_transpose_float"), float_layers.float_layer),
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
    }
)


def emitter_of(operation: Mapping[str, Any]) -> Callable[[Body], None] | None:
    """Return what writes an operation, None where there is no C of it."""
    if operation["op"] == "resize" and operation["mode"] == "nearest":
        return moves.nearest
    return EMITTERS.get(operation["op"])


def check_all(operations: Iterable[Mapping[str, Any]]) -> None:
    """Raise a ValueError that names every operation of which there is no C."""
    missing = dict.fromkeys(_name(one) for one in operations if emitter_of(one) is None)
    if missing:
        raise ValueError(
            f"there is no C of {', '.join(missing)}: such a network cannot become a header; bitorch_runtime runs it"
        )


def _name(operation: Mapping[str, Any]) -> str:
    return f"{operation['op']} of mode {operation['mode']}" if operation["op"] == "resize" else str(operation["op"])
