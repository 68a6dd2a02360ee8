"""What computed a tensor, read from its autograd graph: so functional calls count like modules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function

#: Names of autograd nodes.
_NORMALIZATION = re.compile(r"BatchNorm|LayerNorm|GroupNorm|RmsNorm|RMSNorm|Softmax|Sigmoid")
_PRODUCT = re.compile(r"Convolution|Addmm|Mm|Bmm|Baddbmm|_?Scaled|^Linear|Attention")
_MARK = "_MeantReLU"


@dataclass(frozen=True)
class Provenance:
    """What stands between a tensor and the products or normalizations that it comes from.

    Attributes:
        is_normalized: False if a convolution or matrix product reaches it with no normalization in between.
        has_absorbed_relu: an AbsorbedReLU stands in between.
    """

    is_normalized: bool
    has_absorbed_relu: bool


class _MeantReLU(Function):
    """The identity, which leaves its name in the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.detach()  # as in GradientDoReFa: no view, so that in-place operations may follow

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def mark_absorbed_relu(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    """As a forward hook of an AbsorbedReLU, leave a trace of it in the graph."""
    marked: Tensor = _MeantReLU.apply(output)
    return marked


def provenance(x: Tensor) -> Provenance:
    """Walk x's graph back to the nearest products and normalizations."""
    nodes: list[Any] = [x.grad_fn]
    seen: set[Any] = set()
    is_normalized, has_absorbed_relu = True, False
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name()
        if _NORMALIZATION.search(name):
            continue
        if _PRODUCT.search(name):
            is_normalized = False
            continue
        has_absorbed_relu |= name.startswith(_MARK)
        nodes.extend(following for following, _ in node.next_functions)
    return Provenance(is_normalized, has_absorbed_relu)
