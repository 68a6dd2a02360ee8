"""A product of two activations' codes, taken apart: quantizers, exact product, scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...layers.exact_matmul import scaled_matmul
from ...quantizations.arithmetic import is_sign
from ..graph.graph import Node
from .quantizer_codes import coded


def split_matmul(node: Node, left: tuple[int, ...], right: tuple[int, ...]) -> list[Node]:
    """Write a low_bit_matmul as codes of both operands, whose shapes these are, code_matmul and scale."""
    codes = [
        coded(_quantizer(node, side, name), shape)
        for side, name, shape in zip(("left", "right"), node.inputs, (left, right), strict=True)
    ]
    ends = tuple(nodes[-1].name for nodes in codes)
    settings = {
        "transposed": node.settings["transposed"],
        "zero_points": _of_both(node, "zero_point", int),
        "signs": _of_both(node, "form", lambda form: int(is_sign(form))),
        "largest": node.settings["largest"],
    }
    function = _product(settings)
    product = replace(
        node, name=f"{node.name}/sum", kind="code_matmul", inputs=ends, function=function, settings=settings
    )
    scale = torch.tensor([node.settings["scale"]], dtype=torch.float32)
    scaled = replace(
        node, kind="scale", inputs=(product.name,), function=lambda d: d * scale, settings={"scale": scale}
    )
    return [*codes[0], *codes[1], product, scaled]


def _of_both(node: Node, key: str, number: Callable[[Any], int]) -> tuple[int, ...]:
    return tuple(number(node.settings[f"{side}_{key}"]) for side in ("left", "right"))


def _quantizer(node: Node, side: str, name: str) -> Node:
    """The quantizer of an operand, as a node."""
    settings = {key.removeprefix(f"{side}_"): v for key, v in node.settings.items() if key.startswith(f"{side}_")}
    return replace(node, name=f"{node.name}/{side}", inputs=(name,), settings=settings)


def _product(settings: dict[str, Any]) -> Callable[[Tensor, Tensor], Tensor]:
    """D of the values of both nodes of codes, [batch, C, *rows]."""
    one = torch.ones(())

    def numbers(codes: Tensor, index: int) -> Tensor:
        last: Tensor = (codes.to(torch.float32) - settings["zero_points"][index]).movedim(1, -1)
        return last.transpose(-2, -1) if settings["transposed"][index] else last

    def function(left: Tensor, right: Tensor) -> Tensor:
        d = scaled_matmul(numbers(left, 0), numbers(right, 1), one, one, 1.0, settings["largest"])
        return d.movedim(-1, 1)

    return function
