"""What holds of a graph behind capture and behind every pass, whatever the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set

from torch import Tensor

from .graph import Graph, Node
from .kind import Types
from .kinds import KINDS


class GraphError(RuntimeError):
    """A graph is not what it must be: a fault of capture or of a pass, never of the model."""


def check_graph(graph: Graph, kinds: Set[str], after: str) -> None:
    """Raise unless a graph is well-formed.

    Names are unique, and each node stands behind those that it reads; outputs are nodes; each node is of one of these
    kinds, reads as many nodes and has the settings that its row says, and a shape that follows from them.

    Args:
        kinds: that may occur.
        after: the name of what has made the graph, for the message.

    Raises:
        GraphError: it is not; the message names the node and the rule.
    """
    for fault in _faults(graph, kinds):
        raise GraphError(
            f"after {after}: {fault}; this is a fault of bitorch, not of the model: please report it with the model"
        )


def _faults(graph: Graph, kinds: Set[str]) -> Iterator[str]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, count in Counter(node.name for node in graph).items():
        if count > 1:
            yield f"{count} nodes are called {name!r}"
    for node in graph:
        for fault in _faults_of(node, kinds, shapes):
            yield f"node {node.name!r} of kind {node.kind!r} {fault}"
        shapes[node.name] = node.shape
    for name in graph.outputs:
        if name not in shapes:
            yield f"output {name!r} is no node"


def _faults_of(node: Node, kinds: Set[str], shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Yield what is wrong with a node that reads nodes of these shapes."""
    if node.kind not in KINDS:
        yield "is of no kind that there is"
        return
    if node.kind not in kinds:
        yield f"must not occur any more: there may be {', '.join(sorted(kinds))}"
    row = node.row
    if len(node.inputs) != row.arity and (row.arity is not None or not node.inputs):
        yield f"reads {len(node.inputs)} nodes, but must read {'at least one' if row.arity is None else row.arity}"
        return
    missing = [name for name in node.inputs if name not in shapes]
    if missing:
        yield f"reads {missing[0]!r}, which is no node before it"
        return
    faults = list(_faults_of_settings(node))
    if faults:
        yield from faults
    elif not row.shape(node.settings, [shapes[name] for name in node.inputs], node.shape):
        read = ", ".join(str(list(shapes[name])) for name in node.inputs)
        yield f"has the shape {list(node.shape)}, which does not follow from {read}"


def _faults_of_settings(node: Node) -> Iterator[str]:
    """Yield the settings that a node lacks, has too many, or has of another type."""
    row = node.row
    has_geometry = not row.geometry.keys().isdisjoint(node.settings)
    wanted = {**row.settings, **row.geometry} if has_geometry else row.settings
    known = {**wanted, **row.optional}
    for key in wanted.keys() - node.settings.keys():
        yield f"lacks the setting {key!r}"
    for key in node.settings.keys() - known.keys():
        yield f"has a setting {key!r}, which its kind does not"
    for key in known.keys() & node.settings.keys():
        if not _is_of(node.settings[key], known[key]):
            names = " or ".join(one.__name__ for one in known[key])
            yield f"has {key!r} of type {type(node.settings[key]).__name__}, which must be {names}"


def _is_of(value: object, types: Types) -> bool:
    """Say whether a value is of one of these types exactly, and a tuple one of whole numbers."""
    if isinstance(value, tuple):
        return tuple in types and all(type(item) is int for item in value)
    return type(value) in types or (isinstance(value, Tensor) and Tensor in types)
