"""The pass that turns what stands between a sum and a quantizer into thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..graph.chains import (
    composed,
    is_monotone,
    probe,
    source,
    stored,
)
from ..graph.graph import Graph, Node
from ..graph.last_bits import codes_between, is_bounded, steadied
from .every_integer import staircase_of_every_integer
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

    From D through any elementwise functions, if each D that can be reached can be gone through; from floats through
    monotone ones and one such as SiLU, of which is known that it rises. Codes of more levels stay with the unit
    quantizer, which reads the float chain as it is computed: that is as exact. So does what turns a number into NaN,
    such as inf·0: it is no staircase. So do codes that are rounded, "round". The runtime has no other quantizer without
    thresholds, so signs get them, behind what is monotone.
    """
    return with_thresholds(graph, of_floats)


def with_thresholds(graph: Graph, of_floats: Callable[[Graph, Node, set[str]], Node]) -> Graph:
    """Let codes come from D by thresholds where they can, and else as `of_floats` says, given what is read once."""
    claimed: set[str] = set()  # sums D whose codes are fused: a layer writes one tensor of codes
    alone = _read_once(graph)
    nodes: list[Node] = []
    for node in graph:
        if node.kind == "codes":
            fused = _of_sum(graph, node, claimed)
            node = of_floats(graph, node, alone) if fused is None else fused
        nodes.append(node)
    return Graph(tuple(nodes), graph.outputs).pruned()


def _read_once(graph: Graph) -> set[str]:
    """The nodes that one other reads, and that do not leave."""
    return {name for name, readers in graph.readers().items() if len(readers) == 1 and name not in graph.outputs}


def _levels(node: Node) -> int:
    bits: int = node.settings["bits"]
    return (1 << bits) - 1


def _of_sum(graph: Graph, node: Node, claimed: set[str]) -> Node | None:
    """Codes from D; None where they must come from floats. `claimed`: the sums that have such codes, with this one."""
    levels = _levels(node)
    start, chain = source(graph, node, lambda at: True)
    if levels > _MOST_LEVELS or start.kind != "product" or start.name in claimed or not is_bounded(chain):
        return None
    codes, ends = _stored([*map(steadied, chain)], node), reach(start)
    if not all(map(is_monotone, chain)):
        staircase = staircase_of_every_integer(codes, node.shape, levels, *ends)
    elif makes_nan(codes, node.shape, *ends):
        staircase = None
    else:
        staircase = integer_staircase(codes, node.shape, levels, *ends)
    if staircase is None:
        return None
    claimed.add(start.name)
    return _with(node, start, chain, staircase)


def of_floats(graph: Graph, node: Node, alone: set[str]) -> Node:
    """Codes from the float tensor that is furthest up. `alone`: see `_read_once`."""
    levels = _levels(node)
    is_few = levels <= _MOST_LEVELS
    start, chain = source(graph, node, lambda at: at.kind != "scale" and (is_few or is_monotone(at)))
    steps = _one_way(chain, node)
    while steps is None or (chain and makes_nan(composed(steps), node.shape, -torch.inf, torch.inf)):
        start = chain.pop(0)
        steps = _one_way(chain, node)
    is_unit, is_round = node.settings["form"] == "unit", node.settings["form"] == "round"
    while chain and is_unit and chain[-1].name in alone and changes_nothing(chain[-1]):
        chain.pop()  # where something else reads it, it is computed anyway, in the same operation
    is_plain = (is_unit and all(map(changes_nothing, chain))) or (is_round and not chain)
    if is_plain or (not is_few and (is_unit or is_round)):
        return replace(node, inputs=(chain[-1].name if chain else start.name,))
    return _with(node, start, chain, float_staircase(_stored(steps, node), node.shape, levels))


def _one_way(chain: Sequence[Node], node: Node) -> list[Node] | None:
    """Nodes that give the codes of a chain of floats, all of which rise or fall; None if that is not known.

    One of them may do so only nearly: its last bits are free, and so are the codes where they decide. Of one that only
    rises from 0 on, the quantizer must give the lowest code up to there, the code of NaN.
    """
    bends = [i for i, one in enumerate(chain) if not is_monotone(one)]
    if not bends:
        return list(chain)
    before, bend, after = chain[: bends[0]], steadied(chain[bends[0]]), chain[bends[0] + 1 :]
    if len(bends) > 1 or bend.row.nearly_rising(bend.settings):
        return list(chain) if len(bends) == 1 else None
    if bend.row.lowest is None:
        return None
    ends = torch.tensor([[bend.row.lowest], [0.0]]).repeat(1, node.channels)
    if bool((_stored(after, node)(probe(ends, node.shape)) != 0).any()):
        return None
    from_zero = replace(bend, kind="relu", function=lambda x: x.clamp(min=0.0), settings={})
    return [*before, from_zero, bend, *after]


def changes_nothing(node: Node) -> bool:
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
        "table": staircase.table,
    }
    function, between = composed([*chain, node]), codes_between(chain, node)
    return replace(node, kind="thresholds", inputs=(start.name,), function=function, settings=settings, between=between)


def _stored(chain: Sequence[Node], node: Node) -> Callable[[Tensor], Tensor]:
    """The chain's codes as the program stores them: 0 and 1 for ±1."""
    codes = composed([*chain, node])
    return lambda x: stored(codes(x), sign=node.settings["sign"])


def reach(product: Node) -> tuple[int, int]:
    """The least and largest D: all inputs of an output at their largest codes."""
    inputs, _ = product.settings["largest"]
    largest = int(product.settings["weight"].abs().flatten(1).sum(1, dtype=torch.float64).max()) * inputs
    return -largest, largest
