"""The bits that a model's layers have at the moment, by layer name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ..conversion.bits import Bits
from ..conversion.rules import Match, Rule
from ..conversion.set_bits import BitsLike, set_bits
from ..conversion.table import bits_of
from ..layers.low_bit import LowBit

#: Weight, activation and gradient bits of each low-bit layer; 32 for none.
BitsByLayer = dict[str, tuple[int, int, int]]


def bits_in_force(model: nn.Module) -> BitsByLayer:
    """Return the bits of every low-bit layer."""
    found: BitsByLayer = {}
    for name, module in model.named_modules():
        if isinstance(module, LowBit):
            weight, activation, gradient = bits_of(module)
            assert weight is not None  # a low-bit layer has all three
            assert activation is not None
            assert gradient is not None
            found[name] = (weight, activation, gradient)
    return found


def bring_into_force(model: nn.Module, bits: Mapping[str, Sequence[int]]) -> None:
    """Give the named layers these bits; errors as `bitorch.set_bits`, and the model is then unchanged."""
    now = bits_in_force(model)
    changes: list[Rule | tuple[Match, BitsLike]] = [
        (name, Bits(*wanted)) for name, wanted in bits.items() if now.get(name) != tuple(wanted)
    ]
    if changes:
        set_bits(model, changes)
