"""What quantizes the layers of a net, in types that JSON has: to build it again where the defaults are other ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from ..quantizations import Quantization
from ..quantizations.spelling import Quantizers, named, spelled
from .low_bit import LowBit
from .qactivation import QActivation
from .qconv import _Convolution

_NONE: Quantizers = MappingProxyType({})
#: Numbers of a layer, beside its quantizers.
_NUMBERS = ("gradient_cancellation_threshold", "pad_value")

#: Of each module that quantizes, by its path: its quantizers, None where it has none, and its numbers.
Description = dict[str, dict[str, Any]]


def describe_quantizers(net: nn.Module, quantizers: Quantizers = _NONE) -> Description:
    """Return what quantizes each layer of a net, in types that JSON has.

    Args:
        quantizers: names of classes of your own.

    Raises:
        ValueError: a quantizer whose class has no name here, or arguments that JSON has not; the message names the
            layer.
    """
    return {path: _described(path, module, quantizers) for path, module in _quantizing(net).items()}


def set_quantizers(net: nn.Module, description: Mapping[str, Any], quantizers: Quantizers = _NONE) -> None:
    """Give the layers of a net the quantizers that `describe_quantizers` has found, where they have others; in place.

    Raises:
        ValueError: the net has other layers that quantize, or the description is none.
    """
    modules = _quantizing(net)
    if list(modules) != list(description):
        other = sorted(set(modules) ^ set(description))
        raise ValueError(f"the net quantizes in other layers than the description says: {', '.join(other[:4])}")
    for path, module in modules.items():
        _set(path, module, description[path], quantizers)


def _quantizing(net: nn.Module) -> dict[str, nn.Module]:
    """Return the modules with quantizers, by path; activations of layers are parts of these."""
    parts = {id(module.activation) for module in net.modules() if isinstance(module, LowBit)}
    return {
        path: module
        for path, module in net.named_modules()
        if id(module) not in parts and not isinstance(module, Quantization) and _names(module)
    }


def _names(module: nn.Module) -> list[str]:
    """Return the attributes that quantizers of a module are in."""
    found = [name for name, child in module._modules.items() if isinstance(child, Quantization)]
    if isinstance(module, LowBit):
        found = [name for name in found if name != "activation"]
        if isinstance(module.activation, QActivation | Quantization):
            found.append("input_quantization")
    return sorted(found)


def _described(path: str, module: nn.Module, quantizers: Quantizers) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: spelled(getattr(module, name), f"{name} of {path}", quantizers) for name in _names(module)
    }
    numbers = {name: getattr(module, name) for name in _numbers(module)}
    return {**found, **numbers}


def _numbers(module: nn.Module) -> list[str]:
    if isinstance(module, LowBit) and not isinstance(module.activation, QActivation):
        return [name for name in _NUMBERS[1:] if isinstance(module, _Convolution)]
    kinds = {_NUMBERS[0]: LowBit | QActivation, _NUMBERS[1]: _Convolution}
    return [name for name, kind in kinds.items() if isinstance(module, kind)]


def _set(path: str, module: nn.Module, wanted: Mapping[str, Any], quantizers: Quantizers) -> None:
    for name, value in wanted.items():
        if name not in _NUMBERS and not hasattr(module, name):
            raise ValueError(f"{path} is a {type(module).__name__}, which has no {name}")
        # One after the other: an input quantizer brings a pad_value.
        if _described(path, module, quantizers).get(name) != value:
            new = value if name in _NUMBERS else named(value, f"{name} of {path}", None, quantizers)
            setattr(module, name, new)
