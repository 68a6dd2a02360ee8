"""What becomes of one layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .table import LayerConversion


@dataclass(frozen=True)
class Step:
    """A layer, what replaces it (None: it stays), its row of the table, and whether a ReLU before it may go.

    `is_left_out` of a layer that stays float because the user wants it to: by filter_fn, by a rule or with 32 bits.
    """

    module: nn.Module
    replacement: nn.Module | None
    row: LayerConversion
    absorbs_relu: bool = False
    is_left_out: bool = False
