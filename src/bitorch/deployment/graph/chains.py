"""Chains of elementwise nodes: which way they go, what they give together, and where they begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .graph import Graph, Node


def is_monotone(node: Node) -> bool:
    """Whether every channel of an elementwise node rises or falls throughout: see `Kind.monotone`."""
    return node.row.monotone(node.settings)


def is_rising(node: Node) -> bool:
    """Whether no channel of an elementwise node falls anywhere or makes NaN: see `Kind.rising`."""
    return node.row.rising(node.settings)


def is_the_same_everywhere(node: Node) -> bool:
    """Whether an elementwise node has no numbers per channel, so that it can read any number of channels."""
    return not any(isinstance(value, Tensor) for value in node.settings.values())


def source(graph: Graph, node: Node, accept: Callable[[Node], bool]) -> tuple[Node, list[Node]]:
    """Follow the inputs of a node as long as they are elementwise and accepted.

    Returns:
        the first node that is not, and those between it and `node`, in the order of computation.
    """
    chain: list[Node] = []
    at = graph[node.inputs[0]]
    while at.row.elementwise and accept(at):
        chain.insert(0, at)
        at = graph[at.inputs[0]]
    return at, chain


def composed(nodes: Sequence[Node]) -> Callable[[Tensor], Tensor]:
    """Return the function of nodes that read one another, the first one's input being the argument."""
    functions = [node.function for node in nodes]

    def function(x: Tensor) -> Tensor:
        for step in functions:
            x = step(x)
        return x

    return function


def probe(points: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return points [P, C] as a batch of P images of one pixel, of as many dimensions as `shape` [C, …] has."""
    return points.reshape(*points.shape, *[1] * (len(shape) - 1))


def stored(codes: Tensor, *, sign: bool) -> Tensor:
    """Return codes as the program stores them: ±1 as 1 and 0."""
    return (codes + 1) / 2 if sign else codes


def without_nan(codes: Tensor, *, sign: bool) -> Tensor:
    """Return codes of a model as a program has them, where NaN has no code: the lowest one takes its place."""
    return codes.nan_to_num(nan=-1.0 if sign else 0.0)
