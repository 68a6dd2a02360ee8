"""Names of a file's outputs: those of the packed net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..graph.graph import Graph
from ..graph.output_names import OutputNames


def with_output_names(graph: Graph, wanted: Sequence[str | None]) -> tuple[Graph, tuple[str, ...]]:
    """Let the nodes that leave be called as the outputs are.

    Args:
        wanted: names of the outputs, see `OutputNames`.

    Returns:
        the graph under other names, and the names of its outputs: where one is not its node's, it is a copy of it.
    """
    names = OutputNames(graph, wanted)
    tensors = []
    for index, (node, name) in enumerate(zip(graph.outputs, wanted, strict=True)):
        if names.must_copy(node, name):
            tensors.append(f"{node}/output {index}")
            names.leave(tensors[-1], name, copy_of=node)
        else:
            tensors.append(node)
            names.leave(node, name)
    names.settle()
    return _renamed(graph, names.names), tuple(names.names.get(tensor, tensor) for tensor in tensors)


def _renamed(graph: Graph, names: dict[str, str]) -> Graph:
    """The graph with other names of nodes, and of those that they read."""
    named = tuple(replace(node, name=names.get(node.name, node.name)) for node in graph)
    return Graph(named, graph.outputs).renamed(names)
