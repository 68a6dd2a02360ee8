"""The passes of dialect `integer`: tables, and thresholds of sums, and of floats where they are few."""

from __future__ import annotations

from ..graph.chains import source
from ..graph.graph import Graph, Node
from ..passes.pipeline import PASSES as SHARED
from ..passes.pipeline import Pass
from ..runtime.fold_tables import drop_lookups, fold_tables
from ..runtime.fuse_thresholds import of_floats, of_sum, read_once

#: So many comparisons with floats are cheaper than to compute what is between.
_FEW = 3
#: And so many are made where it cannot be computed in operators to the bit.
_MOST = 15


def fuse_few_thresholds(graph: Graph) -> Graph:
    """Let codes come from D by thresholds, as the runtime has them, and from floats where these are few.

    Behind floats ONNX has each step of a quantizer as an operator of its own, with the same rounding; only of batch
    normalisation it takes four. Comparisons take two for each level.
    """
    claimed: set[str] = set()
    alone = read_once(graph)
    nodes: list[Node] = []
    for node in graph:
        if node.kind == "codes":
            fused = of_sum(graph, node, claimed)
            if fused is not None:
                node = fused
            elif _is_compared(graph, node):
                node = of_floats(graph, node, alone)
        nodes.append(node)
    return Graph(tuple(nodes), graph.outputs).pruned()


def _is_compared(graph: Graph, node: Node) -> bool:
    """Whether codes of floats come from thresholds."""
    levels = (1 << node.settings["bits"]) - 1
    _, chain = source(graph, node, lambda at: True)
    return levels <= _FEW or (levels <= _MOST and any(at.kind == "batch_norm" for at in chain))


PASSES: tuple[Pass, ...] = (
    *SHARED,
    Pass(fold_tables, makes=frozenset({"lookup"})),
    Pass(drop_lookups),
    Pass(fuse_few_thresholds, makes=frozenset({"thresholds"})),
)
