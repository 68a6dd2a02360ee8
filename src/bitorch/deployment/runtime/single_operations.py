"""Nodes that are one operation by themselves: which, and its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitorch_runtime import pack_weights
from bitorch_runtime.operations import OPERATIONS

from ..graph.graph import Node
from ..passes.quantizer_codes import is_rounding

Operation = dict[str, Any]


class Arrays(Protocol):
    """Where the arrays of a program are kept."""

    def array(self, node: Node, key: str, values: NDArray[Any]) -> str:
        """Keep an array of a node, and return its name."""

    def floats(self, node: Node, key: str, values: Tensor) -> str:
        """Keep numbers as float32, and return their name."""


#: What makes the operation of a node: its name, and its keys beside those of tensors.
Lower = Callable[[Arrays, Node], tuple[str, Operation]]


def single_operation(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    """Return the operation of a node that is one by itself, and its keys.

    Raises:
        ValueError: there is none.
    """
    if node.kind not in SINGLE:
        raise ValueError(f"{node.place}: {node.kind} has no operation")
    return SINGLE[node.kind](arrays, node)


def as_array(values: Tensor) -> NDArray[Any]:
    """The numbers of a tensor, one behind the other."""
    return np.ascontiguousarray(values.detach().numpy())


def code_keys(arrays: Arrays, node: Node) -> Operation:
    """The keys that say how floats or D become codes."""
    keys: Operation = {"bits": node.settings["bits"]}
    if node.kind == "thresholds":
        thresholds = node.settings["thresholds"]
        keys["bits"] = int(thresholds.shape[1]).bit_length()
        keys["thresholds"] = arrays.array(node, "thresholds", as_array(thresholds))
        if bool(node.settings["descending"].any()):
            keys["descending"] = arrays.array(node, "descending", as_array(node.settings["descending"]))
    return keys


def window_keys(node: Node) -> Operation:
    """The keys of a window; of dilation where the node has one."""
    settings = node.settings
    window: Operation = {
        "kernel_size": list(settings["kernel_size"]),
        "stride": list(settings["stride"]),
        "padding": _borders(settings["padding"]),
    }
    return window | {"dilation": list(settings["dilation"])} if "dilation" in settings else window


def _borders(padding: tuple[int, ...]) -> list[int]:
    """Before each axis, then after each, of (before, after) of each: [top, left, bottom, right] of two."""
    return [*padding[::2], *padding[1::2]]


def transposed_keys(node: Node) -> Operation:
    """The keys of the window of a transposed convolution."""
    keys = ("kernel_size", "stride", "padding", "output_padding", "dilation")
    return {key: list(node.settings[key]) for key in keys}


def table_operation(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    """The operation of a node that looks codes up."""
    table = node.settings["table"]
    if node.kind in ("lookup", "thresholds"):
        return "lookup", {"bits": node.settings["bits"], "table": arrays.array(node, "table", as_array(table))}
    if table is None:
        return "dequantize", {"sign": True} if node.settings["sign"] else {}
    return "dequantize", {"table": arrays.floats(node, "table", table)}


def _quantize(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    keys = code_keys(arrays, node)
    return "quantize", keys | {"zero_point": node.settings["zero_point"]} if is_rounding(node) else keys


def _as_it_is(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return node.kind, {}


def _function(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "activation", {"function": node.kind}


def _with_slopes(key: str) -> Lower:
    """A function with a number for each channel, the setting of this name."""

    def lower(arrays: Arrays, node: Node) -> tuple[str, Operation]:
        slope = node.settings[key].expand(node.channels)
        return "activation", {"function": node.kind, "slope": arrays.floats(node, "slope", slope)}

    return lower


def _with_numbers(*keys: str) -> Lower:
    """A function with numbers, the settings of these names."""

    def lower(arrays: Arrays, node: Node) -> tuple[str, Operation]:
        return "activation", {"function": node.kind, **{key: node.settings[key] for key in keys}}

    return lower


def _softmax(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "softmax", {"log": True} if node.settings["log"] else {}


def _max_pool(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "max_pool", window_keys(node)


def _avg_pool(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    settings = node.settings
    keys = window_keys(node) | {"count_include_pad": settings["count_include_pad"]}
    if "beyond" in settings:
        keys["beyond"] = list(settings["beyond"])
    return "avg_pool", keys | ({"divisor": settings["divisor"]} if "divisor" in settings else {})


def _to_size(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return node.kind, {"output_size": list(node.settings["output_size"])}


def _nearest(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "resize", {"output_size": list(node.settings["output_size"]), "mode": "nearest"}


def _resize(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    settings = node.settings
    keys: Operation = {"output_size": list(settings["output_size"]), "mode": settings["mode"]}
    if settings["align_corners"]:
        keys["align_corners"] = True
    elif settings["scale"] is not None:
        keys["scale"] = settings["scale"].tolist()
    return "resize", keys


def _pad(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    settings = node.settings
    # Where only channels are padded, as of a vector, the axes of rows are not counted.
    rows = _borders(settings["padding"]) if any(settings["padding"]) else [0, 0, 0, 0]
    keys: Operation = {"padding": rows, "mode": settings["mode"]}
    if settings["mode"] == "constant":
        keys |= {"value": settings["value"], "channels": list(settings["channels"])}
    return "pad", keys


def _select(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    channels = np.asarray(node.settings["channels"], np.int32)
    return "select", {"channels": arrays.array(node, "channels", channels)}


def _flatten(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "flatten", {"order": "hwc" if node.settings["channels_last"] else "chw"}


def _take(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    indices = np.asarray(node.settings["indices"], np.int32)
    axis = node.settings["axis"] - len(node.shape)
    return "take", {"axis": axis, "indices": arrays.array(node, "indices", indices)}


def _reshape(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "reshape", {"shape": list(node.shape)}


def _permute(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "permute", {"axes": list(node.settings["axes"])}


def _reduce(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    settings = node.settings
    axes = [axis - len(node.shape) if axis > 0 else 0 for axis in settings["axes"]]
    keys: Operation = {"function": settings["reduction"], "axes": axes}
    if settings["reduction"] in ("var", "std"):
        keys["correction"] = settings["correction"]
    return "reduce", keys


def _concat(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    # Counted from the last axis: row axes of 1 in front of all others say nothing.
    axis = node.settings["axis"]
    return "concat", {"axis": axis - len(node.shape)} if axis != 0 else {}


def _constant(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    value = node.settings["value"]
    channels_last = value.movedim(0, -1) if value.dim() > 1 else value.reshape(-1)
    return "constant", {"values": arrays.floats(node, "values", channels_last)}


def _matmul(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    settings = node.settings
    keys: Operation = {"transposed": list(settings["transposed"])} if any(settings["transposed"]) else {}
    return "matmul", keys | ({"scale": settings["scale"]} if settings["scale"] != 1 else {})


def _attention(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    settings = node.settings
    return "attention", {"scale": settings["scale"]} | ({"causal": True} if settings["causal"] else {})


def _embedding(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    settings = node.settings
    if "codes" not in settings:
        return "embedding", {"table": arrays.floats(node, "table", settings["table"])}
    bits, grid = settings["weight_bits"], settings["weight_grid"]
    packed = pack_weights(as_array(settings["codes"].to(torch.int16)), bits, grid)
    keys: Operation = {
        "table": arrays.array(node, "table", packed),
        "weight_bits": bits,
        "channels": node.channels,
        "levels": arrays.floats(node, "levels", settings["levels"]),
        "scale": arrays.floats(node, "scale", settings["scale"]),
    }
    return "embedding", keys if grid == "odd" else keys | {"weight_grid": grid}


def _weight_only(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "linear_weight_only", _packed_weight(arrays, node) | _groups(arrays, node)


def _group_product(arrays: Arrays, node: Node) -> tuple[str, Operation]:
    return "linear_groups", product_keys(arrays, node) | _groups(arrays, node)


def product_keys(arrays: Arrays, node: Node) -> Operation:
    """The keys of a product of codes and a packed weight: of the weight, and of what the codes stand for."""
    keys = _packed_weight(arrays, node)
    if node.settings["zero_point"] != 0:
        keys["zero_point"] = node.settings["zero_point"]
    return keys | {"sign_activations": True} if node.settings["sign"] else keys


def _packed_weight(arrays: Arrays, node: Node) -> Operation:
    bits, grid, codes = (node.settings[key] for key in ("weight_bits", "weight_grid", "weight"))
    keys: Operation = {
        "weight": arrays.array(node, "weight", pack_weights(as_array(codes.to(torch.int16)), bits, grid)),
        "weight_bits": bits,
        "out_channels": node.channels,
    }
    return keys if grid == "odd" else keys | {"weight_grid": grid}


def _groups(arrays: Arrays, node: Node) -> Operation:
    """The keys of scales for groups of inputs, and of what is added to their sum."""
    keys: Operation = {"scale": arrays.floats(node, "scale", node.settings["scale"])}
    bias = node.settings["bias"]
    return keys if bias is None else keys | {"bias": arrays.floats(node, "bias", bias)}


_SLOPES = {"leaky_relu": "slope", "elu": "alpha"}
_NUMBERS = {
    "celu": ("alpha",),
    "softplus": ("beta", "threshold"),
    "threshold": ("threshold", "value"),
    "hardshrink": ("lambda",),
    "softshrink": ("lambda",),
}
#: How each kind that is one operation by itself becomes it.
SINGLE: Mapping[str, Lower] = MappingProxyType(
    {
        # Functions of the operation "activation" are called as their kinds are.
        **{choice.value: _function for choice in OPERATIONS["activation"]["function"].choices},
        **{kind: _with_slopes(key) for kind, key in _SLOPES.items()},
        **{kind: _with_numbers(*keys) for kind, keys in _NUMBERS.items()},
        "codes": _quantize,
        "thresholds": _quantize,
        "values": table_operation,
        "lookup": table_operation,
        "max_pool": _max_pool,
        "avg_pool": _avg_pool,
        "adaptive_avg_pool": _to_size,
        "adaptive_max_pool": _to_size,
        "global_avg_pool": _as_it_is,
        **dict.fromkeys(("sub", "mul", "div", "minimum", "maximum"), _as_it_is),
        "where": _as_it_is,
        "constant": _constant,
        "softmax": _softmax,
        "nearest": _nearest,
        "resize": _resize,
        "matmul": _matmul,
        "attention": _attention,
        "pad": _pad,
        "select": _select,
        "flatten": _flatten,
        "take": _take,
        "reshape": _reshape,
        "permute": _permute,
        "concat": _concat,
        **dict.fromkeys(("reduce", "extreme", "place"), _reduce),
        "embedding": _embedding,
        "weight_only": _weight_only,
        "group_product": _group_product,
    }
)
