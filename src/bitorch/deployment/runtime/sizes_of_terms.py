"""How large sums of floats would be if nothing cancelled that is added up: their last bits are those of these."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..graph.graph import Node

#: What the root of float32 squares may be off by, which are 0 of numbers below 2^−75, beside the tolerance of sums.
_SQUARES_VANISH = 2.0**-50


def sizes_of_terms(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
    """Return numbers as large as what a node without a weight adds up, from the values [batch, C, *rows] it reads.

    None where the node's own value says it.
    """
    if node.kind in ("global_avg_pool", "matmul"):
        return node.function(*(x.abs() for x in inputs))
    if node.kind == "reduce":
        return _of_reduction(node, inputs[0])
    return _of_normalization(node, inputs[0]) if node.kind == "normalize" else None


def _of_reduction(node: Node, x: Tensor) -> Tensor:
    reduction = node.settings["reduction"]
    if reduction in ("sum", "mean"):
        return node.function(x.abs())
    if reduction == "norm":
        return node.function(x) + _SQUARES_VANISH
    squares = x.square().mean(tuple(axis + 1 for axis in node.settings["axes"]), keepdim=True)
    return squares if reduction == "var" else squares.sqrt() + _SQUARES_VANISH


def _of_normalization(node: Node, x: Tensor) -> Tensor:
    """|x|·f·|weight| + |bias|: what is left of x and its mean may be next to nothing."""
    settings, last = node.settings, x.movedim(1, -1)
    rows = min(settings["rows"], last.dim() - 2)
    places = math.prod(last.shape[-1 - rows : -1])
    sets = last.reshape(-1, places, settings["groups"], x.shape[1] // settings["groups"]).double()
    mean = sets.mean((1, 3), keepdim=True) if settings["by"] == "deviation" else torch.zeros(1)
    squares = (sets - mean).square()
    if settings["by"] == "norm":
        divide = squares.sum((1, 3), keepdim=True).sqrt().clamp_min(settings["eps"])
    else:
        divide = (squares.mean((1, 3), keepdim=True) + settings["eps"]).sqrt()
    sizes = (sets.abs() / divide).reshape(-1, places, x.shape[1])
    for key, combined in (("weight", torch.mul), ("bias", torch.add)):
        if settings[key] is not None:
            sizes = combined(sizes, settings[key].abs())
    return sizes.reshape(last.shape).movedim(-1, 1)
