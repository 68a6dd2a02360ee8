"""Quantizers in a config: what each layer gets one like, and how a file names it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from torch import nn

from ..quantizations import GradientQuantization, InputDoReFa, Quantization, WeightDoReFa
from ..quantizations.bits import FLOAT_BITS
from ..quantizations.names import built_in_quantizers, quantizations_by_name
from ..quantizations.own_arguments import takes_bits
from ..short_repr import short_repr

#: Classes of quantizers by the names that a file has for them, beside those of the library and registered ones.
Quantizers = Mapping[str, type[Quantization]]
#: What JSON has.
_PLAIN = (bool, int, float, str, type(None))


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


def named(value: object, field: str, bits: int | None, quantizers: Quantizers) -> Quantization:
    """Return the quantizer that a file means: a name, or a mapping of `name` and arguments.

    Args:
        value: what stands in the file.
        bits: that stand beside it; None where none do.
        quantizers: classes by name, beside the library's and registered ones.

    Raises:
        ValueError: no such name, no name, or arguments that the class does not take.
    """
    arguments: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"{field} must name a quantizer, as `{{name: weightlsq, bits: 2}}` does, got {value!r}")
    known = _known(quantizers)
    if name not in known:
        raise ValueError(
            f"{field} names the quantizer {short_repr(name)}, which is not known here. If it is your own, pass its "
            "class, quantizers={name: class}, or register_custom_quantization(class), or on the command line "
            f"--quantizers FILE.py, the file that has it. Known are {', '.join(known)}"
        )
    cls = known[name]
    if takes_bits(cls) and bits is not None:
        arguments.setdefault("bits", bits)
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(f"{field}: {name} cannot be made with {arguments}: {error}") from None


def _known(quantizers: Quantizers) -> dict[str, type[Quantization]]:
    return {**quantizations_by_name, **built_in_quantizers, **quantizers}


def spelled(quantizer: Quantization, field: str, quantizers: Quantizers) -> dict[str, Any]:
    """Return what `named` reads: the quantizer's name and arguments, in types that JSON has.

    Raises:
        ValueError: a class without a name among the library's, registered ones and those given, or arguments that JSON
            has not.
    """
    cls, arguments = type(quantizer), quantizer.arguments()
    names = [name for name, known in _known(quantizers).items() if known is cls]
    if not names:
        raise ValueError(
            f"{field} is a {cls.__name__}, which a file has no name for; give it one, here and where the file is read: "
            f'quantizers={{"{cls.__name__.lower()}": {cls.__name__}}}, or register_custom_quantization({cls.__name__})'
        )
    for name, value in arguments.items():
        if not isinstance(value, _PLAIN):
            raise ValueError(f"{field}: the argument {name}={value!r} of {cls.__name__} cannot be written to a file")
    return {"name": names[-1], **arguments}


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
