"""The passes of dialect `integer`: tables, and thresholds of sums, and of floats where nothing else is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..graph.chains import probe, source, stored
from ..graph.graph import Graph, Node
from ..passes.pipeline import PASSES as SHARED
from ..passes.pipeline import Pass
from ..passes.quantizer_codes import over_channels
from ..runtime.fold_tables import drop_lookups, fold_tables
from ..runtime.fuse_thresholds import changes_nothing, of_floats, with_thresholds

#: There are no thresholds of more levels.
_MOST = 15


def fuse_few_thresholds(graph: Graph) -> Graph:
    """Let codes come from D by thresholds, as the runtime has them, and from floats where steps are not exact, or slow.

    ONNX has each step of a quantizer as an operator of its own, with the same rounding. Of batch normalisation it has
    none that rounds once: in float64 the sum is rounded twice, which is proved to give the same codes, or not.
    """
    return with_thresholds(graph, _of_floats)


def _of_floats(graph: Graph, node: Node, alone: set[str]) -> Node:
    """Codes of floats: the quantizer's own steps, or thresholds."""
    levels = (1 << node.settings["bits"]) - 1
    _, chain = source(graph, node, lambda at: True)
    has_norm = any(at.kind == "batch_norm" for at in chain)
    if levels > _MOST or (levels > 1 and not has_norm):
        return _past_relus(graph, node, alone)
    fused = of_floats(graph, node, alone)
    if levels == 1 or fused.kind != "thresholds":
        return fused
    chain = _between(graph, fused.inputs[0], node)
    is_exact = all(at.row.exact for at in chain)
    return _past_relus(graph, node, alone) if is_exact and _gives(chain, node, fused) else fused


def _past_relus(graph: Graph, node: Node, alone: set[str]) -> Node:
    """Let a quantizer cut off what a ReLU before it does, where nothing else reads that."""
    while node.settings["form"] == "unit" and node.inputs[0] in alone and changes_nothing(graph[node.inputs[0]]):
        node = replace(node, inputs=graph[node.inputs[0]].inputs)
    return node


def _between(graph: Graph, start: str, node: Node) -> list[Node]:
    """The nodes between one and the codes that it leads to."""
    chain: list[Node] = []
    at = node.inputs[0]
    while at != start:
        chain.insert(0, graph[at])
        at = graph[at].inputs[0]
    return chain


def _gives(chain: Sequence[Node], node: Node, fused: Node) -> bool:
    """Whether steps in float64 give the codes of thresholds for every float.

    Each of them keeps order, so they do if they do at each threshold and at the next number on its other side.
    """
    steps = [_in_float64(step) for step in chain]
    thresholds, falls = fused.settings["thresholds"], fused.settings["descending"]
    outside = torch.where(falls, torch.inf, -torch.inf).unsqueeze(1)
    inside = thresholds.nan_to_num(nan=0.0)
    at = torch.cat([inside, torch.nextafter(inside, outside.expand_as(inside))], dim=1)  # [C, 2n]

    def codes(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return stored(node.function(x), sign=node.settings["sign"])

    found = codes(probe(at.t().contiguous(), node.shape)).reshape(at.shape[1], -1).t()
    below, above = (compared(at[:, :, None], thresholds[:, None]) for compared in (torch.le, torch.ge))
    passed = torch.where(falls[:, None, None], below, above)
    return bool((found == passed.sum(2)).all())


def _in_float64(node: Node) -> Callable[[Tensor], Tensor]:
    """A step as ONNX computes it."""
    if node.kind != "batch_norm":
        return node.function
    multiply, offset = node.settings["multiply"].double(), node.settings["offset"].double()
    return lambda x: (x.double() * over_channels(multiply, x) + over_channels(offset, x)).float()


PASSES: tuple[Pass, ...] = (
    *SHARED,
    Pass(fold_tables, makes=frozenset({"lookup"})),
    Pass(drop_lookups),
    Pass(fuse_few_thresholds, makes=frozenset({"thresholds"})),
)
