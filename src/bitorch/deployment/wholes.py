"""Modules that mean one thing as a whole: low-bit layers and quantizers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..layers import QActivation, QConv1d, QConv2d, QConv3d, QLinear
from ..layers.low_bit import LowBit
from ..quantizations import GradientDoReFa, Quantization, WeightDoReFa
from .builder import PARTIAL, Reader
from .problems import Refusal
from .windows import check_features

_DIMENSIONS: dict[type[nn.Module], int] = {QConv1d: 1, QConv2d: 2}


def is_whole(module: nn.Module) -> bool:
    """Say whether a module is one call on the tape; anything else is recorded by the functions that it calls.

    Quantizers without a grid are not: what they compute is floating-point arithmetic like any other.
    """
    if isinstance(module, QActivation):
        module = module.activation_function
    if isinstance(module, Quantization):
        return module.max_code is not None or isinstance(module, GradientDoReFa)
    return isinstance(module, LowBit)


def check(module: nn.Module) -> None:
    """Refuse modules that have no counterpart, whatever they are called with."""
    if isinstance(module, LowBit):
        _check_low_bit(module)
        _check_pointwise(module.input_quantization)
    else:
        _check_pointwise(_quantizer(module))


def rule(call: Reader, input: Tensor, *rest: Any, **options: Any) -> str:
    """The rule of calls of modules that `check` has let through."""
    module = call.call.function
    x = call.read(input)
    if isinstance(module, LowBit):
        if isinstance(module, QLinear):
            check_features(call, x, "a low-bit linear layer")
        elif len(call.shape(x)) != _DIMENSIONS[type(module)] + 1:
            raise Refusal(
                f"{type(module).__name__} gets {['batch', *call.shape(x)]}", "Give images with a batch dimension"
            )
        return call.add("low_bit", x, layer=module)
    if isinstance(module, GradientDoReFa):
        return call.add("identity", x)
    return call.add("quantizer", x, quantizer=_quantizer(module))


def _quantizer(module: Any) -> Quantization:
    quantizer = module.activation_function if isinstance(module, QActivation) else module
    assert isinstance(quantizer, Quantization)
    return quantizer


def _check_low_bit(layer: LowBit) -> None:
    kind = type(layer)
    if kind is QConv3d:
        raise Refusal("the runtime has no convolution in three dimensions", f"Use QConv2d, {PARTIAL}")
    if kind not in (QLinear, *_DIMENSIONS):
        raise Refusal(
            f"{kind.__name__} is a subclass of a low-bit layer, and may compute something else",
            f"Use QConv1d, QConv2d or QLinear itself, {PARTIAL}",
        )
    if not layer.exact:
        raise Refusal(
            "a layer with exact=False computes on floats, whose sums depend on the machine",
            "Set layer.exact = True; the parameters stay",
        )
    for which, quantizer in (("weight", layer.weight_quantization), ("input", layer.input_quantization)):
        if quantizer.max_code is None:
            raise Refusal(
                f"its {which} quantizer {quantizer} has no fixed grid, so there are no codes to compute on",
                f"Use one that has (1 to 8 bits), or a float layer instead, {PARTIAL}",
            )


def _check_pointwise(quantizer: Quantization) -> None:
    if isinstance(quantizer, WeightDoReFa):
        raise Refusal(
            "WeightDoReFa scales by statistics of a whole tensor, so an image's codes would depend on its neighbours",
            "Use InputDoReFa or Sign for activations",
        )
