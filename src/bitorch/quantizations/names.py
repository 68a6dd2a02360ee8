"""Quantizers by name."""

from __future__ import annotations

from collections.abc import Mapping

from .approx_sign import ApproxSign
from .base import Quantization
from .calibrated import InputCalibrated
from .dorefa import GradientDoReFa, InputDoReFa, WeightDoReFa
from .dynamic import InputDynamic
from .gradient_luq import GradientLUQ
from .gradient_signed import GradientSigned
from .identity import Identity
from .lsq import InputLSQ
from .pact import InputPACT
from .progressive_sign import ProgressiveSign
from .quantization_scheduler import ScheduledQuantizer
from .rsign import RSign
from .sign import Sign
from .ste_heaviside import SteHeaviside
from .swish_sign import SwishSign
from .weight_absmax import WeightAbsMax
from .weight_absmean import WeightAbsMean
from .weight_lsq import WeightLSQ
from .weight_power_of_two import WeightPowerOfTwo
from .weight_seq import WeightSEQ
from .weight_ttq import WeightTTQ
from .weight_twn import WeightTWN

_BUILT_IN = (
    ApproxSign,
    GradientDoReFa,
    GradientLUQ,
    GradientSigned,
    Identity,
    InputCalibrated,
    InputDoReFa,
    InputDynamic,
    InputLSQ,
    InputPACT,
    ProgressiveSign,
    RSign,
    ScheduledQuantizer,
    Sign,
    SteHeaviside,
    SwishSign,
    WeightAbsMax,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
    WeightPowerOfTwo,
    WeightSEQ,
    WeightTTQ,
    WeightTWN,
)
#: Every quantizer of the library, as files and commands name it.
built_in_quantizers: Mapping[str, type[Quantization]] = {cls.name: cls for cls in _BUILT_IN}

#: Those that BITorch has names for, and that layers can build by these, without arguments.
quantizations_by_name: dict[str, type[Quantization]] = {
    cls.name: cls
    for cls in (
        ApproxSign,
        Identity,
        InputDoReFa,
        ProgressiveSign,
        ScheduledQuantizer,
        Sign,
        SteHeaviside,
        SwishSign,
        WeightDoReFa,
    )
}


def quantization_names() -> list[str]:
    """Return the known names, sorted."""
    return sorted(quantizations_by_name)


def quantization_from_name(name: str) -> type[Quantization]:
    """Return the quantizer class of that name; ValueError, with the known names, if there is none."""
    if name not in quantizations_by_name:
        raise ValueError(f"no quantization is named {name!r}; known names: {', '.join(quantization_names())}")
    return quantizations_by_name[name]


def register_custom_quantization(cls: type[Quantization]) -> None:
    """Make a Quantization subclass known under its `name`, so that layers accept the name as a string.

    A class that was defined again, as by a notebook cell that runs twice, takes the place of the earlier one.

    Raises:
        TypeError: cls is not a Quantization subclass.
        ValueError: it has no name of its own, or another class has that name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Quantization)):
        raise TypeError(f"register_custom_quantization takes a subclass of Quantization, got {cls!r}")
    if cls.name == Quantization.name:
        raise ValueError(f"{cls.__name__} needs a class attribute `name`")
    if not _is_defined_again(quantizations_by_name.get(cls.name, cls), cls):
        raise ValueError(f"the name {cls.name!r} belongs to {quantizations_by_name[cls.name].__name__}; choose another")
    quantizations_by_name[cls.name] = cls


def _is_defined_again(known: type[Quantization], cls: type[Quantization]) -> bool:
    return known is cls or (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
