"""The pass that turns what stands between a sum and a quantizer into thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..graph.chains import (
    composed,
    is_monotone,
    source,
    stored,
)
from ..graph.graph import Graph, Node
from .threshold_search import (
    Staircase,
    float_staircase,
    integer_staircase,
    makes_nan,
)

#: More levels take more room as thresholds than as a multiplication and an addition, and no less time.
_MOST_LEVELS = 15


def fuse_thresholds(graph: Graph) -> Graph:
    """Let codes of few levels come from D, or from a float tensor further up, by thresholds.

    Codes of more levels stay with the unit quantizer, which reads the float chain as it is computed: that is as exact.
    So does what turns a number into NaN, such as inf·0: it is no staircase. The runtime has no other quantizer without
    thresholds, so the other forms get them whatever their levels.
    """
    claimed: set[str] = set()  # sums D whose codes are fused: a layer writes one tensor of codes
    alone = {name for name, readers in graph.readers().items() if len(readers) == 1 and name not in graph.outputs}
    nodes: list[Node] = []
    for node in graph:
        if node.kind == "codes":
            node = _fused(graph, node, claimed, alone)
        nodes.append(node)
    return Graph(tuple(nodes), graph.outputs).pruned()


def _fused(graph: Graph, node: Node, claimed: set[str], alone: set[str]) -> Node:
    levels = 2 ** node.settings["bits"] - 1
    start, chain = source(graph, node, is_monotone)
    if levels <= _MOST_LEVELS and start.kind == "product" and start.name not in claimed:
        codes, reach = _stored(chain, node), _reach(start)
        if not makes_nan(codes, node.shape, *reach):
            claimed.add(start.name)
            return _with(node, start, chain, integer_staircase(codes, node.shape, levels, *reach))
    start, chain = source(graph, node, lambda at: is_monotone(at) and at.kind != "scale")
    while chain and makes_nan(composed(chain), node.shape, -torch.inf, torch.inf):
        start = chain.pop(0)
    is_unit = node.settings["form"] == "unit"
    while chain and is_unit and chain[-1].name in alone and _changes_nothing(chain[-1]):
        chain.pop()  # where something else reads it, it is computed anyway, in the same operation
    if is_unit and (levels > _MOST_LEVELS or all(map(_changes_nothing, chain))):
        return replace(node, inputs=(chain[-1].name if chain else start.name,))
    return _with(node, start, chain, float_staircase(_stored(chain, node), node.shape, levels))


def _changes_nothing(node: Node) -> bool:
    """Whether a quantizer to [0, 1] gives the same codes without the node before it."""
    if node.kind == "relu":
        return True
    low, high = node.settings.get("low"), node.settings.get("high")
    return node.kind == "clamp" and (low is None or low <= 0) and (high is None or high >= 1)


def _with(node: Node, start: Node, chain: list[Node], staircase: Staircase) -> Node:
    settings = {
        "bits": node.settings["bits"],
        "sign": node.settings["sign"],
        "thresholds": staircase.thresholds,
        "descending": staircase.descending,
    }
    function = composed([*chain, node])
    return replace(node, kind="thresholds", inputs=(start.name,), function=function, settings=settings)


def _stored(chain: list[Node], node: Node) -> Callable[[Tensor], Tensor]:
    """The chain's codes as the program stores them: 0 and 1 for ±1."""
    codes = composed([*chain, node])
    return lambda x: stored(codes(x), sign=node.settings["sign"])


def _reach(product: Node) -> tuple[int, int]:
    """The least and largest D: all inputs of an output at their largest codes."""
    inputs, _ = product.settings["largest"]
    largest = int(product.settings["weight"].abs().flatten(1).sum(1, dtype=torch.float64).max()) * inputs
    return -largest, largest
