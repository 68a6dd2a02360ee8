"""Passes that bring quantizers to where their numbers are made: in front of pools and of moves of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..graph.chains import is_rising, is_the_same_everywhere
from ..graph.graph import Graph, Node


def swap_pools(graph: Graph) -> Graph:
    """Let what never falls (ReLU, clip, BatchNorm with slopes ≥ 0) come before a max-pool that it reads.

    It comes before a choice and a reshape of rows, too, and what has no numbers per channel before any move of numbers.
    """
    return _as_often_as_it_goes(_swap_one, graph)


def _swap_one(graph: Graph) -> Graph | None:
    readers = graph.readers()
    for node in graph:
        if not node.row.elementwise or not is_rising(node):
            continue
        pool = graph[node.inputs[0]]
        is_only = len(readers[pool.name]) == 1 and pool.name not in graph.outputs
        is_moved = pool.row.moves and len(pool.inputs) == 1
        if is_only and is_moved and (pool.row.keeps_channels or is_the_same_everywhere(node)):
            before = graph[pool.inputs[0]]
            early = replace(node, name=f"{node.name}/early", inputs=(before.name,), shape=before.shape)
            late = replace(pool, name=node.name, inputs=(early.name,))
            return graph.replaced({pool.name: early, node.name: late})
    return None


def move_codes(graph: Graph) -> Graph:
    """Quantize before max-pools, moves of numbers and concatenations that only lead to a quantizer."""
    return _as_often_as_it_goes(_move_one, graph)


def _move_one(graph: Graph) -> Graph | None:
    readers = graph.readers()
    for node in graph:
        if node.kind != "codes":
            continue
        behind = graph[node.inputs[0]]
        if not behind.row.moves or len(readers[behind.name]) > 1 or behind.name in graph.outputs:
            continue
        if behind.kind == "permute" and graph[behind.inputs[0]].kind == "input":
            continue  # an array can be read with these axes, which costs nothing
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


def _as_often_as_it_goes(step: Callable[[Graph], Graph | None], graph: Graph) -> Graph:
    """Return the graph after steps until there is none, which gives None."""
    following = step(graph)
    while following is not None:
        graph, following = following, step(following)
    return graph
