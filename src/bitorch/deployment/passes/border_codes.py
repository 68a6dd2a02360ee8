"""Room for a border whose code the quantizer does not have: BITorch pads with −1 where InputDoReFa gives 0 … 1."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...quantizations.arithmetic import stored_codes
from ..graph.graph import Node


def border_range(pad_code: int, bits: int) -> tuple[int, int]:
    """Return the bits that hold the codes 0 … 2^bits − 1 and that of a border, and what is added to all of them."""
    lowest, highest = min(pad_code, 0), max(pad_code, 2**bits - 1)
    return (highest - lowest).bit_length(), -lowest


def with_border_codes(node: Node, codes: Node) -> tuple[Node, list[Node]]:
    """Return a low-bit convolution as it reads wider codes, and what makes these of its own.

    Args:
        node: of kind `low_bit`; with a border that its codes have, it is returned as it is, and nothing makes any.
        codes: of its input.
    """
    settings = node.settings
    pad_code, bits = settings.get("pad_code", 0), codes.settings["bits"]
    if codes.settings["sign"] or 0 <= pad_code < 2**bits:
        return node, []
    wider, added = border_range(pad_code, bits)
    levels = torch.arange(2**bits, dtype=torch.float32)
    values = replace(
        codes,
        name=f"{node.name}/levels",
        kind="values",
        inputs=(codes.name,),
        function=_unchanged,
        settings={"bits": bits, "sign": False, "table": levels},
    )

    def shifted(x: Tensor) -> Tensor:
        return stored_codes("round", x, wider, added)

    form = {"form": "round", "bits": wider, "sign": False, "zero_point": added, "keeps_nan": True}
    shift = replace(codes, name=f"{node.name}/wider", inputs=(values.name,), function=shifted, settings=form)
    return replace(node, settings={**settings, "bits": wider, "zero_point": added}), [values, shift]


def _unchanged(codes: Tensor) -> Tensor:
    return codes
