"""Codes behind a function whose last bits are free: SiLU, GELU, sigmoid, tanh and ELU have a library's exponential.

PyTorch computes them in one way in a vector, in another at its end, in a third on another CPU, and training saw any of
them. So where such a number lies within its last bits of where codes change, either code is the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .chains import composed, is_monotone
from .graph import Graph, Node

#: How far from the true value PyTorch's may be, as a share of it: 4 to 8 units in the last place.
ROOM = 2.0**-21
#: And how far where it is next to nothing: PyTorch's SiLU is 0 below −88.7, where e^−x is infinite. Or `Kind.lost`.
NEXT_TO_NOTHING = 2.0**-120

#: From here on GELU(x) is x.
_ITSELF = 2.0**64

#: From the argument of a chain to the least and the largest code.
Between = Callable[[Tensor], tuple[Tensor, Tensor]]


def steadied(node: Node) -> Node:
    """A node with the function that is meant: PyTorch's vectors make inf of GELU(2·10³⁸), and NaN of GELU(inf)."""
    if node.row.lost == 0:
        return node
    function = node.function
    return replace(node, function=lambda x: torch.where(x > _ITSELF, x, function(x)))


def inexact(chain: Sequence[Node]) -> list[int]:
    """Where functions of free last bits stand in a chain of elementwise nodes."""
    return [i for i, node in enumerate(chain) if not node.row.exact]


def is_bounded(chain: Sequence[Node]) -> bool:
    """Whether `codes_between` can tell: there is one such function at most, and all behind it is monotone."""
    at = inexact(chain)
    return not at or (len(at) == 1 and all(map(is_monotone, chain[at[0] + 1 :])))


def codes_between(chain: Sequence[Node], codes: Node) -> Between | None:
    """The least and the largest code of a chain that `is_bounded`; None if all its bits are certain."""
    at = inexact(chain)
    if not at:
        return None
    value = composed([*chain[: at[0]], steadied(chain[at[0]])])
    after = composed([*chain[at[0] + 1 :], codes])
    lost = max(NEXT_TO_NOTHING, chain[at[0]].row.lost)

    def between(x: Tensor) -> tuple[Tensor, Tensor]:
        y = value(x)
        room = torch.where(y.isinf(), 0.0, y.abs() * ROOM + lost)
        ends = torch.stack([after(y - room), after(y + room)])
        return ends.amin(0), ends.amax(0)

    return between


def behind_free_bits(graph: Graph) -> set[str]:
    """The nodes whose last bits may be others if the model is called again: those of a library's functions.

    A vector computes them in one way and its end in another, so they depend on how a tensor lies in memory, a part of
    another one for example. Sums have an order of their own each time they are called.
    """
    free: set[str] = set()
    for node in graph:
        if not (node.row.exact or node.row.sums) or any(name in free for name in node.inputs):
            free.add(node.name)
    return free
