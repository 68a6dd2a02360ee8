"""The table that a conversion returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..in_place import InPlaceTable
from ..layers import QAttention
from ..layers.composed import Composed
from ..layers.integer_kernels import TrainingKernels
from ..layers.low_bit import Converted, LowBit, WeightQuantized
from ..layers.qconv import _Convolution
from ..quantizations.bits import FLOAT_BITS
from ..text_table import aligned, ruled, some_names
from .convertible import own_tensors

#: Of weight, activation and gradient.
LayerBits = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class LayerConversion:
    """What became of one layer. Bits are None for a float layer.

    `pad_value` is what a convolution on ±1 activations fills its borders with; None of layers without such borders.
    `rule` is the number and the match of the rule that decided, empty where none matches, None where rules have no say.
    `kernels` is what its training steps are computed with on this machine; None of layers without a low-bit product.
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
    pad_value: float | None = None
    kernels: TrainingKernels | None = None


@dataclass(frozen=True)
class WeightShare:
    """How many numbers are in the matrices and larger tensors of a model's layers; one that is shared counts once.

    Attributes:
        low_bit: in those that have fewer than 32 bits wherever they are used.
        weights: in all of them.
    """

    low_bit: int
    weights: int

    def __str__(self) -> str:
        share = f" ({self.low_bit / self.weights:.1%})" if self.weights else ""
        return f"low-bit: {self.low_bit:,} of {self.weights:,} weights{share}"


@dataclass(frozen=True)
class Conversion(InPlaceTable):
    """What `quantize_`, `set_bits` or `float_` did, one row for each layer with a weight. Printing it shows a table.

    `share` is how many of the weights `quantize_` has left low-bit; None of the others.
    """

    functions: ClassVar[tuple[str, ...]] = ("quantize_", "set_bits", "float_")

    layers: tuple[LayerConversion, ...]
    share: WeightShare | None = None

    def __str__(self) -> str:
        columns = {"layer": [row.name for row in self.layers], "was": [row.layer for row in self.layers]}
        columns["weight shape"] = ["×".join(map(str, row.shape)) for row in self.layers]
        columns["is"] = [row.became for row in self.layers]
        columns["W"] = [_number(row.weight_bits) for row in self.layers]
        columns["A"] = [_number(row.activation_bits) for row in self.layers]
        columns["G"] = [_number(row.gradient_bits) for row in self.layers]
        if any(row.pad_value is not None for row in self.layers):
            columns["pad"] = [_number(row.pad_value) for row in self.layers]
        if any(row.rule is not None for row in self.layers):
            columns["rule"] = ["" if row.rule is None else row.rule for row in self.layers]
        columns["note"] = [row.note for row in self.layers]
        table = ruled(aligned([tuple(columns), *zip(*columns.values(), strict=True)]))
        share = [] if self.share is None else [str(self.share)]
        return "\n".join([table, *_kernel_lines(self.layers), *share])


def _kernel_lines(layers: Sequence[LayerConversion]) -> list[str]:
    """Return lines that say what layers are trained with, a line for all that have it for the same reason."""
    names: dict[TrainingKernels, list[str]] = {}
    for row in layers:
        if row.kernels is not None:
            names.setdefault(row.kernels, []).append(row.name)
    number = sum(map(len, names.values()))
    return [f"{_trains(kernels)}: {some_names(group, number)}{_because(kernels)}" for kernels, group in names.items()]


def _trains(kernels: TrainingKernels) -> str:
    if kernels.forward == kernels.backward:
        return f"trains on {kernels.forward}s"
    return f"trains on {kernels.forward}s forward and {kernels.backward}s backward"


def _because(kernels: TrainingKernels) -> str:
    return f" ({kernels.why})" if kernels.why else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def row_of(name: str, was: nn.Module, now: nn.Module, note: str, rule: str | None = None) -> LayerConversion:
    """Return the row of a layer that was `was` and is `now`, which may be the same module."""
    became = type(now).__name__ if isinstance(now, Converted) else "float"
    return LayerConversion(
        name, type(was).__name__, _shape(was), became, *bits_of(now), note, rule, pad_value_of(now), _kernels_of(now)
    )


def _kernels_of(layer: nn.Module) -> TrainingKernels | None:
    """Return what a layer is trained with; of one with several parts, where all have the same."""
    if isinstance(layer, LowBit):
        return layer.training_kernels()
    if not isinstance(layer, Composed):
        return None
    of_parts = {part.training_kernels() for part in layer.projections().values() if isinstance(part, LowBit)}
    return of_parts.pop() if len(of_parts) == 1 else None


def pad_value_of(layer: nn.Module) -> float | None:
    """Return what a low-bit convolution fills its borders with, where that can be something else than the level 0.

    None of layers without borders, or whose borders repeat pixels, and of zeros in front of unsigned codes.
    """
    if not isinstance(layer, _Convolution) or layer.padding_mode != "zeros" or not any(map(any, layer._borders())):
        return None
    is_level_0 = isinstance(layer, LowBit) and layer.input_quantization.unsigned and layer.pad_value == 0
    return None if is_level_0 else layer.pad_value


def _shape(layer: nn.Module) -> tuple[int, ...]:
    if isinstance(layer, WeightQuantized):
        return tuple(layer.weight.shape)
    own = own_tensors(layer)
    return tuple(max(own, key=lambda tensor: tensor.numel()).shape) if own else ()


def bits_of(layer: nn.Module) -> LayerBits:
    """Return the bits of weight, activation and gradient; None where there is no quantizer, 32 of float ones."""
    if isinstance(layer, LowBit):
        gradient = layer.gradient_quantization
        return (
            layer.weight_quantization.bit_width,
            layer.input_quantization.bit_width,
            FLOAT_BITS if gradient is None else gradient.bit_width,
        )
    if isinstance(layer, QAttention):
        widths = {quantizer.bit_width for quantizer in layer.quantizers().values()}
        return None, widths.pop() if len(widths) == 1 else None, None
    if isinstance(layer, Composed):
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
