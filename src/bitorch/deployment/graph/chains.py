"""Chains of elementwise nodes: which way they go, what they give together, and where they begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .graph import Graph, Node

#: Never falling, whatever their settings.
_RISING = frozenset({"relu", "clamp", "hardsigmoid", "plus"})
#: Rising, falling or constant in each channel, as the sign of a factor says.
_SIGNED = {"batch_norm": "multiply", "times": "constant", "divide": "constant", "scale": "scale"}
#: Elementwise, but neither rising nor falling everywhere; or, of a library's exp, not proven to be.
_OTHER = frozenset({"hardswish", "sigmoid", "tanh", "silu"})
ELEMENTWISE = _RISING | _SIGNED.keys() | _OTHER | {"leaky_relu"}


def is_monotone(node: Node) -> bool:
    """Whether every channel of an elementwise node rises or falls throughout, with the rounding of float32 too.

    It may make NaN of −inf or inf: at its ends, and nowhere between.
    """
    if node.kind == "leaky_relu":
        slope = node.settings["slope"]
        return bool(
            (slope > 0).all() and slope.isfinite().all()
        )  # −inf·0 and 0·inf are NaN, and behind that it goes on
    if node.kind in _SIGNED:
        factor = torch.as_tensor(node.settings[_SIGNED[node.kind]])
        return bool(factor.isfinite().all()) and (node.kind != "divide" or bool((factor != 0).all()))
    return node.kind in _RISING


def is_rising(node: Node) -> bool:
    """Whether no channel of an elementwise node falls anywhere or makes NaN, so that it commutes with a maximum.

    A factor of 0 makes NaN of infinities, which wins a maximum that the infinity, if it is −inf, would have lost.
    """
    if node.kind in _SIGNED:
        return is_monotone(node) and bool((torch.as_tensor(node.settings[_SIGNED[node.kind]]) > 0).all())
    if node.kind == "plus":
        return bool(node.settings["constant"].isfinite().all())
    return is_monotone(node)


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
    while at.kind in ELEMENTWISE and accept(at):
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
