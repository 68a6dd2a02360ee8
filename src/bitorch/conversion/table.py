"""The table that a conversion returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..in_place import InPlaceTable
from ..layers import QMultiheadAttention
from ..layers.low_bit import Converted, LowBit, WeightQuantized
from ..quantizations.bits import FLOAT_BITS
from ..text_table import aligned, ruled

#: Of weight, activation and gradient.
LayerBits = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class LayerConversion:
    """What became of one layer. Bits are None for a float layer.

    `rule` is the number and the match of the rule that decided, empty where none matches, None where rules have no say.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    became: str
    weight_bits: int | None
    activation_bits: int | None
    gradient_bits: int | None
    note: str
    rule: str | None = None


@dataclass(frozen=True)
class Conversion(InPlaceTable):
    """What `quantize_`, `set_bits` or `float_` did, one row for each layer with a weight. Printing it shows a table."""

    functions: ClassVar[tuple[str, ...]] = ("quantize_", "set_bits", "float_")

    layers: tuple[LayerConversion, ...]

    def __str__(self) -> str:
        header: tuple[str, ...] = ("layer", "was", "weight shape", "is", "W", "A", "G", "note")
        rows = [_cells(row) for row in self.layers]
        if any(row.rule is not None for row in self.layers):
            header = (*header[:-1], "rule", "note")
            rows = [
                (*cells[:-1], "" if row.rule is None else row.rule, cells[-1])
                for cells, row in zip(rows, self.layers, strict=True)
            ]
        return ruled(aligned([header, *rows]))


def _cells(row: LayerConversion) -> tuple[str, ...]:
    bits = (row.weight_bits, row.activation_bits, row.gradient_bits)
    shape = "×".join(map(str, row.shape))
    return (row.name, row.layer, shape, row.became, *("" if b is None else str(b) for b in bits), row.note)


def row_of(name: str, was: nn.Module, now: nn.Module, note: str, rule: str | None = None) -> LayerConversion:
    """Return the row of a layer that was `was` and is `now`, which may be the same module."""
    became = type(now).__name__ if isinstance(now, Converted) else "float"
    return LayerConversion(name, type(was).__name__, _shape(was), became, *bits_of(now), note, rule)


def _shape(layer: nn.Module) -> tuple[int, ...]:
    if isinstance(layer, WeightQuantized):
        return tuple(layer.weight.shape)
    return tuple(max((p for p in layer._parameters.values() if p is not None), key=lambda p: p.numel()).shape)


def bits_of(layer: nn.Module) -> LayerBits:
    """Return the bits of weight, activation and gradient; None where there is no quantizer, 32 of float ones."""
    if isinstance(layer, LowBit):
        gradient = layer.gradient_quantization
        return (
            layer.weight_quantization.bit_width,
            layer.input_quantization.bit_width,
            FLOAT_BITS if gradient is None else gradient.bit_width,
        )
    if isinstance(layer, QMultiheadAttention):
        return _common([bits_of(projection) for projection in layer.projections().values()])
    return (layer.weight_quantization.bit_width if isinstance(layer, WeightQuantized) else None, None, None)


def _common(all_bits: Sequence[LayerBits]) -> LayerBits:
    """Return the bits that all have; None where they differ, as `set_bits` can have it."""
    weight, activation, gradient = all_bits[0]
    return (
        weight if all(bits[0] == weight for bits in all_bits) else None,
        activation if all(bits[1] == activation for bits in all_bits) else None,
        gradient if all(bits[2] == gradient for bits in all_bits) else None,
    )
