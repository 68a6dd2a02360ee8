"""How a file names a quantizer: by a name and arguments, in types that JSON has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..short_repr import short_repr
from .base import Quantization
from .names import built_in_quantizers, quantizations_by_name
from .own_arguments import takes_bits

#: Classes of quantizers by the names that a file has for them, beside those of the library and registered ones.
Quantizers = Mapping[str, type[Quantization]]
#: What JSON has.
_PLAIN = (bool, int, float, str, type(None))


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
