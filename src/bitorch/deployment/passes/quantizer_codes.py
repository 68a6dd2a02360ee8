"""The nodes that a quantizer is made of: what comes before its codes, and these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...quantizations.arithmetic import is_sign, stored_codes
from ..graph.graph import Node


def coded(node: Node, shape: tuple[int, ...]) -> list[Node]:
    """Return the nodes from a node's input to the stored codes of its quantizer, the last of them `codes`.

    A range of its own is a division, and an addition for its zero point, in front of the unit quantizer; a shift is an
    addition in front of a sign.
    """
    nodes: list[Node] = []

    def add(step: str, kind: str, function: Callable[[Tensor], Tensor], settings: dict[str, Any]) -> None:
        inputs = (nodes[-1].name,) if nodes else node.inputs
        nodes.append(Node(f"{node.name}/{step}", kind, inputs, shape, function, settings, node.place, node.module))

    form, bits, zero_point = (node.settings[name] for name in ("form", "bits", "zero_point"))
    if node.settings["divide"] is not None:
        width = node.settings["divide"]
        add("range", "divide", lambda x: x / over_channels(width, x), {"constant": width})
    if node.settings["plus"] is not None:
        shift = node.settings["plus"]
        step = "shift" if is_sign(form) else "zero"
        add(step, "plus", lambda x: x + over_channels(shift, x), {"constant": shift})
    keeps_nan = node.settings["keeps_nan"]
    settings = {
        "form": form, "bits": bits, "sign": is_sign(form), "zero_point": zero_point, "keeps_nan": keeps_nan,
    }  # fmt: skip
    add("codes", "codes", lambda x: stored_codes(form, x, bits, zero_point, keeps_nan=keeps_nan), settings)
    return nodes


def is_rounding(node: Node) -> bool:
    """Whether codes are integers that the floats are rounded to, which only an operation of its own makes."""
    return node.kind == "codes" and node.settings["form"] == "round"


def over_channels(numbers: Tensor, x: Tensor) -> Tensor:
    """Return numbers [1] or [C] as they meet x [B, C, …]."""
    return numbers.reshape(-1, *[1] * (x.dim() - 2))
