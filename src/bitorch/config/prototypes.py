"""Quantizers in a config: what each layer gets one like."""

from __future__ import annotations

from collections.abc import Hashable

from torch import nn

from ..quantizations import GradientQuantization, InputDoReFa, Quantization, WeightDoReFa
from ..quantizations.bits import FLOAT_BITS
from ..quantizations.own_arguments import takes_bits


def check_prototype(value: object, field: str) -> None:
    """Raise a TypeError unless a field of a config is a quantizer that can be one for others, of the right kind."""
    is_gradient = isinstance(value, GradientQuantization)
    if not isinstance(value, Quantization) or is_gradient != (field == "gradients"):
        hint = f"; did you mean {value.__name__}(…)?" if isinstance(value, type) else ""
        raise TypeError(f"{field} must be a quantizer such as {_EXAMPLES[field]}, got {value!r}{hint}")
    value.arguments()  # a TypeError, where it cannot say them


def is_sign(prototype: Quantization | None) -> bool:
    """Say whether a quantizer of activations gives ±1."""
    return prototype is not None and not prototype.unsigned and prototype.max_code == 1


def key_of(value: object) -> Hashable:
    """Return what makes two fields of a config equal: of quantizers their class and arguments."""
    if isinstance(value, Quantization):
        return type(value), tuple((name, _hashable(one)) for name, one in sorted(value.arguments().items()))
    return value if isinstance(value, Hashable) else repr(value)


def _hashable(value: object) -> Hashable:
    return value if isinstance(value, Hashable) else repr(value)


def for_end(prototype: Quantization, layer: nn.Module, field: str) -> Quantization:
    """Return a quantizer of 8 bits for the first or last layer: the prototype's kind, or DoReFa's without bits."""
    if takes_bits(type(prototype)):
        quantizer = prototype.for_layer(layer)
        quantizer.set_bits_(8)
        return quantizer
    return WeightDoReFa(8, variant="paper") if field == "weights" else InputDoReFa(8, variant="paper")


def agreed_bits(bits: int | None, prototype: Quantization | None, bits_field: str, field: str) -> int:
    """Return the bits that a config says, or its prototype has; ValueError where both differ, TypeError without any."""
    if prototype is None:
        if bits is None:
            raise TypeError(f"{bits_field} is missing: give it, or {field}=… a quantizer such as {_EXAMPLES[field]}")
        return bits
    if bits not in (None, prototype.bit_width):
        raise ValueError(
            f"{bits_field}={bits} contradicts {field}={prototype}; leave {bits_field} out, or make the quantizer so"
        )
    if not (1 <= prototype.bit_width <= 8 or prototype.bit_width == FLOAT_BITS):
        raise ValueError(f"{field}={prototype} says no bit_width from 1 to 8, or 32; set it on its class")
    return prototype.bit_width


_EXAMPLES = {"weights": "WeightLSQ(2)", "activations": "InputLSQ(2)", "gradients": "GradientDoReFa(6)"}
