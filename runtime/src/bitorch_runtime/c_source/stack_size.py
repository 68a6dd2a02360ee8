"""How deep the stack of a function gets, by the call graph that GCC writes."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter

_NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "([^"]*)"', re.MULTILINE)
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.MULTILINE)
_BYTES = re.compile(r"(\d+) bytes \(")
#: What GCC calls the function that an address leads to.
_INDIRECT = "__indirect_call"


def stack_bytes(graph: str, entry: str) -> int:
    """Return the bytes of the deepest chain of calls from a function on, its own among them.

    A call by address counts as the deepest function that makes none itself. Functions of libraries, such as memcpy,
    have no bytes in the graph and count as 0.

    Args:
        graph: of one file, by `gcc -fcallgraph-info=su`.
        entry: the function.

    Raises:
        ValueError: the function is not in the graph, or functions call each other in a circle.
    """
    own = {name: sum(map(int, _BYTES.findall(label))) for name, label in _NODE.findall(graph)}
    if entry not in own:
        raise ValueError(f"the call graph has no function {entry!r}")
    calls: dict[str, set[str]] = {name: set() for name in own}
    for caller, callee in _EDGE.findall(graph):
        calls[caller].add(callee)
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise ValueError(f"the stack of {entry!r} has no bound: {' calls '.join(error.args[1])}") from None
    by_address = {_INDIRECT}
    for name in order:
        if calls.get(name, set()) & by_address:
            by_address.add(name)
    depth = {_INDIRECT: 0}
    direct = [name for name in order if name not in by_address]
    for name in direct:
        depth[name] = _depth(name, own, calls, depth)
    depth[_INDIRECT] = max((depth[name] for name in direct), default=0)
    for name in order:
        if name in by_address - {_INDIRECT}:
            depth[name] = _depth(name, own, calls, depth)
    return depth[entry]


def _depth(name: str, own: dict[str, int], calls: dict[str, set[str]], depth: dict[str, int]) -> int:
    return own.get(name, 0) + max((depth[callee] for callee in calls.get(name, ())), default=0)
