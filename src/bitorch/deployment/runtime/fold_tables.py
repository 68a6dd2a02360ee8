"""Passes that compute what stands between codes and codes, or codes and floats, once for each level, as tables."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...same_numbers import same_numbers
from ..graph.chains import composed, probe, source, stored, without_nan
from ..graph.graph import Graph, Node


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
    values, chain = source(graph, node, lambda at: at.row.exact)
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
    return graph.replaced(folded).pruned()


def _only_elementwise_reader(graph: Graph, readers: dict[str, list[Node]], node: Node) -> Node | None:
    following = readers[node.name]
    is_one = len(following) == 1 and following[0].row.elementwise and following[0].row.exact
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
    is_same = bool(same_numbers(table, table[:1]).all())
    return (table[0] if is_same else table).contiguous()


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
