"""Passes that bring quantizers to where their numbers are made: one for all readers, in front of pools, as tables."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..graph.chains import (
    ELEMENTWISE,
    composed,
    is_rising,
    is_the_same_everywhere,
    probe,
    source,
    stored,
    without_nan,
)
from ..graph.graph import INEXACT, Graph, Node
from ..graph.quantizer_kind import form

#: Codes of what these give are these of codes: a maximum and a move of numbers commute with what never falls.
_MOVES = frozenset({"max_pool", "flatten", "select", "concat", "take", "reshape", "permute"})
#: What only moves numbers of one tensor, so that it commutes with what has no numbers per channel.
_REARRANGES = frozenset({"flatten", "select", "take", "reshape", "permute"})


def share_codes(graph: Graph) -> Graph:
    """Let readers that quantize one tensor in the same way share the codes."""
    names: dict[str, str] = {}
    known: dict[tuple[object, ...], str] = {}
    for node in graph:
        if node.kind == "codes":
            quantizer = node.settings["quantizer"]
            function = form(quantizer)
            key = node.inputs[0], node.settings["bits"], id(quantizer) if function is None else function
            if known.setdefault(key, node.name) != node.name:
                names[node.name] = known[key]
    return graph.renamed(names).pruned()


def swap_pools(graph: Graph) -> Graph:
    """Let what never falls (ReLU, clip, BatchNorm with slopes ≥ 0) come before a max-pool that it reads.

    What has no numbers per channel comes before what only moves numbers, too.
    """
    swapped = _swap_one(graph)
    while swapped is not None:
        graph, swapped = swapped, _swap_one(swapped)
    return graph


def _swap_one(graph: Graph) -> Graph | None:
    readers = graph.readers()
    for node in graph:
        if node.kind not in ELEMENTWISE or not is_rising(node):
            continue
        pool = graph[node.inputs[0]]
        only = len(readers[pool.name]) == 1 and pool.name not in graph.outputs
        if only and (pool.kind == "max_pool" or (pool.kind in _REARRANGES and is_the_same_everywhere(node))):
            before = graph[pool.inputs[0]]
            early = replace(node, name=f"{node.name}/early", inputs=(before.name,), shape=before.shape)
            late = replace(pool, name=node.name, inputs=(early.name,))
            return _replaced(graph, {pool.name: early, node.name: late})
    return None


def _replaced(graph: Graph, nodes: dict[str, Node]) -> Graph:
    return Graph(tuple(nodes.get(node.name, node) for node in graph), graph.outputs)


def move_codes(graph: Graph) -> Graph:
    """Quantize before max-pools, moves of numbers and concatenations that only lead to a quantizer."""
    moved = _move_one(graph)
    while moved is not None:
        graph, moved = moved, _move_one(moved)
    return graph


def _move_one(graph: Graph) -> Graph | None:
    readers = graph.readers()
    for node in graph:
        if node.kind != "codes":
            continue
        behind = graph[node.inputs[0]]
        if behind.kind not in _MOVES or len(readers[behind.name]) > 1 or behind.name in graph.outputs:
            continue
        if behind.kind == "permute" and graph[behind.inputs[0]].kind == "input":
            continue  # the program reads its array with these axes, which costs nothing
        early = [
            replace(node, name=f"{node.name}/{i}", inputs=(name,), shape=graph[name].shape)
            for i, name in enumerate(behind.inputs)
        ]
        late = replace(behind, name=node.name, inputs=tuple(codes.name for codes in early))
        nodes: list[Node] = []
        for other in graph:
            nodes.extend(early if other is behind else [late] if other is node else [other])
        return Graph(tuple(nodes), graph.outputs)
    return None


def fold_tables(graph: Graph) -> Graph:
    """Compute what is elementwise between codes and codes, or between codes and floats, once for each level.

    What has a library's exp in it stays: PyTorch's own differs with the place of a number in its tensor.
    """
    nodes: list[Node] = []
    for node in graph:
        if node.kind == "codes":
            node = _fold_codes(graph, node)
        nodes.append(node)
    return _fold_values(Graph(tuple(nodes), graph.outputs)).pruned()


def _fold_codes(graph: Graph, node: Node) -> Node:
    values, chain = source(graph, node, lambda at: at.kind not in INEXACT)
    if values.kind != "values":
        return node
    steps = composed([values, *chain, node])
    sign = node.settings["sign"]
    table = stored(without_nan(steps(_levels(values)), sign=sign), sign=sign).flatten(1).t().to(torch.uint8)
    settings = {"bits": node.settings["bits"], "sign": node.settings["sign"], "table": _narrowed(table)}
    return replace(node, kind="lookup", inputs=values.inputs, function=steps, settings=settings)


def _fold_values(graph: Graph) -> Graph:
    """Fold the chain of elementwise nodes behind codes' values, as long as nothing else reads what is between."""
    readers = graph.readers()
    folded: dict[str, Node] = {}
    for node in graph:
        if node.kind != "values":
            continue
        chain = [node]
        while (following := _only_elementwise_reader(graph, readers, chain[-1])) is not None:
            chain.append(following)
        if len(chain) > 1:
            steps = composed(chain)
            table = _narrowed(steps(_levels(node)).flatten(1).t())
            settings = {"bits": node.settings["bits"], "sign": node.settings["sign"], "table": table}
            folded[chain[-1].name] = replace(
                chain[-1], kind="values", inputs=node.inputs, function=steps, settings=settings
            )
    return _replaced(graph, folded).pruned()


def _only_elementwise_reader(graph: Graph, readers: dict[str, list[Node]], node: Node) -> Node | None:
    following = readers[node.name]
    is_one = len(following) == 1 and following[0].kind in ELEMENTWISE - INEXACT
    if not is_one or node.name in graph.outputs:
        return None
    return following[0]


def _levels(values: Node) -> Tensor:
    """Every code of a node's input, in every channel: [levels, C, 1…], ±1 for signs."""
    bits, sign = values.settings["bits"], values.settings["sign"]
    codes = torch.arange(2**bits, dtype=torch.float32)
    codes = 2 * codes - 1 if sign else codes
    return probe(codes.unsqueeze(1).repeat(1, values.channels), values.shape)


def _narrowed(table: Tensor) -> Tensor:
    """[levels] where all channels agree, else [C, levels]."""
    same = (table == table[:1]) | (table.isnan() & table[:1].isnan())
    return (table[0] if bool(same.all()) else table).contiguous()


def drop_lookups(graph: Graph) -> Graph:
    """Remove look-ups that give what they get: pixels that an 8-bit quantizer finds again."""
    names: dict[str, str] = {}
    for node in graph:
        if node.kind != "lookup":
            continue
        before = graph[names.get(node.inputs[0], node.inputs[0])]
        same = before.settings.get("sign", False) == node.settings["sign"] and _bits(before) == node.settings["bits"]
        if same and torch.equal(node.settings["table"], torch.arange(2 ** node.settings["bits"], dtype=torch.uint8)):
            names[node.name] = before.name
    return graph.renamed(names).pruned()


def _bits(node: Node) -> int:
    return 8 if node.kind == "input" else int(node.settings.get("bits", 0))
