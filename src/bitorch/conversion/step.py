"""What becomes of one layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .table import LayerConversion


@dataclass(frozen=True)
class Step:
    """A layer, what replaces it (None: it stays), its row of the table, and whether a ReLU before it may go."""

    module: nn.Module
    replacement: nn.Module | None
    row: LayerConversion
    absorbs_relu: bool = False
